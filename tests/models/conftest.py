import importlib.util
from pathlib import Path

import pytest


def _synthetic():
    path = Path(__file__).with_name("synthetic.py")
    spec = importlib.util.spec_from_file_location("models_synthetic", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def make_dataset():
    """Function that makes a small dataset with a known truth."""
    return _synthetic().make_dataset
