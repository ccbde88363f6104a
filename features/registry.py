"""How a feature is declared, and how a family's features are found.

A family is one module of this package that makes a `Family`, gives it a typed `Params` model,
and decorates functions of a panel:

>>> market = Family("market", MarketParams)                              # doctest: +SKIP
>>> @market.feature("ret_{window}", over="windows", lookback=lambda window: window + 1,
...                 inputs=("close",), units="fraction", sign=+1, reference="...")
... def momentum(panel: Panel, window: int) -> Array: ...

One function may declare many features: `over` names the field of `Params` (a list) whose items
are passed as the argument of the name's placeholder. An item may be a model of its own: the name, and
the inputs, then say which of its fields stands in them (`"alt_{series.name}_level"`). Where the
parameters say which series is meant, `inputs` is a function of them, and the names it gives are
passed after the panel. A function with an argument `params` is handed the family's parameters.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

from core.errors import ConfigError, LeakageError
from core.registry import Registry
from features.companies import joined, separated
from features.panel import EVENT_TABLES, Array, Panel

FAMILIES: Registry[Family] = Registry("feature family", "features.families")


@dataclass(frozen=True)
class Feature:
    """One column of the design matrix.

    Attributes
    ----------
    name, family
        The name is unique over all families.
    lookback
        Sessions, the last one included, that the value of a day depends on.
    inputs
        Panel fields, event tables and series that it reads. `filings.gross_profit` is the table `filings`, of which
        this column is needed and a source may lack it.
    units
        Unit of the value.
    sign
        Expected sign of its relation to the future return in the literature; 0 where there is none.
    reference
        Paper or definition.
    compute
        `Panel -> (T, N)`; the value of row t uses rows `(t - lookback, t]` only.
    """

    name: str
    family: str
    lookback: int
    inputs: tuple[str, ...]
    units: str
    sign: int
    reference: str
    doc: str
    compute: Callable[[Panel], Array]

    def __call__(self, panel: Panel) -> NDArray[np.float32]:
        """Values as stored: float32, NaN where undefined (infinities are undefined); each company for itself."""
        apart = separated(panel)
        values = self.compute(apart)
        if values.shape != apart.shape:
            raise LeakageError(f"feature {self.name!r} returned shape {values.shape}, expected {apart.shape}")
        values = joined(panel, values)
        # A copy, for values may be shared; one NaN for all, whose bits do not tell which operation gave it.
        out = values.astype(np.float32)
        out[~np.isfinite(out)] = np.nan
        return out

    @property
    def reads(self) -> frozenset[str]:
        """The inputs, a column of an event table standing for its table."""
        return frozenset(_table_of(name) or name for name in self.inputs)

    def missing(self, panel: Panel) -> tuple[str, ...]:
        """Inputs that the panel lacks: names of `reads`, or a column in which no value is known, as `table.column`."""
        known = {*panel.fields, *panel.events, *panel.series}
        lacking = set(self.reads - known)
        for name in self.inputs:
            events = panel.events.get(_table_of(name) or "")
            if events is not None and not _has_values(events.values.get(name.partition(".")[2])):
                lacking.add(name)
        return tuple(sorted(lacking))

    def available(self, panel: Panel) -> bool:
        """Whether the panel holds every input."""
        return not self.missing(panel)


def _table_of(name: str) -> str | None:
    """The event table that an input is a column of; None where it is none."""
    table, dot, _ = name.partition(".")
    return table if dot and table in EVENT_TABLES else None


def _has_values(column: NDArray | None) -> bool:
    if column is None:
        return False
    return bool(np.isfinite(column).any()) if column.dtype.kind == "f" else len(column) > 0


# Any: each family has a model of its own.
Inputs = tuple[str, ...] | Callable[[Any], tuple[str, ...]]


@dataclass(frozen=True)
class _Declaration:
    template: str
    over: str | None
    lookback: int | Callable[..., int]
    inputs: Inputs
    units: str
    sign: int
    reference: str
    function: Callable[..., Array]

    @property
    def placeholder(self) -> str | None:
        found = re.search(r"{(\w+)(?:\.\w+)?}", self.template)
        return found.group(1) if found else None


class Family:
    """A named group of features with its own parameters.

    Parameters
    ----------
    name
        Key of the family in `params.yaml: features`.
    params
        Pydantic model of the family's parameters, with defaults, extra keys forbidden.
    """

    def __init__(self, name: str, params: type[BaseModel]) -> None:
        self.name = name
        self.params = params
        self._declarations: list[_Declaration] = []
        FAMILIES.register(name)(self)

    def feature(
        self,
        name: str,
        *,
        lookback: int | Callable[..., int],
        inputs: Inputs,
        units: str,
        reference: str,
        sign: int = 0,
        over: str | None = None,
    ) -> Callable[[Callable[..., Array]], Callable[..., Array]]:
        """Declare the decorated function as a feature (or, with `over`, as one feature an item)."""

        def declare(function: Callable[..., Array]) -> Callable[..., Array]:
            declaration = _Declaration(name, over, lookback, inputs, units, sign, reference, function)
            if (over is None) != (declaration.placeholder is None):
                raise ConfigError(f"feature {name!r}: `over` and a placeholder in the name go together")
            self._declarations.append(declaration)
            return function

        return declare

    def build(self, params: BaseModel | Mapping[str, Any] | None = None) -> tuple[Feature, ...]:
        """The family's features under the given parameters (its defaults when None)."""
        if not isinstance(params, BaseModel):
            params = self.params.model_validate(dict(params or {}))
        features: list[Feature] = []
        for declared in self._declarations:
            if declared.over is None or declared.placeholder is None:
                features.append(self._one(declared, params, {}))
            else:
                for item in getattr(params, declared.over):
                    features.append(self._one(declared, params, {declared.placeholder: item}))
        return tuple(features)

    def _one(self, declared: _Declaration, params: BaseModel, arguments: dict[str, Any]) -> Feature:
        function = declared.function
        lookback = declared.lookback
        names = declared.inputs(params) if callable(declared.inputs) else ()
        given = {"params": params} if "params" in inspect.signature(function).parameters else {}
        return Feature(
            name=declared.template.format(**arguments),
            family=self.name,
            lookback=lookback(**arguments) if callable(lookback) else lookback,
            inputs=names if callable(declared.inputs) else tuple(name.format(**arguments) for name in declared.inputs),
            units=declared.units,
            sign=declared.sign,
            reference=declared.reference,
            doc=(function.__doc__ or "").strip().split("\n")[0],
            compute=lambda panel: function(panel, *names, **given, **arguments),
        )


def build_features(families: Mapping[str, Mapping[str, Any] | BaseModel | None]) -> tuple[Feature, ...]:
    """Features of the given families, in the order of family name, then declaration.

    Parameters
    ----------
    families
        Parameters by family name.

    Raises
    ------
    ConfigError
        A family is unknown, or two features share a name.
    """
    built = tuple(item for name in sorted(families) for item in FAMILIES[name].build(families[name]))
    names = [item.name for item in built]
    repeated = {name for name in names if names.count(name) > 1}
    if repeated:
        raise ConfigError(f"features declared twice: {', '.join(sorted(repeated))}: rename one of each pair")
    return built
