"""Value at risk by a distribution: normal, Student's t, and the normal bent by skewness and kurtosis.

Mean and standard deviation of the sample place the tail of a distribution of mean 0 and variance 1.

References
----------
McNeil, A. J., Frey, R. and Embrechts, P. (2015). Quantitative Risk Management, revised edition, sections 2.3 and 6.2.
Cornish, E. A. and Fisher, R. A. (1938). Moments and cumulants in the specification of distributions. Revue de
l'Institut International de Statistique 5(4).
Boudt, K., Peterson, B. and Croux, C. (2008). Estimation and decomposition of downside risk for portfolios with
non-normal returns. Journal of Risk 11(2).
Maillard, D. (2012). A user's guide to the Cornish Fisher expansion. SSRN 1997178.
"""

from __future__ import annotations

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import gammaln
from scipy.stats import kurtosis, norm, skew, t

from core.errors import ConvergenceError, DataError
from portfolio.value_at_risk.base import Array, TailRisk, risk_model, spread_of

_HEAVIEST, _LIGHTEST = 2.1, 200.0
"""Degrees of freedom that the fit may choose: a variance exists, and the t is all but normal."""
_LET_OFF = 1e-4
"""Share of the tail in which the Cornish-Fisher expansion may turn."""


@risk_model("normal")
def normal(returns: Array, level: float) -> TailRisk:
    """Normal returns with the sample's mean and standard deviation."""
    return _placed(returns, normal_tail(level))


@risk_model("student_t", minimum=60)
def student_t(returns: Array, level: float) -> TailRisk:
    """Student's t with the sample's mean and standard deviation, degrees of freedom by maximum likelihood."""
    return _placed(returns, student_tail(level, degrees_of_freedom(returns)))


@risk_model("cornish_fisher", minimum=60)
def cornish_fisher(returns: Array, level: float) -> TailRisk:
    """Normal quantiles corrected for the sample's skewness and excess kurtosis."""
    spread_of(returns, "returns")
    return _placed(returns, cornish_fisher_tail(level, float(skew(returns)), float(kurtosis(returns))))


def normal_tail(level: float) -> TailRisk:
    """VaR and ES of a standard normal: z and phi(z) / (1 - p).

    References
    ----------
    McNeil, Frey and Embrechts (2015), example 2.14.
    """
    z = float(norm.ppf(level))
    return TailRisk(z, float(norm.pdf(z)) / (1.0 - level))


def student_tail(level: float, freedom: float) -> TailRisk:
    """VaR and ES of a Student's t scaled to variance 1.

    Raises
    ------
    DataError
        The degrees of freedom are not above 2: there is no variance.

    References
    ----------
    McNeil, Frey and Embrechts (2015), example 2.15.
    """
    if not freedom > 2:
        raise DataError(f"value at risk: {freedom} degrees of freedom: need more than 2 for a variance")
    q, scale = float(t.ppf(level, freedom)), np.sqrt((freedom - 2.0) / freedom)
    shortfall = float(t.pdf(q, freedom)) / (1.0 - level) * (freedom + q * q) / (freedom - 1.0)
    return TailRisk(scale * q, scale * shortfall)


def cornish_fisher_tail(level: float, skewness: float, excess: float) -> TailRisk:
    """VaR and ES by the Cornish-Fisher expansion of mean 0 and variance 1.

    With z the normal quantile at 1 - p, S the skewness and K the excess kurtosis:

        VaR = -[z + (z^2 - 1) S / 6 + (z^3 - 3z) K / 24 - (2z^3 - 5z) S^2 / 36]
        ES  = phi(z) / (1 - p) [1 + z S / 6 + (z^2 - 1) K / 24 - (2z^2 - 1) S^2 / 36]

    the ES being the mean of the expansion over the tail.

    Raises
    ------
    DataError
        The expansion is not rising through the tail, and so is no quantile function there. The outermost 1 / 10,000 of
        the tail is let off: there every expansion with less kurtosis than its skewness asks for turns.

    References
    ----------
    Boudt, Peterson and Croux (2008), on the tail's mean; Maillard (2012), on where the expansion is valid.
    """
    z = float(norm.ppf(1.0 - level))
    slope = np.array([excess / 8 - skewness**2 / 6, skewness / 3, 1 - excess / 8 + 5 * skewness**2 / 36])
    edge = float(norm.ppf((1.0 - level) * _LET_OFF))
    turn = np.clip(-slope[1] / (2 * slope[0]), edge, z) if slope[0] > 0 else z
    if np.polyval(slope, [edge, turn, z]).min() <= 0:
        raise DataError(
            f"value at risk: skewness {skewness:.3g} and excess kurtosis {excess:.3g} lie outside the domain of the "
            f"Cornish-Fisher expansion at {level}: use the model 'student_t' or 'historical'"
        )
    s2 = skewness**2
    quantile = z + (z * z - 1) * skewness / 6 + (z**3 - 3 * z) * excess / 24 - (2 * z**3 - 5 * z) * s2 / 36
    bend = 1 + z * skewness / 6 + (z * z - 1) * excess / 24 - (2 * z * z - 1) * s2 / 36
    return TailRisk(-quantile, float(norm.pdf(z)) / (1.0 - level) * bend)


def degrees_of_freedom(returns: Array) -> float:
    """Maximum-likelihood degrees of freedom of a t with the sample's mean and variance, between 2.1 and 200.

    References
    ----------
    Christoffersen, P. F. (2012). Elements of Financial Risk Management, 2nd edition, chapter 6 (the t distribution
    standardised to variance 1 and its quasi-maximum-likelihood fit).
    """
    squares = ((returns - returns.mean()) / spread_of(returns, "returns")) ** 2

    def deviance(inverse: float) -> float:
        # Written out: SciPy's own density takes many times as long.
        freedom = 1.0 / inverse
        peak = gammaln((freedom + 1.0) / 2.0) - gammaln(freedom / 2.0) - 0.5 * np.log(np.pi * (freedom - 2.0))
        return float((freedom + 1.0) / 2.0 * np.log1p(squares / (freedom - 2.0)).sum() - len(squares) * peak)

    found = minimize_scalar(deviance, bounds=(1 / _LIGHTEST, 1 / _HEAVIEST), method="bounded", options={"xatol": 1e-8})
    if not found.success:
        raise ConvergenceError(f"value at risk: degrees of freedom were not found ({found.message}): use 'historical'")
    return float(1.0 / found.x)


def _placed(returns: Array, unit: TailRisk) -> TailRisk:
    mean, spread = float(returns.mean()), float(returns.std(ddof=1))
    return TailRisk(spread * unit.var - mean, spread * unit.es - mean)
