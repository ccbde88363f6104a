"""Limits in plain words, to hold the optimiser's books against."""

import numpy as np
import pytest

from portfolio.construction import TOLERANCE


@pytest.fixture(scope="session")
def excesses():
    """`excesses(weights, prospects, rule)`: rows of limits that weights pass."""
    return _excesses


def _excesses(w, book, rule, tolerance=TOLERANCE):
    """Limits that weights pass, row by row in plain words: (kind, member) -> (value, bound)."""
    limits, out = rule.limits, {}

    def at_most(kind, member, value, bound, scale=1.0):
        if bound is not None and value > bound + tolerance * max(scale, 1.0):
            out[kind, member] = (value, bound)

    at_most("gross", "gross", np.abs(w).sum(), limits.gross)
    at_most("net", "net", w.sum(), limits.net_high)
    if limits.net_low is not None:
        at_most("net", "low", -w.sum(), -limits.net_low)
    at_most("turnover", "turnover", np.abs(w - book.held).sum(), limits.turnover)
    if limits.effective_names is not None:
        at_most("concentration", "concentration", np.sqrt((w**2).sum()), limits.effective_names**-0.5)
    for kind, codes in (("sector", book.sector), ("industry", book.industry)):
        for code in set(codes) - {-1} if codes is not None else ():
            at_most(kind, str(code), abs(sum(w[i] for i in range(len(w)) if codes[i] == code)), getattr(limits, kind))
    for name, bound in limits.factors.items():
        at_most("factor", name, abs(book.factors[name] @ w), bound, np.abs(book.factors[name]).max())
    correlation = book.covariance.correlation()
    for i, name in enumerate(book.symbols):
        at_most("position", name, abs(w[i]), limits.position)
        at_most("participation", name, abs(w[i] - book.held[i]) * rule.capital / book.adv[i], limits.participation)
        if limits.correlation is not None:
            alike = [j for j in range(len(w)) if abs(correlation[i, j]) >= limits.correlation - 1e-12]
            if len(alike) > 1:
                together = abs(sum(np.sign(correlation[i, j]) * w[j] for j in alike))
                at_most("correlation", name, together, limits.correlated_weight)
    return out
