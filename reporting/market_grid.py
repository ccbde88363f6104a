"""How exactly the solver on a grid finds the equilibria that are known in closed form."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy.integrate import cumulative_trapezoid
from scipy.stats import norm

from market.games.convergence import Convergence, convergence
from market.games.crowding import CrowdingGame
from market.games.game import Game
from market.games.hjb import Solution, solve
from market.games.systemic import InterbankGame
from reporting.markdown import markdown_table
from reporting.page import new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

KAPPA, PHI, TERMINAL, HORIZON, ALPHA = 0.2, 0.1, 2.5, 5.0, 0.4
CROWD = CrowdingGame(*map(np.asarray, (ALPHA, KAPPA, PHI, TERMINAL, HORIZON)))
BANKS = InterbankGame(reversion=1.0, incentive=1.0, aversion=10.0, terminal=0.0, horizon=1.0)
CENTRE, SPREAD = 0.3, 0.3
LAYER = 0.9
"""Share of the horizon after which rates of trading are not compared: the last penalty squeezes all inventories into
the width of a cell there."""


@dataclass(frozen=True)
class Study:
    """A game whose equilibrium is known, and the meshes on which it is solved.

    Attributes
    ----------
    errors
        Solution -> name of a quantity and its largest error.
    meshes
        (cells, steps) from coarse to fine.
    """

    name: str
    game: Game
    errors: Callable[[Solution], Mapping[str, float]]
    meshes: tuple[tuple[int, int], ...]


def crowding_game(sigma: float, inventory: float, low: float, high: float) -> Game:
    """Trade crowding in which each trader's inventory has noise of its own, which changes nothing for the crowd."""
    return Game(
        low=low,
        high=high,
        horizon=HORIZON,
        initial=lambda x: norm.pdf(x, inventory, 1.0),
        running=lambda t, x, crowd: PHI * x**2 - ALPHA * crowd.control * x,
        terminal=lambda t, x, crowd: TERMINAL * x**2,
        control_cost=KAPPA,
        sigma=sigma,
    )


def interbank_game() -> Game:
    """Systemic risk among very many; the control is that beyond q (M - X), which completes the square of its cost."""
    pull, cost = BANKS.reversion + BANKS.incentive, 0.5 * (BANKS.aversion - BANKS.incentive**2)
    return Game(
        low=-3.0,
        high=3.6,
        horizon=BANKS.horizon,
        initial=lambda x: norm.pdf(x, CENTRE, SPREAD),
        running=lambda t, x, crowd: cost * (crowd.mean - x) ** 2,
        sigma=1.0,
        drift=lambda t, x, crowd: pull * (crowd.mean - x),
    )


def _crowding_errors(inventory: float) -> Callable[[Solution], Mapping[str, float]]:
    def errors(solution: Solution) -> Mapping[str, float]:
        mesh = solution.mesh
        before = mesh.middles < LAYER * HORIZON
        rate = np.abs(solution.crowd.control[:, 0] - CROWD.rate(inventory, mesh.middles))
        return {
            "mean inventory": float(np.abs(solution.mean - CROWD.inventory(inventory, mesh.times)).max()),
            "mean rate": float(rate[before].max()),
        }

    return errors


def _interbank_errors(solution: Solution) -> Mapping[str, float]:
    mesh = solution.mesh
    near = np.abs(mesh.centres - CENTRE) < 1.0
    control = BANKS.eta(mesh.middles)[:, None] * (solution.crowd.mean - mesh.centres)
    fine = np.linspace(0.0, BANKS.horizon, 20_001)
    pulled = cumulative_trapezoid(BANKS.reversion + BANKS.feedback(fine), fine, initial=0.0)
    kept = np.exp(-2.0 * np.interp(mesh.times, fine, pulled))
    variance = ((mesh.centres - solution.mean[:, None]) ** 2 * solution.density).sum(axis=1) * mesh.width
    exact = BANKS.deviation_variance(mesh.times) + SPREAD**2 * kept
    return {
        "control": float(np.abs(solution.control - control)[:, near].max()),
        "variance": float(np.abs(variance - exact).max()),
    }


STUDIES = (
    Study("systemic risk, σ = 1", interbank_game(), _interbank_errors, ((50, 50), (100, 100), (200, 200), (400, 400))),
    Study(
        "trade crowding, σ = 2",
        crowding_game(2.0, 4.0, -14.0, 17.0),
        _crowding_errors(4.0),
        ((102, 204), (204, 408), (408, 816)),
    ),
    Study(
        "trade crowding, σ = 0",
        crowding_game(0.0, 10.0, -8.0, 16.0),
        _crowding_errors(10.0),
        ((48, 96), (96, 192), (192, 384), (384, 768)),
    ),
)


def measure_orders(finest: int = 4) -> dict[str, Convergence]:
    """Errors of each study, on no more than its first `finest` meshes."""
    found = {}
    for study in STUDIES:
        game, errors = study.game, study.errors
        found[study.name] = convergence(lambda n, m, g=game, e=errors: e(solve(g, n, m)), study.meshes[:finest])  # type: ignore[misc]
    return found


def order_table(found: Mapping[str, Convergence]) -> str:
    """Markdown table of errors and observed orders."""
    rows = []
    for name, study in found.items():
        for quantity, errors in study.errors.items():
            rows.append(
                {
                    "game": name,
                    "quantity": quantity,
                    "cells": ", ".join(map(str, study.meshes[:, 0].tolist())),
                    "largest_error": ", ".join(f"{error:.1e}" for error in errors),
                    "order": ", ".join(f"{order:.2f}" for order in study.orders[quantity]),
                }
            )
    return markdown_table(pd.DataFrame(rows))


def order_figure(found: Mapping[str, Convergence]) -> Figure:
    """Errors against cells, and a crowd on its way."""
    figure, (errors, crowd) = new_figure(1, 2, height=3.2, width_ratios=[3, 2])
    for name, study in found.items():
        for (quantity, values), style in zip(study.errors.items(), ("-", "--"), strict=True):
            label = f"{name}: {quantity}"
            errors.loglog(study.meshes[:, 0], values, style, marker="o", markersize=3, label=label)
    errors.set_xlim(40, 6000)
    errors.set_xticks([50, 100, 200, 400], ["50", "100", "200", "400"])
    errors.minorticks_off()
    errors.set_xlabel("cells")
    errors.set_ylabel("largest error")
    errors.legend(fontsize=7.5, loc="lower right", frameon=False)
    solution = solve(STUDIES[1].game, *STUDIES[1].meshes[1])
    mesh = solution.mesh
    crowd.pcolormesh(mesh.times, mesh.centres, solution.density.T, cmap="Blues", shading="nearest", rasterized=True)
    crowd.plot(mesh.times, CROWD.inventory(4.0, mesh.times), color="#c7566f", label="mean, closed form")
    crowd.grid(False)
    crowd.set_ylim(-6.0, 9.0)
    crowd.set_xlabel("time")
    crowd.set_ylabel("inventory")
    crowd.legend(frameon=False, loc="upper right")
    return figure
