"""How fast a numerical error falls as its mesh is refined: the observed order."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from core.errors import ConfigError

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Convergence:
    """Errors on ever finer meshes.

    Attributes
    ----------
    meshes
        `(L, 2)` cells and steps.
    errors
        Name of a quantity -> `(L,)` its errors.
    """

    meshes: NDArray[np.int64]
    errors: dict[str, Array]

    @property
    def orders(self) -> dict[str, Array]:
        """Name -> `(L - 1,)` observed orders between neighbours: log of the ratio of errors over that of cells.

        NaN or infinite where an error is 0.
        """
        finer = np.log(self.meshes[1:, 0] / self.meshes[:-1, 0])
        with np.errstate(divide="ignore", invalid="ignore"):
            return {name: np.log(error[:-1] / error[1:]) / finer for name, error in self.errors.items()}


def convergence(measure: Callable[[int, int], Mapping[str, float]], meshes: Sequence[tuple[int, int]]) -> Convergence:
    """Measure errors mesh by mesh.

    Parameters
    ----------
    measure
        (cells, steps) -> name of a quantity and its error there. To see the order in space and time at once, refine
        both alike; to see that of one, keep the other so fine that it does not matter.
    meshes
        (cells, steps) from coarse to fine in cells.

    Raises
    ------
    ConfigError
        There are fewer than two meshes, or cells do not increase.
    """
    table = np.array(meshes, dtype=np.int64).reshape(-1, 2)
    if len(table) < 2 or not (np.diff(table[:, 0]) > 0).all():
        raise ConfigError(f"convergence: meshes {list(meshes)}: give at least two, each with more cells than the last")
    found = [dict(measure(cells, steps)) for cells, steps in table.tolist()]
    return Convergence(table, {name: np.array([errors[name] for errors in found]) for name in found[0]})
