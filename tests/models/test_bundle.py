import json
import shutil
import sys
import types
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from core.errors import BundleError, DataError
from models import bundle as bundles
from models.bundle import Bundle, write_bundle
from models.folds import FoldRule, walk_forward
from models.inputs import zscores
from models.stack import StackRule, stack
from models.training import train_layer

HORIZON = 2
LAYERS = {"linear": {}, "boosting": {"n_estimators": 15, "num_leaves": 5, "min_data_in_leaf": 50, "num_threads": 1}}


@pytest.fixture(scope="module")
def made(make_dataset):
    """A trained stack: dataset, layers, meta-learner, and the parts of a bundle."""
    data = make_dataset(ic=0.15)
    rule = FoldRule(train_sessions=100, test_sessions=40, holdout_sessions=40, embargo=1, valid_sessions=0)
    folds = walk_forward(data.dates, rule, HORIZON)
    trained = {name: train_layer(name, params, data, folds, 1) for name, params in LAYERS.items()}
    scale = np.random.default_rng(0).uniform(0.02, 0.05, len(data)).astype(np.float32)
    oof = {name: layer.oof for name, layer in trained.items()}
    result = stack(oof, data, folds, StackRule(warmup_sessions=20), horizon=HORIZON, scale=scale)
    parts = {
        "layers": {name: layer.model for name, layer in trained.items()},
        "meta": result.meta,
        "declared": [{"name": name, "lookback": 5, "family": "made"} for name in data.features],
        "params": {"seed": 1, "layers": LAYERS},
        "dataset": data,
        "feeds": {"filings": {"longest": 3, "current": 0}},
    }
    return types.SimpleNamespace(data=data, scale=scale, parts=parts)


@pytest.fixture(scope="module")
def folder(made, tmp_path_factory):
    path = tmp_path_factory.mktemp("made") / "bundle"
    write_bundle(path, **made.parts)
    return path


def day_of(made, session):
    rows = made.data.rows(session, session)
    return made.data.take(rows), made.scale[rows]


def test_predicts_what_the_models_in_memory_predict(made, folder):
    bundle = Bundle.load(folder)
    day, scale = day_of(made, 239)
    frame = bundle.predict(day, scale)
    meta = made.parts["meta"]
    scores = {name: zscores(made.parts["layers"][name].predict(day), day.session) for name in meta.layers}
    weights = dict(zip(meta.layers, meta.weights, strict=True))
    expected = zscores(sum(weights[name] * score for name, score in scores.items()), day.session)
    assert frame["signal"].to_numpy().tobytes() == expected.tobytes()
    assert frame["signal_a"].to_numpy().tobytes() == scores["boosting"].tobytes()
    assert frame["expected_return"].tolist() == (expected * meta.slope).tolist()
    assert frame["p_wrong"].tolist() == meta.calibrator.p_wrong(expected * meta.slope, scale).tolist()
    assert (bundle.features, bundle.lookback) == (made.data.features, 1)
    assert bundle.params["seed"] == 1


def test_columns_ranks_and_reasons(made, folder):
    day, scale = day_of(made, 239)
    frame = Bundle.load(folder).predict(day, scale)
    assert list(frame) == [
        *("date", "symbol", "rank", "signal", "signal_a", "signal_linear"),
        *("expected_return", "interval_low", "interval_high", "p_wrong", "top_reasons"),
    ]
    assert frame.notna().all().all()
    ordered = frame.sort_values("rank")
    assert ordered["rank"].tolist() == list(range(1, len(frame) + 1))
    assert ordered["signal"].is_monotonic_decreasing
    assert frame["top_reasons"].str.contains("x0").mean() > 0.8
    best = ordered.iloc[0]["top_reasons"].split("; ")
    assert len(best) == 3
    assert dict(item.split(" ") for item in best)["x0"].startswith("+")


def test_reasons_add_up_to_the_signal(made, folder, monkeypatch):
    monkeypatch.setattr("models.bundle.TOP_REASONS", len(made.data.features))
    day, scale = day_of(made, 120)
    frame = Bundle.load(folder).predict(day, scale)
    sums = [sum(float(item.split(" ")[1]) for item in text.split("; ")) for text in frame["top_reasons"]]
    np.testing.assert_allclose(sums, frame["signal"], atol=0.04)


def test_a_day_alone_is_the_day_among_others(made, folder):
    bundle = Bundle.load(folder)
    rows = made.data.rows(150, 160)
    together = bundle.predict(made.data.take(rows), made.scale[rows])
    day, scale = day_of(made, 155)
    alone = bundle.predict(day, scale)
    among = together[together["date"] == made.data.dates[155]].reset_index(drop=True)
    pd.testing.assert_frame_equal(alone, among, check_exact=True)


def test_unknown_scale(made, folder):
    bundle = Bundle.load(folder)
    day, scale = day_of(made, 155)
    some = bundle.predict(day, np.where(np.arange(len(day)) == 0, np.nan, scale), reasons=False)
    none = bundle.predict(day, np.full(len(day), np.nan), reasons=False)
    assert some.notna().all().all()
    assert none.notna().all().all()
    assert "top_reasons" not in none


def test_same_parts_same_bytes(made, folder, tmp_path):
    again = tmp_path / "again"
    digest = write_bundle(again, **made.parts)
    reloaded = tmp_path / "reloaded"
    write_bundle(reloaded, **{**made.parts, "layers": Bundle.load(again).layers})
    files = sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    assert Path("layers/boosting/trees_2_0.txt") in files
    for other in (again, reloaded):
        assert sorted(path.relative_to(other) for path in other.rglob("*") if path.is_file()) == files
        for file in files:
            assert (other / file).read_bytes() == (folder / file).read_bytes(), file
    assert Bundle.load(again).digest == digest == Bundle.load(folder).digest


def alter(path):
    path.write_bytes(path.read_bytes().replace(b"0", b"1", 1))


def rewrite_format(path):
    manifest = json.loads(path.read_text())
    path.write_text(json.dumps({**manifest, "format": 99}))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: alter(folder / "layers/boosting/trees_2_0.txt"), r"trees_2_0\.txt was changed"),
        (lambda folder: alter(folder / "stack.json"), r"stack\.json was changed"),
        (lambda folder: (folder / "params.json").unlink(), r"params\.json is missing"),
        (lambda folder: (folder / "extra.txt").write_text("x"), r"extra\.txt was added"),
        (lambda folder: (folder / "manifest.json").unlink(), r"manifest\.json is missing"),
        (lambda folder: (folder / "manifest.json").write_text("{"), r"manifest\.json is missing or not JSON"),
        (lambda folder: alter(folder / "manifest.json"), r"manifest\.json was altered"),
        (lambda folder: rewrite_format(folder / "manifest.json"), "format 99 is not known here"),
        (shutil.rmtree, r"manifest\.json is missing"),
    ],
)
def test_damage_is_named(folder, tmp_path, damage, message):
    copy = tmp_path / "bundle"
    shutil.copytree(folder, copy)
    damage(copy)
    with pytest.raises(BundleError, match=message) as caught:
        Bundle.load(copy)
    assert "\n" not in str(caught.value)


def test_layers_that_nobody_waits_for_are_the_same(made, folder):
    day, scale = day_of(made, 239)
    whole, awaited = Bundle.load(folder), Bundle.load(folder, wait=False)
    assert (awaited.lookback, awaited.market_lookback) == (whole.lookback, whole.market_lookback)
    pd.testing.assert_frame_equal(awaited.predict(day, scale), whole.predict(day, scale), check_exact=True)
    assert (len(awaited.layers), list(awaited.layers)) == (2, ["boosting", "linear"])


def test_what_is_wrong_with_a_layer_is_told_when_it_is_asked_for(made, folder, monkeypatch):
    def broken(_):
        raise DataError("the weights are torn")

    monkeypatch.setattr("models.layers.linear.LinearLayer.load", broken)
    day, scale = day_of(made, 239)
    with pytest.raises(BundleError, match="the weights are torn"):
        Bundle.load(folder)
    late = Bundle.load(folder, wait=False)
    with pytest.raises(BundleError, match="the weights are torn"):
        late.predict(day, scale)


@pytest.mark.parametrize("wait", [True, False])
@pytest.mark.parametrize("name", ["layers/linear/linear.json", "layers/boosting/trees_2_0.txt", "stack.json"])
def test_a_file_swapped_after_the_check_is_not_read(made, folder, tmp_path, monkeypatch, wait, name):
    """The swap falls between check and load, the one moment at which the disk and what was checked can differ."""
    copy = tmp_path / "bundle"
    shutil.copytree(folder, copy)
    check, swapped = bundles._verify, []

    def check_then_swap(*arguments):
        check(*arguments)
        (copy / name).write_text((folder / "params.json").read_text())
        swapped.append(name)

    monkeypatch.setattr(bundles, "_verify", check_then_swap)
    day, scale = day_of(made, 239)
    found = Bundle.load(copy, wait=wait).predict(day, scale)
    assert swapped == [name]
    monkeypatch.undo()
    pd.testing.assert_frame_equal(found, Bundle.load(folder).predict(day, scale), check_exact=True)
    with pytest.raises(BundleError, match="was changed"):
        Bundle.load(copy)


def test_missing_feature(made, folder):
    day, scale = day_of(made, 155)
    with pytest.raises(DataError, match="lacks feature 'x5'"):
        Bundle.load(folder).predict(day.with_columns(day.features[:5]), scale)


def test_parts_that_do_not_belong_together(made, tmp_path):
    with pytest.raises(BundleError, match="are not the stack's"):
        write_bundle(tmp_path / "b", **{**made.parts, "layers": {}})
    with pytest.raises(BundleError, match="declared features"):
        write_bundle(tmp_path / "b", **{**made.parts, "declared": []})
    assert not (tmp_path / "b").exists()


def load_served(repository, folder, code):
    """The packed model, loaded from its own file as MLflow would."""
    path = repository / "models" / "served_model.py"
    namespace = {"__name__": "served_model", "__file__": str(path)}
    exec(compile(path.read_text(), str(path), "exec"), namespace)
    model = namespace["ServedStack"]()
    model.load_context(types.SimpleNamespace(artifacts={"bundle": str(folder), "code": str(code)}))
    return model


@pytest.fixture(scope="module")
def code(repository, tmp_path_factory):
    """The project's code as it is packed with a version."""
    path = tmp_path_factory.mktemp("packed") / "code"
    for package in ("core", "market", "models"):
        shutil.copytree(repository / package, path / package, ignore=shutil.ignore_patterns("__pycache__"))
    return path


@pytest.fixture(scope="module")
def served(folder, repository, code):
    return load_served(repository, folder, code)


DEEP = {
    "sequence": {
        "channels": ["x*"], "network": "dlinear", "lookback": 4, "epochs": 1, "seeds": 1, "every": 2, "num_threads": 1
    },
    "behaviour": {"features": ["x*"], "states": {"states": [], "regimes": {"window": 60, "min_sessions": 180}}},
}  # fmt: skip


@pytest.fixture(scope="module")
def deep(make_dataset, tmp_path_factory):
    """A bundle whose layers look back on sessions of rows and of the market, and whose rung reads its state."""
    data = make_dataset(ic=0.15, sessions=620, symbols=30)
    rule = FoldRule(train_sessions=400, test_sessions=80, holdout_sessions=80, embargo=1, valid_sessions=40)
    folds = walk_forward(data.dates, rule, HORIZON)
    trained = {name: train_layer(name, params, data, folds, 1) for name, params in DEEP.items()}
    scale = np.full(len(data), 0.03, np.float32)
    oof = {name: layer.oof for name, layer in trained.items()}
    rule = StackRule(warmup_sessions=20, rung="gate", states=[], regimes={"window": 60, "min_sessions": 180})
    parts = {
        "layers": {name: layer.model for name, layer in trained.items()},
        "meta": stack(oof, data, folds, rule, horizon=HORIZON, scale=scale).meta,
        "declared": [{"name": name, "lookback": 5, "family": "made"} for name in data.features],
        "params": {"seed": 1},
        "dataset": data,
        "feeds": {},
    }
    folder = tmp_path_factory.mktemp("deep") / "bundle"
    write_bundle(folder, **parts)
    return types.SimpleNamespace(data=data, scale=scale, parts=parts, folder=folder)


class TestLookingBack:
    """A day alone, with what the bundle looks back on and no more, has the bits of the history."""

    def alone(self, made, bundle, session):
        rows = made.data.between(session - bundle.lookback + 1, session)
        known = np.arange(len(made.data.dates)) > session - bundle.market_lookback
        return replace(rows, market=np.where(known & (np.arange(len(known)) <= session), made.data.market, np.nan))

    def test_bits(self, deep):
        bundle = Bundle.load(deep.folder)
        assert bundle.lookback == 4
        assert bundle.market_lookback == 60 + 252 - 1
        manifest = json.loads((deep.folder / "manifest.json").read_text())
        assert (manifest["lookback"], manifest["market_lookback"]) == (4, 311)
        whole = bundle.predict(deep.data, deep.scale, 0)
        for session in (500, 619):
            scale = deep.scale[deep.data.rows(session, session)]
            day = bundle.predict(self.alone(deep, bundle, session), scale, session)
            same = whole[whole["date"] == deep.data.dates[session]].reset_index(drop=True)
            assert len(day) == deep.data.rows(session, session).stop - deep.data.rows(session, session).start
            assert day.equals(same)

    def test_the_served_model_says_the_same(self, deep, repository, code):
        model = load_served(repository, deep.folder, code)
        bundle = Bundle.load(deep.folder)
        rows = self.alone(deep, bundle, 600)
        frame = pd.concat([rows.keys(), pd.DataFrame(rows.X, columns=list(rows.features))], axis=1)
        market = deep.data.market[600 - bundle.market_lookback + 1 : 601]
        found = model.predict(None, frame, {"market": market.tolist()})
        unknown = np.full(len(rows.between(600, 600)), np.nan)
        expected = bundle.predict(rows, unknown, 600, reasons=False)
        for name in found:
            assert found[name].tolist() == expected[name].tolist(), name
        with pytest.raises(ValueError, match="310 market returns were given, 311 are needed"):
            model.predict(None, frame, {"market": market[1:].tolist()})
        with pytest.raises(ValueError, match="3 dates were given, the layers look back on 4"):
            model.predict(None, frame[frame["date"] > frame["date"].min()], {"market": market.tolist()})


class TestServedModel:
    """The MLflow model says what the bundle says, by the code that was packed with it."""

    def frame(self, made, rows):
        data = made.data.take(rows)
        return pd.concat([data.keys(), pd.DataFrame(data.X, columns=list(data.features))], axis=1)

    def test_parity_to_the_bit(self, made, folder, served):
        rows = made.data.rows(150, 153)
        expected = Bundle.load(folder).predict(made.data.take(rows), made.scale[rows], reasons=False)
        found = served.predict(None, self.frame(made, rows).assign(scale=made.scale[rows]))
        assert list(found) == [name for name in expected if name != "rank"]
        for name in found:
            assert found[name].tolist() == expected[name].tolist(), name

    def test_the_order_of_the_rows_does_not_matter(self, made, served):
        frame = self.frame(made, made.data.rows(150, 153))
        turned = served.predict(None, frame.iloc[::-1])
        assert turned.equals(served.predict(None, frame))

    def test_without_scale(self, made, folder, served):
        rows = made.data.rows(150, 150)
        unknown = np.full(rows.stop - rows.start, np.nan)
        expected = Bundle.load(folder).predict(made.data.take(rows), unknown, reasons=False)
        found = served.predict(None, self.frame(made, rows))
        assert found["p_wrong"].tolist() == expected["p_wrong"].tolist()

    def test_missing_column(self, made, served):
        rows = made.data.rows(150, 150)
        with pytest.raises(ValueError, match="column 'x3' is missing"):
            served.predict(None, self.frame(made, rows).drop(columns="x3"))

    def test_it_runs_the_code_that_was_packed(self, made, folder, repository, code, tmp_path):
        """Another state of the project, loaded already, is neither run nor disturbed."""
        other = tmp_path / "code"
        shutil.copytree(code, other)
        linear = other / "models/layers/linear.py"
        text = linear.read_text()
        assert "return _products(" in text
        linear.write_text(text.replace("return _products(", "return -_products("))
        before = sys.modules["models.bundle"]
        rows = made.data.rows(150, 150)
        frame = self.frame(made, rows)
        usual, turned = (load_served(repository, folder, place).predict(None, frame) for place in (code, other))
        assert turned["signal_linear"].tolist() == (-usual["signal_linear"]).tolist()
        assert sys.modules["models.bundle"] is before
        assert Bundle is before.Bundle

    def test_nothing_is_written_beside_the_packed_code(self, folder, repository, code):
        files = sorted(code.rglob("*"))
        load_served(repository, folder, code)
        assert sorted(code.rglob("*")) == files

    def test_imports_nothing_of_the_project_by_name(self, repository):
        import ast

        tree = ast.parse((repository / "models" / "served_model.py").read_text())
        names = {
            (node.module if isinstance(node, ast.ImportFrom) else alias.name).split(".")[0]
            for node in ast.walk(tree)
            if isinstance(node, (ast.Import, ast.ImportFrom))
            for alias in node.names
        }
        assert names <= {*sys.stdlib_module_names, "mlflow", "numpy", "pandas"}
