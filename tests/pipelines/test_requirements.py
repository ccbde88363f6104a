"""Too little data is refused at `clean`, with what is needed and what is there; enough is not."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from core.errors import ConfigError, DataError
from core.params import merge
from features.panel import Panel
from features.universe import universe
from models.folds import tuning_folds, walk_forward
from pipelines.params import Settings, parse_settings
from pipelines.requirements import LEAST_DAYS, cross_section, require_enough
from sources.calendar import sessions

DAYS = sessions("2004-01-02", "2016-12-30")


@pytest.fixture
def make(repository: Path):
    """Settings of params.yaml with some changes."""
    values = yaml.safe_load((repository / "params.yaml").read_text())

    def make(changes: dict[str, Any] | None = None) -> Settings:
        changed = copy.deepcopy(values)
        merge(changed, changes or {})
        return parse_settings(changed)

    return make


def panel(settings: Settings, length: int, symbols: int = 40, late: int = 0, volume: float = 1e6) -> Panel:
    """Calm prices of some symbols over the last sessions of `DAYS`; all but three begin `late` sessions later."""
    close = np.full((length, symbols), 50.0)
    close[:late, 3:] = np.nan
    fields = dict.fromkeys(("open", "high", "low", "close"), close)
    fields["volume"] = np.full(close.shape, volume)
    names = np.array([f"S{number:02d}" for number in range(symbols)])
    held = universe(fields, settings.universe)
    return Panel(DAYS[-length:], names, fields, held, np.zeros(symbols, dtype=np.int64))


def test_enough_is_enough(make) -> None:
    for changes in ({}, {"layers": {"names": ["linear"]}}):
        settings = make(changes)
        require_enough(panel(settings, 2000), settings)
        require_enough(panel(settings, 2000, symbols=20), settings)


@pytest.mark.parametrize("missing", [1, 1000])
def test_sessions_are_those_that_the_folds_need(make, missing: int) -> None:
    settings = make()
    rule = settings.folds
    needed = rule.train_sessions + rule.test_sessions // 2 + rule.holdout_sessions
    require_enough(panel(settings, needed), settings)
    with pytest.raises(ConfigError, match=rf"{needed - missing} sessions are too few, {needed} are needed"):
        require_enough(panel(settings, needed - missing), settings)


@pytest.mark.parametrize(
    ("changes", "needed", "reason"),
    [
        ({}, 20, "the daily job"),
        ({"evaluation": {"min_names": 25}}, 25, "evaluation.min_names"),
        ({"portfolio": {"rank": {"min_names": 25}}}, 25, "portfolio.rank.min_names"),
        ({"layers": {"sequence": {"min_names": 25}}}, 25, "layers.sequence.min_names"),
        ({"layers": {"names": ["linear"], "sequence": {"min_names": 25}}}, 20, "the daily job"),
    ],
)
def test_symbols_are_what_the_most_demanding_setting_asks_for(make, changes, needed: int, reason: str) -> None:
    settings = make(changes)
    assert cross_section(settings) == (needed, reason)
    with pytest.raises(DataError, match=rf"at most {needed - 1} of {needed - 1} .*at least {needed} .*{reason}"):
        require_enough(panel(settings, 2000, symbols=needed - 1), settings)


def test_the_rule_of_the_universe_that_nothing_passes_is_named(make) -> None:
    settings = make()
    with pytest.raises(DataError, match=r"40 a close, 0 min_dollar_volume, 40 min_coverage.*no row has a volume"):
        require_enough(panel(settings, 2000, volume=np.nan), settings)
    with pytest.raises(DataError, match=r"40 a close, 0 min_dollar_volume, 40 min_coverage.*loosen that rule"):
        require_enough(panel(settings, 2000, volume=10.0), settings)


@pytest.mark.parametrize("late", [600, 1200])
def test_a_cross_section_that_begins_late_names_the_day_to_begin_with(make, late: int) -> None:
    settings = make()
    length = 2000 + late
    known = panel(settings, length, late=late)
    with pytest.raises(DataError, match=r"data\.start to '") as caught:
        require_enough(known, settings)
    begin = np.datetime64(str(caught.value).split("data.start to '")[1][:10])
    rest = known.window(int(np.searchsorted(known.dates, begin)), length)
    require_enough(
        Panel(rest.dates, rest.symbols, rest.fields, universe(rest.fields, settings.universe), rest.sector), settings
    )


def test_one_that_leaves_too_few_sessions_says_so(make) -> None:
    settings = make()
    with pytest.raises(ConfigError, match=r"1\d\d\d sessions are too few, 1890 are needed"):
        require_enough(panel(settings, 2000, late=1000), settings)


@pytest.mark.parametrize("train", [200, 400, 630, 900])
def test_what_passes_has_days_to_fit_the_first_model_on(make, train: int) -> None:
    settings = make({"folds": {"train_sessions": train, "test_sessions": 189, "valid_sessions": 20}})
    known = panel(settings, 1258)
    walk_forward(known.dates, settings.folds, 5)
    first, last = tuning_folds(known.dates, settings.folds, 5)[0].train
    days = int((known.universe[first : last + 1].sum(axis=1) >= 20).sum())
    if days >= LEAST_DAYS:
        require_enough(known, settings)
    else:
        with pytest.raises(ConfigError, match=r"raise folds\.train_sessions"):
            require_enough(known, settings)
