"""Measurements in Prometheus' text format, for a collector of text files.

References
----------
Prometheus authors. Exposition formats, text-based format, version 0.0.4.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from core.errors import ConfigError
from monitoring.monitor import Monitor
from monitoring.rules import WORDS

PREFIX = "signals_monitor"

_NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
_LABEL = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")


@dataclass(frozen=True)
class Sample:
    """One value of a metric; one that is None or NaN is left out."""

    value: float | None
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Gauge:
    """A metric that may go up and down."""

    name: str
    help: str
    samples: Sequence[Sample]


def render(gauges: Sequence[Gauge]) -> str:
    """The text of a `.prom` file; a metric without a value is left out whole.

    Raises
    ------
    ConfigError
        A name is not allowed, or a series is given twice.
    """
    lines: list[str] = []
    seen: set[str] = set()
    for gauge in gauges:
        if not _NAME.fullmatch(gauge.name):
            raise ConfigError(f"metric name {gauge.name!r}: use letters, digits, _ and : only")
        told = [sample for sample in gauge.samples if sample.value is not None and not math.isnan(sample.value)]
        if not told:
            continue
        lines += [f"# HELP {gauge.name} {_escape(gauge.help)}", f"# TYPE {gauge.name} gauge"]
        for sample in told:
            series = gauge.name + _labels(sample.labels)
            if series in seen:
                raise ConfigError(f"metric series {series} is given twice: tell the two apart by a label")
            seen.add(series)
            lines.append(f"{series} {_number(float(sample.value or 0.0))}")
    return "".join(f"{line}\n" for line in lines)


def exposition(result: Monitor) -> str:
    """A monitor's verdict, rules and measurements as a `.prom` file."""
    verdict, findings = result.judgement.verdict, result.judgement.findings
    moment = float(result.as_of.astype("datetime64[s]").astype(np.int64))
    gauges = [
        Gauge(f"{PREFIX}_verdict", "1 at the verdict that stands.", [
            Sample(float(word == verdict), {"verdict": word}) for word in WORDS
        ]),
        Gauge(f"{PREFIX}_verdict_level", "0 fine, 1 watch, 2 retrain, 3 freeze.", [Sample(WORDS.index(verdict))]),
        Gauge(f"{PREFIX}_rule_fired", "1 where a rule does not hold; absent where not measured.", [
            Sample(None if one.measured is None else float(one.fired), {"rule": one.rule, "verdict": one.verdict})
            for one in findings
        ]),
        Gauge(f"{PREFIX}_rules_unmeasured", "Rules that could not be told.", [
            Sample(len(result.judgement.unmeasured))
        ]),
        Gauge(f"{PREFIX}_version", "Version that served last.", [Sample(result.version)]),
        Gauge(f"{PREFIX}_session_timestamp_seconds", "Midnight UTC of the session judged at.", [Sample(moment)]),
        *_families(result.metrics),
    ]  # fmt: skip
    return render(gauges)


def _families(metrics: Mapping[str, Any]) -> Iterator[Gauge]:
    """A gauge a measurement, the layer, family or version as its label."""
    nested = {"skill": ("layer", metrics["skill"]), "drift_family": ("family", metrics["drift"]["families"])}
    beside = {name: line for name, line in metrics["shadow"].items() if isinstance(line, Mapping)}
    nested["shadow_version"] = ("version", {name.removeprefix("version_"): line for name, line in beside.items()})
    for group, (label, members) in nested.items():
        for name in sorted({name for line in members.values() for name in line}):
            samples = [Sample(float(line[name]), {label: member}) for member, line in sorted(members.items())]
            yield Gauge(f"{PREFIX}_{group}_{name}", f"{name} of each {label}.".replace("_", " "), samples)
    for group in ("calibration", "drift", "universe", "data", "shadow"):
        for name, value in sorted(metrics[group].items()):
            if not isinstance(value, Mapping):
                text = f"{group}: {name}.".replace("_", " ")
                yield Gauge(f"{PREFIX}_{group}_{name}", text, [Sample(float(value))])


def _labels(labels: Mapping[str, str]) -> str:
    for name in labels:
        if not _LABEL.fullmatch(name):
            raise ConfigError(f"metric label {name!r}: use letters, digits and _ only")
    inner = ",".join(f'{name}="{_escape(value, quoted=True)}"' for name, value in sorted(labels.items()))
    return f"{{{inner}}}" if inner else ""


def _escape(text: str, quoted: bool = False) -> str:
    text = text.replace("\\", "\\\\").replace("\n", "\\n")
    return text.replace('"', '\\"') if quoted else text


def _number(value: float) -> str:
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    return repr(value)
