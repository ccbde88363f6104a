"""A gate and an alarm with the same bounds say the same of the same measurement."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.bounds import measured
from core.errors import ConfigError
from core.params import lookup, parse
from governance.describe import _figure
from governance.gates import Evidence, GateRule, GovernanceRule, Verdict, evaluate_gates
from monitoring.rules import AlarmRule, Finding, judge

PATH = "test.stack.rank_ic"
SIDES = st.one_of(st.none(), st.integers(-2, 2).map(float))
VALUES = st.one_of(
    st.integers(-3, 3),
    st.floats(allow_nan=True, allow_infinity=True),
    st.sampled_from([None, True, "0.5", {"x": 1}, np.float32(1.5), np.int64(2), math.inf, -math.inf]),
)


def both(value: object, **bounds: float | None) -> tuple[Verdict, Finding]:
    """The verdict of a gate and the finding of an alarm."""
    metrics = {"test": {"stack": {"rank_ic": value}}}
    rule = {"name": "rule", "metric": PATH, "reason": "one of a kind", **bounds}
    policy = parse(GovernanceRule, {"gates": [rule]}, "governance")
    (verdict,) = evaluate_gates(policy, Evidence(metrics, {}, {}, "", pd.DataFrame()))
    (finding,) = judge([AlarmRule(**rule, verdict="watch")], metrics).findings
    return verdict, finding


@given(VALUES, SIDES, SIDES)
def test_gates_and_alarms_agree(value: object, low: float | None, high: float | None) -> None:
    if (low is None and high is None) or (low is not None and high is not None and low > high):
        return
    verdict, finding = both(value, min=low, max=high)
    assert verdict.measured == finding.measured
    assert verdict.bound == finding.bound
    if verdict.measured is None:
        assert (verdict.passed, finding.fired) == (False, False)
        assert verdict.detail.startswith("not measured")
        assert "not measured" in finding.sentence
        assert _figure({"test": {"stack": {"rank_ic": value}}}, PATH) == "not measured"
    else:
        assert verdict.passed is not finding.fired
        inside = (low is None or low <= value) and (high is None or value <= high)  # type: ignore[operator]
        assert verdict.passed == (inside and math.isfinite(value))  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [math.inf, -math.inf])
@pytest.mark.parametrize("bounds", [{"min": -1.0}, {"max": 1.0}, {"min": -1.0, "max": 1.0}])
def test_what_is_infinite_is_within_no_bounds(value: float, bounds: dict[str, float]) -> None:
    verdict, finding = both(value, **bounds)
    assert not verdict.passed
    assert finding.fired


@pytest.mark.parametrize("value", [math.nan, None, "1", True, [1]])
def test_what_is_no_number_is_not_measured(value: object) -> None:
    assert measured({"a": {"b": value}}, "a.b") is None


@pytest.mark.parametrize("path", ["a.c", "a.b.c", "x", "a"])
def test_what_is_not_there_is_not_measured(path: str) -> None:
    assert measured({"a": {"b": 1.0}}, path) is None
    assert lookup({"a": {"b": None}}, "a.b.c") is None


@pytest.mark.parametrize("bounds", [{"min": math.nan}, {"max": math.inf}, {"min": 2.0, "max": 1.0}, {}])
@pytest.mark.parametrize(("model", "more"), [(GateRule, {}), (AlarmRule, {"verdict": "watch"})])
def test_impossible_bounds_are_refused(model: type, more: dict[str, str], bounds: dict[str, float]) -> None:
    with pytest.raises(ConfigError):
        parse(model, {"name": "rule", "metric": PATH, "reason": "one of a kind", **more, **bounds}, "rule")
