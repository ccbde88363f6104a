"""The games of the market model in numbers and pictures, each at one set of parameters."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from market.games import branching
from market.games.crowding import CrowdingGame
from market.games.entry_exit import STATES, Equilibrium, solve, stationary
from market.games.execution import Program, frontier, trajectory, urgency
from market.games.systemic import InterbankGame, event_probability, simulate
from reporting.markdown import markdown_table
from reporting.page import new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

GREY = "#8a8f98"

# The example of Almgren and Chriss (2000).
PROGRAM = Program(1e6, 5.0, 5, volatility=0.95, permanent=2.5e-7, temporary=2.5e-6, fixed=0.0625)
AVERSIONS = (0.0, 1e-7, 1e-6, 1e-5)
ALPHAS = (0.0, 0.5, 1.0, 2.0)
INVENTORY = 0.5
BANKS = InterbankGame(reversion=1.0, incentive=1.0, aversion=10.0, terminal=0.0, horizon=1.0, count=10)
LEVEL, PATHS, STEPS, SEED = -0.7, 20_000, 100, 1
CORRELATIONS = (0.1, 0.3, 0.5, 0.7)
FALL, MONTH, VOLATILITY, MEMBERS = -0.10, 21.0, 0.018, 500
B, C, START = (0.0, -0.3, -0.1, 0.1), (0.5, 1.0, 0.8, 0.4), (0.4, 0.1, 0.2, 0.3)
HORIZON, TOLD = 10.0, (0.0, 1.0, 5.0, 10.0)
BIRTHS, DEATHS, COUNT, TIMES = 0.3, 0.2, 5, (1.0, 4.0, 10.0, 20.0)


def crowding_game(alpha: float) -> CrowdingGame:
    """Unwinding within two weeks; inventories in days of volume, prices in daily standard deviations."""
    return CrowdingGame(*map(np.asarray, (alpha, 3.0, 0.15, 10.0, 10.0)))


def entry_exit() -> Equilibrium:
    """Traders whom following the trend pays best, and of whom few follow it yet."""
    return solve(B, C, START, HORIZON, tolerance=1e-9)


def game_tables() -> dict[str, str]:
    """Markdown tables by name."""
    return {
        "execution": _execution_table(),
        "crowding": _crowding_table(),
        "interbank": _interbank_table(),
        "systemic": _systemic_table(),
        "entry-exit": _entry_exit_table(),
        "branching": _branching_table(),
    }


def game_figures() -> dict[str, Figure]:
    """Figures by name."""
    return {
        "execution": _execution_figure(),
        "crowding": _crowding_figure(),
        "systemic-risk": _systemic_figure(),
        "entry-exit": _entry_exit_figure(),
        "branching": _branching_figure(),
    }


def _execution_table() -> str:
    best = frontier(PROGRAM, AVERSIONS)
    frame = pd.DataFrame(
        {
            "risk_aversion": best.risk_aversion,
            "k": [urgency(PROGRAM, level) for level in AVERSIONS],
            "left_after_a_day": [trajectory(PROGRAM, level)[1] / PROGRAM.shares for level in AVERSIONS],
            "expected_cost": best.cost,
            "standard_deviation": np.sqrt(best.variance),
        }
    )
    formats = {"risk_aversion": "g", "k": ".4f", "left_after_a_day": ".1%"}
    return markdown_table(frame, {**formats, "expected_cost": ",.0f", "standard_deviation": ",.0f"})


def _execution_figure() -> Figure:
    figure, (paths, costs) = new_figure(1, 2, height=2.8)
    days = np.linspace(0.0, PROGRAM.horizon, PROGRAM.periods + 1)
    for level in AVERSIONS:
        paths.plot(days, trajectory(PROGRAM, level) / 1e6, marker="o", markersize=3, label=f"λ = {level:g}")
    paths.set_xlabel("days")
    paths.set_ylabel("million shares held")
    paths.legend(frameon=False)
    curve = frontier(PROGRAM, np.append(0.0, np.geomspace(1e-8, 1e-4, 60)))
    costs.plot(np.sqrt(curve.variance) / 1e6, curve.cost / 1e6, color=GREY)
    marks = frontier(PROGRAM, AVERSIONS)
    for deviation, cost in zip(np.sqrt(marks.variance) / 1e6, marks.cost / 1e6, strict=True):
        costs.plot(deviation, cost, marker="o", linestyle="none")
    costs.set_xlabel("standard deviation of the cost, millions")
    costs.set_ylabel("expected cost, millions")
    return figure


def _crowding_table() -> str:
    rows = []
    for alpha in ALPHAS:
        game = crowding_game(alpha)
        rows.append(
            {
                "alpha": alpha,
                "half-life": float(game.half_life),
                "cost": float(game.cost(INVENTORY)),
                "drift": float(game.drift(INVENTORY)),
                "times_the_cost_without_impact": float(game.multiplier()),
                "fragility": float(game.fragility()),
            }
        )
    formats = {"alpha": ".1f", "half-life": ".4f", "cost": ".6f", "drift": "z.6f"}
    return markdown_table(pd.DataFrame(rows), {**formats, "times_the_cost_without_impact": ".3f", "fragility": ".3f"})


def _crowding_figure() -> Figure:
    figure, (crowd, flat) = new_figure(1, 2, height=2.8)
    time = np.linspace(0.0, 10.0, 201)
    for alpha in ALPHAS:
        game = crowding_game(alpha)
        crowd.plot(time, game.inventory(INVENTORY, time), label=f"α = {alpha:g}")
        flat.plot(time, game.trader(0.0, INVENTORY, time))
    crowd.set_title("the crowd", loc="left")
    crowd.set_ylabel("inventory, days of volume")
    crowd.legend(frameon=False)
    flat.set_title("a trader who begins with nothing", loc="left")
    for axes in (crowd, flat):
        axes.set_xlabel("sessions")
    return figure


def _interbank_table() -> str:
    rows = []
    for play in (True, False):
        seen = simulate(BANKS, LEVEL, 1.0, 0.0, paths=PATHS, steps=STEPS, seed=SEED, play=play)
        rows.append(
            {
                "": "game" if play else "nobody acts",
                "variance": float(BANKS.deviation_variance(BANKS.horizon, game=play)),
                "variance,_simulated": seen.deviation.var(),
                "one_member_falls": seen.members.mean(),
                "eight_or_more_of_ten_fall": (seen.members.sum(axis=1) >= 8).mean(),
                "the_mean_falls": seen.mean.mean(),
                "the_mean_falls,_closed_form": float(event_probability(LEVEL, BANKS.horizon, 1.0, 0.0, BANKS.count)),
            }
        )
    formats = {name: ".4f" if "mean" in name or "var" in name else ".3f" for name in rows[0]}
    return markdown_table(pd.DataFrame(rows), formats)


def _systemic_table() -> str:
    shares = np.array(CORRELATIONS)
    frame = pd.DataFrame(
        {
            "correlation": shares,
            "10_members": event_probability(LEVEL, 1.0, 1.0, shares, 10),
            "index_of_500_stocks": event_probability(FALL, MONTH, VOLATILITY, shares, MEMBERS),
        }
    )
    return markdown_table(frame, {"correlation": ".1f", "10_members": ".4f", "index_of_500_stocks": ".5f"})


def _systemic_figure() -> Figure:
    figure, (members, event) = new_figure(1, 2, height=2.8)
    edges = np.arange(BANKS.count + 2) - 0.5
    for play, name in ((False, "nobody acts"), (True, "game")):
        seen = simulate(BANKS, LEVEL, 1.0, 0.0, paths=PATHS, steps=STEPS, seed=SEED, play=play)
        share = np.histogram(seen.members.sum(axis=1), edges)[0] / PATHS
        members.plot(edges[:-1] + 0.5, share, marker="o", markersize=3, label=name)
    members.set_xlabel("members of 10 that fall to the level")
    members.set_ylabel("probability")
    members.legend(frameon=False)
    shares = np.linspace(0.0, 0.9, 91)
    event.plot(shares, event_probability(FALL, MONTH, VOLATILITY, shares, MEMBERS))
    event.set_xlabel("average correlation ρ²")
    event.set_ylabel("P(market falls by 10 % in a month)")
    return figure


def _entry_exit_table() -> str:
    game = entry_exit()
    rows = [{"time": f"{time:g}", **dict(zip(STATES, game.theta_at(time), strict=True))} for time in TOLD]
    rows.append({"time": "long run", **dict(zip(STATES, stationary(B, C)[0], strict=True))})
    table = markdown_table(pd.DataFrame(rows), dict.fromkeys(STATES, ".6f"))
    return f"{table}\n\nInvariant {game.invariant:.9f}; over the solution it drifts by {game.drift:.0e} of its size."


def _entry_exit_figure() -> Figure:
    figure, (shares, costs) = new_figure(1, 2, height=2.8)
    game = entry_exit()
    for place, name in enumerate(STATES):
        shares.plot(game.times, game.theta[:, place], label=name)
        costs.plot(game.times, game.u[:, place] - game.u.min(axis=1))
    shares.set_ylabel("share of the traders")
    shares.legend(frameon=False, loc="center right")
    costs.set_ylabel("cost to go over that of the best")
    for axes in (shares, costs):
        axes.set_xlabel("weeks")
    return figure


def _branching_table() -> str:
    time = np.array(TIMES)
    frame = pd.DataFrame(
        {
            "time": time,
            "mean": branching.mean(BIRTHS, DEATHS, COUNT, time),
            "standard_deviation": np.sqrt(branching.variance(BIRTHS, DEATHS, COUNT, time)),
            "died_out": branching.extinction(BIRTHS, DEATHS, COUNT, time),
        }
    )
    return markdown_table(frame, {"time": ".0f", "mean": ".4f", "standard_deviation": ".4f", "died_out": ".6f"})


def _branching_figure() -> Figure:
    figure, (size, died) = new_figure(1, 2, height=2.6)
    time = np.linspace(0.0, 20.0, 201)
    for births in (0.15, 0.2, 0.3):
        mean = branching.mean(births, DEATHS, COUNT, time)
        spread = np.sqrt(branching.variance(births, DEATHS, COUNT, time))
        line = size.plot(time, mean, label=f"births {births:g}")[0]
        size.fill_between(time, np.maximum(mean - spread, 0.0), mean + spread, color=line.get_color(), alpha=0.12)
        died.plot(time, branching.extinction(births, DEATHS, COUNT, time))
    size.set_ylabel("members")
    size.legend(frameon=False, loc="upper left")
    died.set_ylabel("probability that none is left")
    for axes in (size, died):
        axes.set_xlabel("time")
    return figure
