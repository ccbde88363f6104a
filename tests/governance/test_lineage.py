"""The lineage names everything that a bundle was made from, and says what is not so any more."""

import json
import shutil
import subprocess

import numpy as np
import pandas as pd
import pytest
import yaml

from core.errors import ConfigError, DataError
from core.files import digest_file, write_parquet
from governance import lineage as module
from governance.dvc_lock import DvcLock, folder_md5
from governance.lineage import collect_lineage, libraries, source_tables

STALE = "run `dvc repro`"


def test_the_lineage_names_everything(world):
    lineage = world.lineage()
    assert lineage["problems"] == []
    assert lineage["git"]["clean"]
    assert len(lineage["git"]["commit"]) == 40
    assert lineage["author"] == "Ann Author <ann@example.org>"
    assert lineage["bundle"] == "artifacts/bundle"
    assert len(lineage["dvc_lock"]["sha256"]) == len(lineage["params"]["sha256"]) == 64
    assert lineage["params"]["content"]["seed"] == 1
    assert lineage["seeds"] == {"seed": 1}
    assert lineage["data"] == {"data/clean": {"md5": "0" * 32 + ".dir", "size": 10, "nfiles": 2}}
    assert lineage["code"] == {"market": folder_md5(world.root / "market")}
    assert [feature["name"] for feature in lineage["features"]] == ["momentum", "value"]
    assert {(f["family"], f["lookback"], len(f["code"])) for f in lineage["features"]} == {("market", 21, 64)}
    assert {"numpy", "lightgbm", "mlflow"} <= set(lineage["libraries"])
    assert lineage["trials"] == {"total": 2, "by_layer": {"linear": 2}}
    assert lineage["holdout_openings"] == 0
    assert lineage["python"].startswith("3.")
    json.dumps(lineage)


def test_a_seed_is_found_wherever_it_stands(world):
    params = {"seed": 3, "data": {"simulated": {"seed": 4, "seeds": 9}}, "seeds": [1]}
    (world.root / "params.yaml").write_text(yaml.safe_dump(params))
    assert world.lineage()["seeds"] == {"seed": 3, "data.simulated.seed": 4}


def test_the_code_of_a_feature_is_the_code_of_its_family(world):
    before = world.lineage()["features"]
    (world.root / "market/__init__.py").write_text("changed = 1\n")
    world.lock()
    after = world.lineage()["features"]
    assert all(one["code"] != other["code"] for one, other in zip(before, after, strict=True))


def test_a_family_that_dvc_lock_does_not_know_has_no_code(world):
    declared = [{"name": "tone", "family": "text", "lookback": 1}, {"name": "mood", "family": "text", "lookback": 1}]
    lineage = collect_lineage(world.root, world.training.bundle, declared, trials={"linear": 2})
    assert lineage["problems"] == ["no digest of the code of feature tone (and 1 more)"]


def test_tables_have_their_rows_and_dates(world):
    tables = world.root / "data/clean"
    days = pd.date_range("2016-12-30", periods=4)
    for year in (2016, 2017):
        part = pd.DataFrame({"date": days[days.year == year]})
        write_parquet(tables / f"prices/year={year}/part.parquet", part.assign(close=np.ones(len(part))))
    write_parquet(tables / "securities.parquet", pd.DataFrame({"symbol": ["A", "B"]}))
    lineage = collect_lineage(world.root, world.training.bundle, [], tables=tables)
    assert lineage["tables"] == {
        "prices": {"rows": 4, "first": "2016-12-30", "last": "2017-01-02"},
        "securities": {"rows": 2},
    }


def test_the_tables_of_a_folder_have_a_digest_each(tmp_path):
    folder = tmp_path / "feed"
    folder.mkdir()
    (folder / "prices.parquet").write_bytes(b"prices")
    (folder / "social.csv").write_bytes(b"posts")
    (folder / "README.md").write_text("not a table")
    params = {"data": {"source": "files", "path": "feed"}}
    assert source_tables(tmp_path, params) == {
        "prices": {"file": "prices.parquet", "sha256": digest_file(folder / "prices.parquet"), "size": 6},
        "posts": {"file": "social.csv", "sha256": digest_file(folder / "social.csv"), "size": 5},
    }
    assert source_tables(tmp_path, {"data": {"source": "simulated", "path": "feed"}}) == {}
    (folder / "prices.parquet").unlink()
    part = folder / "prices.parquet" / "year=2016" / "part.parquet"
    part.parent.mkdir(parents=True)
    digests = []
    for content in (b"one", b"two"):
        part.write_bytes(content)
        told = source_tables(tmp_path, params)["prices"]
        assert (told["file"], told["size"]) == ("prices.parquet", 3)
        digests.append(told["sha256"])
    assert digests[0] != digests[1]
    (folder / "prices.csv").write_text("again")
    with pytest.raises(DataError, match="'prices' is there twice"):
        source_tables(tmp_path, params)


def test_a_folder_of_tables_is_data_and_not_code(world, tmp_path):
    folder = tmp_path / "feed"
    folder.mkdir()
    (folder / "prices.csv").write_text("date,symbol\n")
    (world.root / "params.yaml").write_text(
        yaml.safe_dump({"seed": 1, "data": {"source": "files", "path": f"{folder}/"}})
    )
    lock = yaml.safe_load((world.root / "dvc.lock").read_text())
    lock["stages"]["stack"]["deps"].append({"path": str(folder), "md5": folder_md5(folder), "size": 1, "nfiles": 1})
    (world.root / "dvc.lock").write_text(yaml.safe_dump(lock))
    lineage = world.lineage()
    assert lineage["problems"] == []
    assert list(lineage["data"]) == ["data/clean", "outside:feed"]
    assert list(lineage["code"]) == ["market"]
    assert list(lineage["sources"]) == ["prices"]
    (folder / "prices.csv").write_text("date,symbol\n2020-01-02,A\n")
    assert world.lineage()["problems"] == [f"{folder} is not what stack read: {STALE}"]


def test_the_lineage_ignores_what_it_records_itself_and_nothing_else(world):
    (world.root / "params.yaml").write_text("seed: 2\n")
    (world.root / "dvc.lock").write_text((world.root / "dvc.lock").read_text() + "\n")
    assert world.lineage()["git"]["clean"]
    (world.root / "pipeline.py").write_text("")
    assert world.lineage()["git"]["changed"] == ["pipeline.py"]


def test_the_lineage_names_what_is_missing(world):
    (world.training.bundle / "weights.json").write_text("{}")
    assert world.lineage()["problems"] == [f"the bundle on disk is not the one dvc.lock records: {STALE}"]
    (world.root / "dvc.lock").unlink()
    (world.root / "params.yaml").unlink()
    shutil.rmtree(world.root / ".git")
    lineage = collect_lineage(world.root, world.training.bundle, [])
    assert set(lineage["problems"]) == {
        "no git commit", "no dvc.lock", "no data", "no features", "no seeds", "no tuning trials counted"
    }  # fmt: skip


def test_what_changed_after_the_training_is_a_problem_even_when_committed(world):
    """A bundle registered from newer code or other parameters could not be made again from what the lineage names."""
    (world.root / "market/__init__.py").write_text("later = True\n")
    (world.root / "params.yaml").write_text("seed: 2\n")
    subprocess.run(["git", "commit", "-qam", "later"], cwd=world.root, check=True)
    lineage = world.lineage()
    assert lineage["git"]["clean"]
    assert lineage["problems"] == [
        f"market is not what features@market read: {STALE}",
        f"params.yaml: seed is not what stack ran with: {STALE}",
    ]
    assert [v.gate for v in world.register().verdicts if v.blocks] == ["lineage"]
    shutil.rmtree(world.root / "market")
    assert f"market, which features@market read, is gone: restore it, or {STALE}" in world.lineage()["problems"]


def test_a_stage_run_alone_leaves_those_after_it_stale(world):
    lock = yaml.safe_load((world.root / "dvc.lock").read_text())
    lock["stages"]["features@market"]["outs"] = [{"path": "data/clean", "md5": "1" * 32 + ".dir"}]
    (world.root / "dvc.lock").write_text(yaml.safe_dump(lock))
    assert world.lineage()["problems"] == [f"data/clean is not what stack read: {STALE}"]


def test_a_stage_that_was_switched_off_is_not_looked_at():
    lock = DvcLock.of({"stages": {name: {} for name in ("ingest", "tune@linear", "tune@gru", "fixed@a", "gone")}})
    pipeline = {"stages": {"ingest": {}, "tune": {"foreach": "${layers.names}"}, "fixed": {"foreach": ["b"]}}}
    assert lock.live(pipeline, {"layers": {"names": ["linear"]}}) == ["ingest", "tune@linear"]
    # Where the items cannot be told, everything is looked at.
    assert lock.live(pipeline, {})[1:] == ["tune@linear", "tune@gru"]


def test_compiled_code_does_not_count(tmp_path):
    (tmp_path / ".dvcignore").write_text("# names only\n__pycache__\n*.tmp\n")
    code = tmp_path / "market"
    (code / "sub/__pycache__").mkdir(parents=True)
    (code / "sub/a.py").write_text("a")
    lock = DvcLock.of({"stages": {"s": {"deps": [{"path": "market", "md5": folder_md5(code)}]}}})
    (code / "sub/__pycache__/a.pyc").write_text("b")
    (code / "b.tmp").write_text("b")
    assert lock.stale(tmp_path, ["s"], {}) == []
    (code / "b.py").write_text("b")
    assert lock.stale(tmp_path, ["s"], {}) == [f"market is not what s read: {STALE}"]


def test_the_ignored_files_of_this_project_are_names(repository):
    """What is read of .dvcignore here: names. A path or an exception to a rule would need more."""
    lines = (repository / ".dvcignore").read_text().splitlines()
    assert [line for line in lines if "/" in line.rstrip("/") or line.startswith("!")] == []


def test_the_folder_md5_is_dvcs(tmp_path):
    from dvc.repo import Repo

    folder = tmp_path / "data"
    (folder / "sub/__pycache__").mkdir(parents=True)
    (folder / "a b.txt").write_text("one")
    (folder / "sub/c.txt").write_text("two")
    (folder / "sub.txt").write_text("three")
    (folder / "sub/__pycache__/d.txt").write_text("four")
    (tmp_path / ".dvcignore").write_text("__pycache__\n")
    repo = Repo.init(str(tmp_path), no_scm=True)
    try:
        stage = repo.add([str(folder)])[0]
        assert folder_md5(folder, ["__pycache__"]) == stage.outs[0].hash_info.value
    finally:
        repo.close()


def test_libraries_that_only_develop_do_not_count(monkeypatch):
    needs = ["numpy>=2", "nowhere>=1", 'model2vec; extra == "embeddings"', 'pytest<10,>=9; extra == "dev"']
    monkeypatch.setattr(module.metadata, "requires", lambda _: needs)

    def version(name):
        if name == "nowhere":
            raise module.metadata.PackageNotFoundError(name)
        return "2.4"

    monkeypatch.setattr(module.metadata, "version", version)
    assert libraries() == {"model2vec": "2.4", "numpy": "2.4"}

    def missing(_):
        raise module.metadata.PackageNotFoundError

    monkeypatch.setattr(module.metadata, "requires", missing)
    with pytest.raises(ConfigError, match="is not installed in this environment"):
        libraries()


def test_a_name_that_git_has_in_latin_1_is_a_name(world):
    subprocess.run([b"git", b"config", b"user.name", b"Andr\xe9 \x1b[2J" + b"a" * 300], cwd=world.root, check=True)
    name = module.author(world.root)
    assert name.startswith("Andr\ufffd \\u001b[2Jaaa")
    assert len(name) == 200
