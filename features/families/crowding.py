"""What other traders hold and must undo: games of many traders, played on each session's prices and volume.

Of a symbol: the inventory that a crowd has piled up is the fading sum of the volume bought less the volume sold. What
its unwinding would cost, and where it would push the price, is told by the game of trade crowding. Inventories are in
days of average volume (ADV-days), prices in daily standard deviations.

Of the market, one value for every symbol of a session: the chance that all fall together, and where the traders who
hold, follow and oppose the trend are about to move, by the game of entry and exit.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Annotated

import numpy as np
from pydantic import Field

from core.params import Params
from features import kernels as k
from features.memo import remembered
from features.panel import Array, Panel
from features.registry import Family
from features.returns import universe_risk
from features.sleeves import LOOKBACK as SLEEVE
from features.sleeves import payoffs, sharpe
from features.volume import imbalance, standard_return
from features.windows import MONTH, QUARTER, WEEK, YEAR, least
from market.games.crowding import CrowdingGame
from market.games.entry_exit import STATES, Equilibrium, solve_many
from market.games.systemic import event_probability

IMPACT = 120
"""Sessions of the regression of returns on imbalances."""
MAX_IMPACT = 5.0
"""Daily standard deviations per ADV-day: an estimate above it is an error."""
MEMORY = QUARTER
"""Sessions of which inventory is summed."""
CELLS = 500_000
"""Games that are played at a time: what bounds the memory."""
COSTS = (0.5, 1.0, 0.8, 0.4)
"""Cost of crowding of each state, if all traders were in it, in weekly Sharpe ratios; in the order of STATES."""
WEEKS = 2.0
"""Horizon of the game of entry and exit."""
MESH = 32
"""Steps of its solution, the same every session: a mesh chosen anew could jump where prices differ by rounding."""
PAYOFF_LIMIT, EVIDENCE_LIMIT = 1.0, 3.0
"""Weekly and yearly Sharpe ratio at which a pay-off and its evidence end."""

_IMPACT_LOOKBACK = QUARTER + IMPACT
_POPULATION_LOOKBACK = SLEEVE + YEAR - 1


class CrowdingParams(Params):
    """Preferences of the crowd, and the fall that counts as systemic."""

    forgetting: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """Share of an inventory that is gone a session later."""
    impact: Annotated[float, Field(gt=0)] = 1.0
    """Y of the square-root law: daily standard deviations that a whole day's volume moves the price."""
    aversion: Annotated[float, Field(ge=0)] = 0.15
    """phi: cost of a squared ADV-day of inventory a session, in daily standard deviations."""
    terminal: Annotated[float, Field(ge=0)] = 10.0
    """A: cost of a squared ADV-day that is left at the horizon."""
    horizon: Annotated[float, Field(gt=0)] = 10.0
    """Sessions in which the crowd unwinds."""
    fall: Annotated[float, Field(lt=0)] = -0.1
    """Log-return of the market within a month that is a systemic event."""
    switching: Annotated[float, Field(gt=0)] = 1.0
    """Cost of changing the way to trade at the rate of once a week, twice over."""


crowding = Family("crowding", CrowdingParams)


# --- the crowd of a symbol -----------------------------------------------------------------------------------


@remembered
def _inventory(panel: Panel, forgetting: float) -> Array:
    """E0 in ADV-days."""
    weights = [(1.0 - forgetting) ** age for age in range(MEMORY)]
    return k.rolling_weighted_sum(imbalance(panel), weights, least(MEMORY))


@remembered
def _impact(panel: Panel) -> Array:
    """alpha: slope of standardised returns on imbalances, drawn to the universe's mean as far as it is uncertain.

    The weight of a symbol's own slope is the variance of true slopes over that of its estimate (Vasicek 1973).
    """
    x, y = imbalance(panel), standard_return(panel)
    slope = k.rolling_beta(x, y, IMPACT, least(IMPACT))
    squares = k.rolling_std(x, IMPACT, least(IMPACT)) ** 2 * (k.rolling_count(x, IMPACT) - 1.0)
    error = k.rolling_residual_std(x, y, IMPACT, least(IMPACT)) ** 2 / np.where(squares > 0, squares, np.nan)
    mean = k.row_mean(slope, panel.universe)[:, None]
    spread = k.row_mean((slope - mean) ** 2, panel.universe) - k.row_mean(error, panel.universe)
    true = np.maximum(spread, 0.0)[:, None]
    whole = true + error
    trust = np.where(whole > 0, true / np.where(whole > 0, whole, 1.0), np.where(np.isnan(whole), np.nan, 1.0))
    return np.clip(mean + trust * (slope - mean), 0.0, MAX_IMPACT)


@remembered
def _participation(panel: Panel) -> Array:
    """Share of a day's usual volume by which trading leans one way, NaN where there is none."""
    share = k.rolling_mean(np.abs(imbalance(panel)), IMPACT, least(IMPACT))
    return np.where(share > 0, share, np.nan)


def _played(panel: Panel, params: CrowdingParams, outcome: Callable[[CrowdingGame, Array], Array]) -> Array:
    """The outcome of every symbol's game of every session, of the game and E0."""
    alpha, participation = _impact(panel), _participation(panel)
    inventory = _inventory(panel, params.forgetting)
    # Trading a share x of the volume moves the price by Y sqrt(x) (square-root law): kappa x = Y sqrt(x).
    kappa = params.impact / np.sqrt(participation)
    out = np.empty(panel.shape)
    rows = max(1, CELLS // max(1, panel.shape[1]))
    for low in range(0, len(out), rows):
        part = slice(low, low + rows)
        terms = (np.asarray(params.aversion), np.asarray(params.terminal), np.asarray(params.horizon))
        out[part] = outcome(CrowdingGame(alpha[part], kappa[part], *terms), inventory[part])
    return out


GAME = "Cardaliaguet, Lehalle (2018), Mean field game of controls and an application to trade crowding"


@crowding.feature("crowded_inventory", lookback=QUARTER + MEMORY, inputs=("close", "volume"), units="ADV-days", sign=-1,
                  reference="Easley, Lopez de Prado, O'Hara (2012), Flow toxicity and liquidity in a high-frequency "
                            "world (bulk volume); Chordia, Roll, Subrahmanyam (2002), Order imbalance, liquidity, and "
                            "market returns")  # fmt: skip
def crowded_inventory(panel: Panel, params: CrowdingParams) -> Array:
    """Fading sum of the quarter's volume bought less volume sold, over average volume: what a crowd holds, or lacks."""
    return _inventory(panel, params.forgetting)


@crowding.feature("crowd_cost", lookback=_IMPACT_LOOKBACK, inputs=("close", "volume"), units="standard deviations",
                  sign=0, reference=GAME)  # fmt: skip
def crowd_cost(panel: Panel, params: CrowdingParams) -> Array:
    """What unwinding together would cost the crowd per unit of inventory, C / |E0|."""
    return _played(panel, params, lambda game, inventory: game.cost(1.0) * np.abs(inventory))


@crowding.feature("crowd_drift", lookback=_IMPACT_LOOKBACK, inputs=("close", "volume"), units="standard deviations",
                  sign=+1, reference=GAME)  # fmt: skip
def crowd_drift(panel: Panel, params: CrowdingParams) -> Array:
    """Where the crowd's unwinding would push the price, alpha (E_T - E0)."""
    return _played(panel, params, lambda game, inventory: game.drift(inventory))


@crowding.feature("crowd_half_life", lookback=_IMPACT_LOOKBACK, inputs=("close", "volume"), units="sessions", sign=0,
                  reference=GAME)  # fmt: skip
def crowd_half_life(panel: Panel, params: CrowdingParams) -> Array:
    """Sessions until a crowd would hold half: the shorter, the more everyone fears the others' sales."""
    return _played(panel, params, lambda game, _: game.half_life)


@crowding.feature("crowd_cost_multiplier", lookback=_IMPACT_LOOKBACK, inputs=("close", "volume"), units="1", sign=0,
                  reference=GAME)  # fmt: skip
def crowd_cost_multiplier(panel: Panel, params: CrowdingParams) -> Array:
    """How many times dearer the others' impact makes it to unwind, C(alpha) / C(0)."""
    return _played(panel, params, lambda game, _: game.multiplier())


@crowding.feature("crowd_fragility", lookback=_IMPACT_LOOKBACK, inputs=("close", "volume"), units="1", sign=0,
                  reference=GAME)  # fmt: skip
def crowd_fragility(panel: Panel, params: CrowdingParams) -> Array:
    """How many times dearer unwinding gets when fear and inventory double, C(stress) / C(now)."""
    return _played(panel, params, lambda game, _: game.fragility())


# --- the market as a whole -----------------------------------------------------------------------------------


def _everywhere(panel: Panel, values: Array) -> Array:
    """`(T,)` as `(T, N)`."""
    return np.repeat(values.reshape(-1, 1), panel.shape[1], axis=1)


@crowding.feature("systemic_event_probability", lookback=QUARTER + 1, inputs=("close",), units="0..1", sign=0,
                  reference="Carmona, Fouque, Sun (2015), Mean field games and systemic risk")  # fmt: skip
def systemic_event_probability(panel: Panel, params: CrowdingParams) -> Array:
    """Chance that the market falls by a tenth within a month, told by the symbols' risk and average correlation."""
    count, risk, correlation = universe_risk(panel, QUARTER)
    shared = np.clip(correlation, 0.0, 1.0)
    return _everywhere(panel, event_probability(params.fall, float(MONTH), risk, shared, np.maximum(count, 2.0)))


@remembered
def _population(panel: Panel, switching: float) -> Equilibrium:
    """The game of entry and exit of each wanted session, in weeks from its close.

    Sharpe ratios of the quarter are what each way to trade is expected to pay; how many are there already is the logit
    of those of the year. Who has left earns nothing, and risks nothing.
    """
    earned = payoffs(panel)
    paid = math.sqrt(WEEK) * sharpe(earned, QUARTER, least(QUARTER))
    evidence = math.sqrt(YEAR) * sharpe(earned, YEAR, least(YEAR))
    odds = np.exp(_with_exited(np.clip(evidence, -EVIDENCE_LIMIT, EVIDENCE_LIMIT)))
    costs = -_with_exited(np.clip(paid, -PAYOFF_LIMIT, PAYOFF_LIMIT))
    shares = odds / odds.sum(axis=1, keepdims=True)
    wanted = slice(panel.wanted, None)
    return solve_many(
        costs[wanted], COSTS, shares[wanted], WEEKS, switching=switching, steps=MESH, halvings=0, tolerance=1e-3
    )


def _with_exited(sleeves: Array) -> Array:
    """The columns of the sleeves, and one of zeros for those who have left."""
    return np.column_stack([sleeves, np.where(np.isnan(sleeves[:, 0]), np.nan, 0.0)])


def _told(panel: Panel, params: CrowdingParams, outcome: Callable[[Equilibrium], Array]) -> Array:
    """`(T, N)` of one number a game."""
    values = np.full(len(panel.dates), np.nan)
    values[panel.wanted :] = outcome(_population(panel, params.switching))
    return _everywhere(panel, values)


POPULATION = (
    "Gomes, Mohr, Souza (2013), Continuous time finite state mean field games; Brock, Hommes (1998), Heterogeneous "
    "beliefs and routes to chaos (shares as a logit of past pay-offs)"
)


@crowding.feature("theta_momentum", lookback=_POPULATION_LOOKBACK, inputs=("close",), units="0..1", sign=0,
                  reference=POPULATION)  # fmt: skip
def theta_momentum(panel: Panel, params: CrowdingParams) -> Array:
    """Share of the traders that will follow the trend in a week."""
    return _told(panel, params, lambda game: game.theta_at(1.0)[:, STATES.index("momentum")])


@crowding.feature("theta_contrarian", lookback=_POPULATION_LOOKBACK, inputs=("close",), units="0..1", sign=0,
                  reference=POPULATION)  # fmt: skip
def theta_contrarian(panel: Panel, params: CrowdingParams) -> Array:
    """Share of the traders that will buy the week's losers in a week."""
    return _told(panel, params, lambda game: game.theta_at(1.0)[:, STATES.index("contrarian")])


@crowding.feature("exit_flow", lookback=_POPULATION_LOOKBACK, inputs=("close",), units="share a week", sign=0,
                  reference=POPULATION)  # fmt: skip
def exit_flow(panel: Panel, params: CrowdingParams) -> Array:
    """Net share of the traders that leaves the market, at today's rate."""
    return _told(panel, params, lambda game: game.flows[:, 0, STATES.index("exited")])


@crowding.feature("switching_regret", lookback=_POPULATION_LOOKBACK, inputs=("close",), units="weekly Sharpe ratio",
                  sign=0, reference=POPULATION)  # fmt: skip
def switching_regret(panel: Panel, params: CrowdingParams) -> Array:
    """What those who trade the worst way would give to trade the best way: the tension that moves traders."""
    return _told(panel, params, lambda game: game.regret[:, 0])
