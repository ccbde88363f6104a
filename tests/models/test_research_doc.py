"""The page for researchers works as it is written."""

import importlib.util
import re
import sys

import pytest

from models.folds import FoldRule, walk_forward
from models.layers.base import LAYERS
from models.training import train_layer


@pytest.fixture
def blocks(repository):
    """Code of the page by the name in the comment before it."""
    text = (repository / "docs" / "research.md").read_text()
    return dict(re.findall(r"<!-- (\w+) -->\n```python\n(.*?)```", text, flags=re.DOTALL))


@pytest.fixture
def elastic(blocks, tmp_path):
    """The page's layer, as a file that registers itself, until the test is over."""
    assert "linear" in LAYERS
    path = tmp_path / "elastic.py"
    path.write_text(blocks["layer"])
    spec = importlib.util.spec_from_file_location("elastic", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield LAYERS["elastic"]
    del LAYERS._entries["elastic"]


def test_the_layer_trains_like_any_other(elastic, make_dataset, tmp_path):
    data = make_dataset(ic=0.15)
    folds = walk_forward(data.dates, FoldRule(train_sessions=100, test_sessions=40, holdout_sessions=40), 2)
    result = train_layer("elastic", {"alpha": 0.001}, data, folds, seed=1)
    again = train_layer("elastic", {"alpha": 0.001}, data, folds, seed=1)
    assert result.oof.tobytes() == again.oof.tobytes()
    assert max(result.importance, key=result.importance.__getitem__) == "x0"
    result.model.save(tmp_path)
    day = data.between(100, 100)
    scores = result.model.predict(data)
    assert elastic.load(tmp_path).predict(day).tobytes() == scores[data.rows(100, 100)].tobytes()


def test_the_layer_follows_the_protocol(elastic):
    told = set(LAYERS["linear"].__dict__) - {"_products"}
    missing = [name for name in told if not name.startswith("_") and not hasattr(elastic, name)]
    assert not missing


def test_the_prototype_is_the_projects_own_api(blocks):
    code = blocks["prototype"]
    for module, names in re.findall(r"from (\S+) import (.+)", code):
        loaded = importlib.import_module(module)
        for name in names.split(", "):
            assert hasattr(loaded, name), (module, name)
    compile(code, "research.md", "exec")
    assert "pipelines.samples" in sys.modules
