"""The feature catalogue as a page: what each feature is, how often it is known, what it says by itself.

The same blocks are put into an HTML page and into Markdown; numbers come from `models.screening`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from features.panel import Dates
from features.registry import Feature
from models.overfitting import effective_rank, expected_max_sharpe
from models.screening import (
    CORRELATION_EVERY,
    Screen,
    benjamini_hochberg_t,
    bonferroni_t,
    coverage_by_year,
    ic_by_year,
    nearest,
    summarise,
)
from reporting.page import PALETTE, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LEVEL = 0.05
"""Level of the tests that the thresholds belong to."""
NEAREST = 2
"""Other features named as the nearest ones."""
STRONGEST = 20
"""Features named in the plot of t-values."""
MOST_LABELS = 110
"""Features up to which the heat map writes their names."""

_Colour = Callable[[str], str]


class Report(Protocol):
    """What `Page` and `Markdown` have in common."""

    def banner(self, text: str) -> Any:
        """Add a line above everything else."""

    def section(self, heading: str, intro: str = "") -> Any:
        """Start a section."""

    def paragraph(self, text: str) -> Any:
        """Add a paragraph."""

    def bullets(self, items: Sequence[str]) -> Any:
        """Add a list."""

    def table(
        self, frame: pd.DataFrame, caption: str = "", *, formats: Mapping[str, str] | None = None, empty: str = ""
    ) -> Any:
        """Add a table."""

    def figure(self, figure: Figure, caption: str = "", form: Literal["svg", "png"] = "svg") -> Any:
        """Add a figure."""


@dataclass(frozen=True, eq=False)
class Catalogue:
    """What the page is made of.

    Attributes
    ----------
    features
        Those that were computed, in the order of the rows of `screen`.
    screen
        Their measurements.
    absent
        Features that this data cannot give, and the inputs that it lacks.
    running
        Names of the families that the run's models see.
    source
        The data in a few words.
    symbols
        Names that ever had a price.
    holdout
        Sessions of the holdout.
    """

    features: tuple[Feature, ...]
    screen: Screen
    absent: tuple[tuple[Feature, tuple[str, ...]], ...]
    running: frozenset[str]
    source: str
    symbols: int
    holdout: int


def catalogue_figures(catalogue: Catalogue) -> dict[str, Any]:
    """Everything that the page says in numbers, for a JSON file."""
    table = figures_of(catalogue)
    years = ic_by_year(catalogue.screen)
    rows = table.drop(columns=["nearest"]).to_dict("records")
    others = nearest(catalogue.screen.correlation, NEAREST)
    for row, by_year, near in zip(rows, years.to_numpy().tolist(), others, strict=True):
        row["ic_by_year"] = dict(zip(map(str, years.columns), by_year, strict=True))
        row["nearest"] = [{"feature": catalogue.features[at].name, "correlation": value} for at, value in near]
    dates, judged = catalogue.screen.dates, _judged(catalogue.screen)
    return {
        "source": catalogue.source,
        "symbols": catalogue.symbols,
        "sessions": [str(dates[0]), str(dates[-1])],
        "judged": [str(judged[0]), str(judged[-1])] if len(judged) else [],
        "holdout_sessions": catalogue.holdout,
        "horizon": catalogue.screen.horizon,
        "thresholds": thresholds(table["t"]),
        "features": rows,
        "absent": {feature.name: list(missing) for feature, missing in catalogue.absent},
    }


def _judged(found: Screen) -> Dates:
    """Sessions that have a part in the rank ICs."""
    return found.dates[found.judged & (found.names > 0)]


def thresholds(t: pd.Series) -> dict[str, float]:
    """How many features were judged, and the |t| that stands out of so many."""
    tests = int(t.notna().sum())
    return {
        "tests": tests,
        "bonferroni": bonferroni_t(tests, LEVEL),
        "benjamini_hochberg": benjamini_hochberg_t(t, LEVEL),
        # Two-sided: the largest |t| of m normals is about the largest of 2m of them.
        "largest_by_luck": expected_max_sharpe(2 * tests),
    }


def figures_of(catalogue: Catalogue) -> pd.DataFrame:
    """One row a feature: the summary of its screen, and words for what its t-value is worth."""
    table = summarise(catalogue.screen)
    table.insert(0, "feature", [feature.name for feature in catalogue.features])
    table.insert(1, "family", [feature.family for feature in catalogue.features])
    table.insert(2, "sign", [feature.sign for feature in catalogue.features])
    limits, size = thresholds(table["t"]), table["t"].abs()
    table["stands_out"] = np.select(
        [size.isna(), size >= limits["bonferroni"], size >= limits["benjamini_hochberg"]], ["", "yes", "FDR"], "no"
    )
    names = table["feature"].tolist()
    table["nearest"] = [
        ", ".join(f"{names[at]} ({correlation:+.2f})" for at, correlation in others)
        for others in nearest(catalogue.screen.correlation, NEAREST)
    ]
    return table


def fill_catalogue(page: Report, catalogue: Catalogue) -> None:
    """Put the catalogue into a page, block by block."""
    table = figures_of(catalogue)
    _basis(page, catalogue, table)
    _overview(page, catalogue, table)
    years = ic_by_year(catalogue.screen)
    for family in sorted(set(table["family"])):
        _family(page, catalogue, table, years, family)
    _market_wide(page, table)
    if catalogue.absent:
        page.section("Not computed", "This data lacks what these features are made of.")
        page.table(
            pd.DataFrame(
                [
                    {"feature": item.name, "family": item.family, "definition": item.doc, "missing": ", ".join(missing)}
                    for item, missing in catalogue.absent
                ]
            )
        )


def _basis(page: Report, catalogue: Catalogue, table: pd.DataFrame) -> None:
    found = catalogue.screen
    dates, judged, h = found.dates, _judged(found), found.horizon
    span = f"{judged[0]} to {judged[-1]}" if len(judged) else "none"
    if catalogue.holdout:
        holdout = (
            f"The holdout is left out: the last {catalogue.holdout:,} sessions, and the {h} before them whose outcomes "
            "reach into it, have no part in any rank IC, t-value or correlation with the market's return. To choose "
            "features by the holdout would spend it."
        )
    else:
        holdout = (
            "No holdout is set apart (folds.holdout_sessions is 0): what is chosen by these figures stays untested."
        )
    page.banner(
        "A description of the features one by one, not advice on which to keep: whoever keeps the best of them by "
        "these figures has tried them all on the same data."
    )
    page.section("What this rests on")
    page.bullets([
        f"Data: {catalogue.source}. {catalogue.symbols} symbols, {len(dates):,} sessions from {dates[0]} to "
        f"{dates[-1]}, {int(found.names.sum()):,} rows in the universe. What is wrong with the data, such as a list of "
        "survivors only, is in every figure.",
        f"Outcome: return from the close of D+1 to the close of D+1+{h}, net of market and sector.",
        f"Sessions judged: {span}. {holdout}",
        "Rank IC: mean over sessions of the Spearman correlation of the feature with the outcome across the universe. "
        f"Its t-value is Newey-West's, with lags over the overlap of {h} sessions or more. The sign is the "
        "feature's own: a negative rank IC is as good as a positive one.",
        "Coverage: share of the universe's rows with a value. Turnover: 1 minus the mean rank correlation of a session "
        "with the one before. Nearest: the others with the largest mean rank correlation, over every "
        f"{CORRELATION_EVERY}th session. These three use no outcome and take all sessions.",
    ])  # fmt: skip
    page.paragraph(_many_tests(catalogue, table))


def _many_tests(catalogue: Catalogue, table: pd.DataFrame) -> str:
    limits, size = thresholds(table["t"]), table["t"].abs()
    tests = int(limits["tests"])
    if not tests:
        return "No feature could be judged: too few sessions or names have an outcome before the holdout."
    fdr, bonferroni = limits["benjamini_hochberg"], limits["bonferroni"]
    ranked = ~table["market_wide"].to_numpy()
    independent = effective_rank(_filled(catalogue.screen.correlation[np.ix_(ranked, ranked)])) if ranked.any() else 0.0
    passed = f"|t| >= {fdr:.2f} ({(size >= fdr).sum()} do)" if np.isfinite(fdr) else "none does"
    return (
        f"No t-value here is corrected for multiple testing. {tests} features are judged (those that rank names say "
        f"about as much as {independent:.0f} independent ones): by luck alone {LEVEL * tests:.0f} of {tests} worthless "
        f"ones would pass |t| > 1.96, which {(size > 1.96).sum()} do, and if they were independent the largest |t| "
        f"would be about {limits['largest_by_luck']:.1f}. At {LEVEL:.0%} Bonferroni asks |t| >= {bonferroni:.2f} "
        f"({(size >= bonferroni).sum()} do: 'yes' under stands out); Benjamini and Hochberg, who allow that share of "
        f"false discoveries among those found: {passed}, 'FDR' under stands out where Bonferroni is not met. "
        "Neither knows of the features that were thought of and not written down, nor that most were published "
        "because they worked on much of this history."
    )


def _overview(page: Report, catalogue: Catalogue, table: pd.DataFrame) -> None:
    page.section("Overview")
    colour = _colours(table["family"])
    grouped = table.groupby("family")
    known = table[~table["market_wide"]].groupby("family")
    page.table(
        pd.DataFrame(
            {
                "in_the_run": [family in catalogue.running for family in grouped.groups],
                "features": grouped.size(),
                "coverage": grouped["coverage"].mean(),
                "turnover": known["turnover"].mean(),
                "median_|t|": table.assign(size=table["t"].abs()).groupby("family")["size"].median(),
                "stand_out": grouped["stands_out"].agg(lambda words: int((words == "yes").sum())),
            }
        ).reset_index(),
        "Families: means over their features.",
        formats={"coverage": ".0%", "turnover": ".3f", "median_|t|": ".1f"},
    )
    coverage = coverage_by_year(catalogue.screen).groupby(table["family"].to_numpy()).mean()
    if coverage.size:
        page.figure(_coverage_figure(coverage, colour), "Coverage by year: mean over the features of each family.")
    if table["t"].notna().any():
        caption = "t-values sorted: every feature, and the largest by size. Dashed: 1.96; solid: Bonferroni."
        page.figure(_t_figure(table, colour), caption, form="png")
    correlation = catalogue.screen.correlation
    usable = np.isfinite(correlation).sum(axis=1) > 1
    if usable.sum() > 2:
        page.figure(
            _heat_figure(correlation[np.ix_(usable, usable)], table[usable].reset_index(drop=True), colour),
            "Rank correlations of the features, clustered. Bars: family; white: never known together.",
            form="png",
        )


def _family(page: Report, catalogue: Catalogue, table: pd.DataFrame, years: pd.DataFrame, family: str) -> None:
    mine = (table["family"] == family).to_numpy()
    features = [feature for feature, chosen in zip(catalogue.features, mine, strict=True) if chosen]
    note = "" if family in catalogue.running else "Not in the run: left out of `features.families` in params.yaml."
    page.section(f"Family {family}", note)
    page.table(
        pd.DataFrame(
            {
                "feature": [feature.name for feature in features],
                "definition": [feature.doc for feature in features],
                "lookback": [feature.lookback for feature in features],
                "units": [feature.units for feature in features],
                "sign": [_sign(feature.sign) for feature in features],
                "inputs": [", ".join(feature.inputs) for feature in features],
                "reference": [feature.reference for feature in features],
            }
        ),
        "What they are. Lookback in sessions; sign: that of the relation to the future return in the literature.",
    )
    ranked = mine & ~table["market_wide"].to_numpy()
    shown = table[ranked][["feature", "coverage", "turnover", "sign", "ic", "t", "stands_out", "days", "nearest"]]
    if shown.empty:
        page.paragraph("All of them are market-wide: see below.")
        return
    page.table(
        shown.assign(sign=shown["sign"].map(_sign)).rename(columns={"ic": "rank_IC"}),
        "What they say.",
        formats={"coverage": ".1%", "turnover": ".3f", "rank_IC": "z.4f", "t": "z.1f"},
    )
    if len(years.columns):
        by_year = years[ranked].set_axis([str(year) for year in years.columns], axis=1)
        by_year.insert(0, "feature", shown["feature"])
        page.table(by_year, "Rank IC by year.", formats={str(year): "z.3f" for year in years.columns})


def _market_wide(page: Report, table: pd.DataFrame) -> None:
    wide = table[table["market_wide"]]
    if wide.empty:
        return
    page.section(
        "Market-wide features",
        "One value for all names of a session: nothing is ranked, so that there is no rank IC. A model can use them "
        "only to weigh other features differently. Shown instead is the Spearman correlation OVER TIME with the "
        "equal-weight return of the universe over the outcome's sessions, which no signal of this project trades. The "
        "t-value flatters series that move slowly (Stambaugh 1999).",
    )
    page.table(
        wide[["feature", "family", "coverage", "timing", "t", "stands_out", "days"]].rename(
            columns={"timing": "correlation_over_time"}
        ),
        formats={"coverage": ".1%", "correlation_over_time": "z.3f", "t": "z.1f"},
    )


def _sign(sign: int) -> str:
    return {1: "+", -1: "-"}.get(sign, "")


def _filled(correlation: NDArray[np.float64]) -> NDArray[np.float64]:
    out = np.nan_to_num(correlation, nan=0.0)
    out[np.diag_indices(len(out))] = 1.0
    return 0.5 * (out + out.T)


def _colours(families: pd.Series) -> _Colour:
    """Colour of each family, the same in every plot."""
    place = {name: k for k, name in enumerate(sorted(set(families)))}
    return lambda family: PALETTE[place[family] % len(PALETTE)]


def _coverage_figure(coverage: pd.DataFrame, colour: _Colour) -> Figure:
    figure, axes = new_figure(height=3.0)
    for family, shares in coverage.iterrows():
        axes.plot(coverage.columns, 100.0 * shares.to_numpy(), marker=".", label=family, color=colour(str(family)))
    axes.set_xticks(list(coverage.columns))
    axes.set_ylim(0, 103)
    axes.set_ylabel("coverage, %")
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


def _t_figure(table: pd.DataFrame, colour: _Colour) -> Figure:
    told = table[table["t"].notna()].sort_values("t", kind="stable")
    top = told.loc[told["t"].abs().sort_values(kind="stable").index[-STRONGEST:]]
    limit = thresholds(table["t"])["bonferroni"]
    figure, (left, right) = new_figure(1, 2, height=max(3.6, 0.9 + 0.19 * len(top)), width_ratios=(3, 2))
    left.bar(np.arange(len(told)), told["t"], width=0.9, color=[colour(name) for name in told["family"]])
    left.set_xlabel("features, sorted")
    left.set_ylabel("t-value")
    right.barh(np.arange(len(top)), top["t"], color=[colour(name) for name in top["family"]])
    right.set_yticks(np.arange(len(top)), top["feature"], fontsize=7)
    right.set_ylim(-0.6, len(top) - 0.4)
    right.set_xlabel("t-value")
    for draw in (left.axhline, right.axvline):
        for value, style in ((1.96, "--"), (limit, "-")):
            draw(value, color="#8a8f98", linestyle=style, linewidth=0.9)
            draw(-value, color="#8a8f98", linestyle=style, linewidth=0.9)
    for family in sorted(set(told["family"])):
        left.bar(0, 0, color=colour(family), label=family)
    left.legend(loc="upper left")
    return figure


def _heat_figure(correlation: NDArray[np.float64], table: pd.DataFrame, colour: _Colour) -> Figure:
    from matplotlib.colors import to_rgb
    from scipy.cluster.hierarchy import leaves_list, linkage
    from scipy.spatial.distance import squareform

    distance = 1.0 - np.abs(_filled(correlation))
    distance[np.diag_indices(len(distance))] = 0.0
    order = leaves_list(linkage(squareform(np.clip(distance, 0.0, 1.0), checks=False), "average"))
    size = len(order)
    side = float(np.clip(0.12 * size + 2.5, 5.0, 12.0))
    figure, (strip, axes) = new_figure(1, 2, width=side, height=0.9 * side, width_ratios=(1, 40), sharey=True)
    families = table["family"].to_numpy()[order]
    strip.imshow(np.array([to_rgb(colour(name)) for name in families])[:, None], aspect="auto", interpolation="nearest")
    strip.set_xticks([])
    strip.grid(visible=False)
    shown = axes.imshow(
        correlation[np.ix_(order, order)], vmin=-1, vmax=1, cmap="RdBu_r", aspect="auto", interpolation="nearest"
    )
    axes.grid(visible=False)
    axes.set_xticks([])
    axes.tick_params(left=False)
    if size <= MOST_LABELS:
        strip.set_yticks(np.arange(size), table["feature"].to_numpy()[order], fontsize=float(np.clip(500 / size, 5, 8)))
    else:
        strip.set_yticks([])
    for family in sorted(set(families)):
        axes.plot([], [], "s", color=colour(family), label=family)
    axes.set_xlim(-0.5, size - 0.5)
    axes.set_ylim(size - 0.5, -0.5)
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=len(set(families)))
    figure.colorbar(shown, ax=axes, shrink=0.5, label="rank correlation")
    return figure
