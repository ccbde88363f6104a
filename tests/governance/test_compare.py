"""Versions are compared by what was kept at their registration, whatever lies on the disk now."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest

from core.errors import DataError, GovernanceError
from core.files import canonical_json, digest_bytes, digest_tree, read_json, read_parquet, write_json, write_parquet
from governance.evidence import stored
from governance.state import State
from pipelines.compare import compare
from pipelines.console import Printer
from pipelines.register import _compare


def daily_record(lead=0.0, seed=0):
    common, own = np.random.default_rng(99), np.random.default_rng(seed)
    held = np.arange(300) >= 240
    return pd.DataFrame(
        {
            "date": pd.bdate_range("2015-01-01", periods=300),
            "holdout": held,
            "part": np.where(held, "holdout", "test"),
            "regime": "calm",
            "stack": common.normal(0.03, 0.1, 300) + own.normal(lead, 0.02, 300),
            "net": common.normal(0.0005, 0.01, 300) + own.normal(lead / 30, 0.002, 300),
        }
    )


def train(world, lead=0.0, weight=1.0, horizon=5):
    """A training with a daily record."""
    world.train(weight=weight, seed=int(weight))
    write_parquet(world.training.reports / "evaluation/daily.parquet", daily_record(lead, seed=int(weight)))
    world.lock()
    if horizon != 5:
        write_json(world.training.bundle / "params.json", {"target": {"horizon": horizon}})
        seal_bundle(world)


def seal_bundle(world):
    """Make the manifest fit the bundle's files again."""
    bundle = world.training.bundle
    manifest = read_json(bundle / "manifest.json")
    (bundle / "manifest.json").unlink()
    manifest = {**manifest, "files": digest_tree(bundle)}
    del manifest["digest"]
    digest = digest_bytes(canonical_json(manifest).encode())
    write_json(bundle / "manifest.json", {**manifest, "digest": digest})
    world.lock()


def state(world):
    return State(world.ledger().read())


def forget(world):
    """Take away all that the checkout holds but the store."""
    for folder in (world.training.bundle, world.training.reports, world.training.train, world.training.tune):
        shutil.rmtree(folder)


@pytest.fixture
def two(world):
    """Version 1 in production, version 2 better than it, and nothing else on the disk."""
    train(world)
    assert world.register().version == 1
    world.approve(1)
    world.promote(1)
    train(world, lead=0.03, weight=2.0)
    assert world.register().version == 2
    forget(world)
    return world


def test_stored_evidence_is_enough(two, capsys):
    compare(two.root, "candidate")
    out = capsys.readouterr().out
    assert "version 2 (challenger) against version 1 (champion): 300 common days" in out
    assert "The challenger is better at ranking stocks" in out
    folder = two.root / "reports/compare/2-vs-1"
    assert sorted(path.name for path in folder.iterdir()) == ["comparison.json", "report.html"]
    told = json.loads((folder / "comparison.json").read_text())
    gap = daily_record(0.03, 2)["stack"] - daily_record(0.0, 1)["stack"]
    assert told["rank_ic"]["all"]["difference"] == pytest.approx(gap.mean())
    assert told["verdict"] == "better"
    assert (told["challenger"]["version"], told["champion"]["version"], told["horizon"]) == (2, 1, 5)
    compare(two.root, "1", "2")
    assert "The challenger is worse at ranking stocks" in capsys.readouterr().out
    assert (two.root / "reports/compare/1-vs-2/report.html").is_file()


def test_the_ledger_says_who_is_champion(two, capsys):
    two.sql("UPDATE registered_model_aliases SET version = 2 WHERE alias = 'champion'")
    compare(two.root, "2")
    assert "against version 1 (champion)" in capsys.readouterr().out


def test_a_version_without_a_daily_record(world):
    world.train()
    world.register()
    train(world, weight=2.0)
    world.register()
    with pytest.raises(DataError, match="version 1 was registered without a daily record"):
        compare(world.root, "2", "1")
    train(world)
    write_json(
        world.training.reports / "invariances.json",
        {**read_json(world.training.reports / "invariances.json"), "checked": 15},
    )
    again = world.register()
    assert (again.version, again.created) == (1, True)
    compare(world.root, "2", "1")


def test_the_record_is_kept_but_judged_by_no_gate(world):
    world.train()
    before = world.training.fingerprint(world.policy)
    write_parquet(world.training.reports / "evaluation/daily.parquet", daily_record())
    assert world.training.fingerprint(world.policy) == before
    world.register()
    pd.testing.assert_frame_equal(stored(world.root, state(world), 1).daily, daily_record(), check_dtype=False)


def test_different_horizons_are_refused(world):
    train(world)
    world.register()
    train(world, weight=2.0, horizon=21)
    world.register()
    with pytest.raises(DataError, match="version 2 predicts 21 sessions ahead, version 1 5"):
        compare(world.root, "2", "1")
    assert not (world.root / "reports/compare").exists()


def test_other_rows_are_told(world, capsys):
    train(world)
    world.register()
    train(world, weight=2.0)
    params = {"target": {"horizon": 5}, "universe": {"min_price": 5.0}}
    write_json(world.training.bundle / "params.json", params)
    seal_bundle(world)
    world.register()
    compare(world.root, "2", "1")
    assert "WARNING judged on different rows: params.yaml differs in universe" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (("9", "1"), "version 9 is not in the ledger"),
        (("2", "9"), "version 9 is not in the ledger"),
        (("best", "1"), "'best' is no version number and no alias"),
    ],
)
def test_an_unknown_version(two, names, words):
    with pytest.raises(GovernanceError, match=words):
        compare(two.root, *names)


def test_without_a_champion_there_is_nothing_to_compare_with(world):
    train(world)
    world.register()
    with pytest.raises(GovernanceError, match="no version is in production: name the version"):
        compare(world.root, "1")


@pytest.mark.parametrize("file", ["daily.parquet", "params.json"])
def test_changed_evidence_is_refused(two, file):
    (path,) = (p for p in (two.root / "mlruns/artifacts").rglob(file) if "evaluation" not in p.parts and holds(p, two))
    if file == "params.json":
        path.write_text('{"target": {"horizon": 21}}')
    else:
        write_parquet(path, read_parquet(path).assign(stack=1.0))
    with pytest.raises(GovernanceError, match=f"version 2: .*{file} was changed since it was registered"):
        compare(two.root, "2", "1")


def holds(path, world):
    """Whether a stored file is of version 2."""
    payload = state(world).registration(2).payload
    return any(payload[key].removeprefix("signals:/") in path.as_posix() for key in ("evidence_uri", "model_uri"))


def test_a_candidate_comes_with_its_comparison_with_the_champion(world, capsys):
    train(world)
    first = world.register()
    _compare(world.root, world.policy, first, Printer())
    world.approve(1)
    world.promote(1)
    _compare(world.root, world.policy, first, Printer())
    assert capsys.readouterr().out == ""
    train(world, lead=0.03, weight=2.0)
    second = world.register()
    _compare(world.root, world.policy, second, Printer())
    assert "against the champion: The challenger is better" in capsys.readouterr().out
    (page,) = (world.root / "mlruns/artifacts").rglob(f"{second.run_id}/artifacts/compare/2-vs-1/report.html")
    assert "Version 2 against version 1" in page.read_text()
    train(world, weight=3.0, horizon=10)
    _compare(world.root, world.policy, world.register(), Printer())
    assert "not compared with the champion: version 3 predicts 10 sessions" in capsys.readouterr().out
