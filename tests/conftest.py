"""Fixtures of the whole suite."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

# No test signs with the key of whoever runs it, or speaks to a server of theirs.
for _name in ("SIGNALS_KEY", "MLFLOW_TRACKING_URI", "MLFLOW_BACKEND_STORE_URI", "MLFLOW_ARTIFACTS_DESTINATION"):
    os.environ.pop(_name, None)

REPOSITORY = Path(__file__).resolve().parent.parent


def _real_folder() -> Path:
    named = os.environ.get("SIGNALS_REAL_DATA")
    return Path(named) if named else REPOSITORY.parent / "shared" / "data" / "us_equities"


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of the real bundle; the test is skipped where it is absent."""
    folder = _real_folder()
    if not (folder / "prices.parquet").is_file():
        pytest.skip("real data not present: set SIGNALS_REAL_DATA to its folder")
    return folder


@pytest.fixture(scope="session")
def repository() -> Path:
    """Root of the checkout under test."""
    return REPOSITORY


def pytest_configure(config: pytest.Config) -> None:
    """A filter in pyproject.toml would import pandas before `-p core`, and so before the instruction set is fixed."""
    config.addinivalue_line("filterwarnings", "error::pandas.errors.Pandas4Warning")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files in the order in which several processes should take them (`--dist loadfile`): the longest first.

    The first file makes the project that most of `pipelines` share, and compiles every kernel on the way. The rooms
    that need neither go on beside it, then those that do; many short files come last, so that both processes end
    together.
    """
    first = min((item.path for item in items if "finished" in getattr(item, "fixturenames", ())), default=None)
    order = ("governance", "sources", "pipelines", "features")

    def place(path: Path) -> int:
        return next((number for number, room in enumerate(order) if room in path.parts), len(order))

    items.sort(key=lambda item: (item.path != first, place(item.path)))
