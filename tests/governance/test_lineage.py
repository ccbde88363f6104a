"""The lineage names everything that a bundle was made from, and says what is not so any more."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import yaml

from core.errors import ConfigError, DataError
from core.files import digest_file, write_parquet
from governance import lineage as module
from governance.dvc_lock import DvcLock, folder_md5, problems
from governance.git import changed_paths
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
    assert lineage["data"] == {"data/clean": {"md5": folder_md5(world.root / "data/clean"), "size": 10, "nfiles": 2}}
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
    pipeline = yaml.safe_load((world.root / "dvc.yaml").read_text())
    pipeline["stages"]["stack"]["deps"].append("${data.path}")
    (world.root / "dvc.yaml").write_text(yaml.safe_dump(pipeline))
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


def git(root, *words):
    subprocess.run(["git", *words], cwd=root, check=True, capture_output=True)


def config(root, *words):
    git(root, "config", *words)


def edited(root):
    (root / "market/__init__.py").write_text("later = True\n")


def replaced(root):
    """Let HEAD stand for a commit that holds the edited file, and the index fit it."""
    edited(root)
    git(root, "commit", "-qam", "later")
    git(root, "replace", "HEAD~", "HEAD")
    git(root, "update-ref", "HEAD", "HEAD~")


def elsewhere(root):
    copy = root.parent / "copy"
    git(root, "worktree", "add", "-q", "--detach", str(copy))
    config(root, "core.worktree", str(copy))


HIDDEN = {
    "skip-worktree": lambda root: git(root, "update-index", "--skip-worktree", "market/__init__.py"),
    "assume-unchanged": lambda root: git(root, "update-index", "--assume-unchanged", "market/__init__.py"),
    "both": lambda root: (
        git(root, "update-index", "--skip-worktree", "market/__init__.py"),
        git(root, "update-index", "--assume-unchanged", "market/__init__.py"),
    ),
    "another work tree": elsewhere,
    "a replaced commit": replaced,
}


@pytest.mark.parametrize("hide", HIDDEN.values(), ids=HIDDEN.keys())
def test_git_hides_no_edited_file(world, hide):
    hide(world.root)
    edited(world.root)
    assert not world.lineage()["git"]["clean"]


def test_git_hides_no_new_file(world, tmp_path):
    (tmp_path / "ignored").write_text("*.py\n")
    config(world.root, "core.excludesFile", str(tmp_path / "ignored"))
    (world.root / ".git/info").mkdir(exist_ok=True)
    (world.root / ".git/info/exclude").write_text("market/\n*.py\n")
    (world.root / "market/more.py").write_text("")
    assert world.lineage()["git"]["changed"] == ["market/more.py"]


@pytest.mark.parametrize("key", ["core.fsmonitor", "core.hooksPath"])
def test_git_runs_no_program_of_the_checkout(world, tmp_path, key):
    hooks = tmp_path / "hooks"
    hooks.mkdir()
    for name in ("program", "post-index-change"):
        (hooks / name).write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n")
        (hooks / name).chmod(0o755)
    config(world.root, key, str(hooks / "program" if key == "core.fsmonitor" else hooks))
    (world.root / "market/__init__.py").touch()
    git(world.root, "status")
    assert (tmp_path / "ran").exists()
    (tmp_path / "ran").unlink()
    (world.root / "market/__init__.py").touch()
    world.lineage()
    assert not (tmp_path / "ran").exists()


def test_a_project_below_the_repository_names_its_own_paths(world):
    top = world.root.parent / "top"
    top.mkdir()
    world.root.rename(top / "project")
    (top / "project/.git").rename(top / ".git")
    git(top, "add", "project/market", "project/models", "project/dvc.yaml", "project/params.yaml")
    git(top, "commit", "-qam", "moved")
    (top / "other.txt").write_text("")
    assert "market/__init__.py" not in (changed := changed_paths(top / "project"))
    edited(top / "project")
    assert set(changed_paths(top / "project")) - set(changed) == {"market/__init__.py"}
    assert "other.txt" not in changed


def test_the_lineage_names_what_is_missing(world):
    (world.training.bundle / "weights.json").write_text("{}")
    assert world.lineage()["problems"] == [f"artifacts/bundle is not what stack wrote: {STALE}"]
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


EVIDENCE = [
    "reports/metrics.json",
    "reports/invariances.json",
    "reports/evaluation/daily_ic.parquet",
    "reports/evaluation/report.html",
    "artifacts/tune/linear/trials.parquet",
    "artifacts/train/linear/importance.json",
    "data/clean/counts.json",
]


@pytest.mark.parametrize("name", EVIDENCE)
@pytest.mark.parametrize("edit", [lambda file: file.write_bytes(file.read_bytes() + b" "), lambda file: file.unlink()])
def test_what_a_verdict_rests_on_is_what_the_stages_wrote(world, name, edit):
    assert world.lineage()["problems"] == []
    edit(world.root / name)
    folder = "/".join(name.split("/")[: 1 if name.startswith("reports") else 2])
    stage = "features@market" if folder == "data/clean" else "stack"
    assert world.lineage()["problems"] == [f"{folder} is not what {stage} wrote: {STALE}"]


def test_edited_evidence_fails_the_lineage_and_is_not_promoted(world):
    metrics = world.training.reports / "metrics.json"
    world.train(t=1.0)
    metrics.write_text(metrics.read_text().replace("1.0", "5.0"))
    registered = world.register()
    assert [(v.gate, v.detail) for v in registered.verdicts if v.blocks] == [
        ("lineage", f"reports is not what stack wrote: {STALE}")
    ]


def test_evidence_that_no_stage_wrote_is_named(world):
    lock = yaml.safe_load((world.root / "dvc.lock").read_text())
    pipeline = yaml.safe_load((world.root / "dvc.yaml").read_text())
    lock["stages"]["stack"]["outs"] = [out for out in lock["stages"]["stack"]["outs"] if out["path"] != "reports"]
    pipeline["stages"]["stack"]["outs"].remove("reports")
    (world.root / "dvc.lock").write_text(yaml.safe_dump(lock))
    (world.root / "dvc.yaml").write_text(yaml.safe_dump(pipeline))
    assert world.lineage()["problems"] == [
        f"reports/{name} is written by no stage of dvc.lock"
        for name in ("metrics.json", "invariances.json", "evaluation/daily_ic.parquet")
    ]


def test_an_out_without_a_digest_is_a_problem(world):
    lock = yaml.safe_load((world.root / "dvc.lock").read_text())
    del next(out for out in lock["stages"]["stack"]["outs"] if out["path"] == "reports")["md5"]
    (world.root / "dvc.lock").write_text(yaml.safe_dump(lock))
    assert world.lineage()["problems"] == [f"reports is not what stack wrote: {STALE}"]


def test_a_stage_run_alone_leaves_those_after_it_stale(world):
    lock = yaml.safe_load((world.root / "dvc.lock").read_text())
    lock["stages"]["features@market"]["outs"] = [{"path": "data/clean", "md5": "1" * 32 + ".dir"}]
    (world.root / "dvc.lock").write_text(yaml.safe_dump(lock))
    assert world.lineage()["problems"] == [
        f"data/clean is not what features@market wrote: {STALE}",
    ]


def test_a_stage_that_was_switched_off_is_not_looked_at(tmp_path):
    locked = {"cmd": "x", "deps": [{"path": "gone", "md5": "0"}]}
    names = ("ingest", "tune@linear", "tune@gru", "fixed@a", "gone")
    lock = DvcLock.of({"stages": dict.fromkeys(names, locked)})
    stage = {"cmd": "x", "deps": ["gone"]}
    pipeline = {
        "stages": {
            "ingest": stage,
            "tune": {"foreach": "${layers.names}", "do": stage},
            "fixed": {"foreach": ["b"], "do": stage},
        }
    }
    params = {"layers": {"names": ["linear"]}}
    assert lock.live(pipeline, params) == ["ingest", "tune@linear"]
    found = lock.changes(tmp_path, pipeline, params)
    assert found == {
        "ingest": {"gone": "gone, which ingest read, is gone: restore it"},
        "tune@linear": {"gone": "gone, which tune@linear read, is gone: restore it"},
        "fixed@b": {"dvc.lock": "fixed@b has not run"},
    }
    assert problems(found) == [
        f"fixed@b has not run: {STALE}",
        f"gone, which ingest read, is gone: restore it, or {STALE}",
    ]


def test_compiled_code_does_not_count(tmp_path):
    (tmp_path / ".dvcignore").write_text("# names only\n__pycache__\n*.tmp\n")
    code = tmp_path / "market"
    (code / "sub/__pycache__").mkdir(parents=True)
    (code / "sub/a.py").write_text("a")
    pipeline = {"stages": {"s": {"deps": ["market"]}}}
    lock = DvcLock.of({"stages": {"s": {"deps": [{"path": "market", "md5": folder_md5(code)}]}}})
    (code / "sub/__pycache__/a.pyc").write_text("b")
    (code / "b.tmp").write_text("b")
    assert lock.changes(tmp_path, pipeline, {}) == {}
    (code / "b.py").write_text("b")
    assert lock.changes(tmp_path, pipeline, {}) == {"s": {"market": "market is not what s read"}}


TINY = """
stages:
  first:
    cmd: mkdir -p out && cp code/a.py out/a && date +%N > out/b && echo 1 | tee figures.json > curve.csv
    params: [seed]
    deps: [code, "${data.path}"]
    outs:
      - out/:
          persist: true
    metrics:
      - figures.json:
          persist: true
    plots: [curve.csv]
  each:
    foreach: ${names}
    do:
      cmd: mkdir -p made && cp out/a made/${item}
      params: ["blocks.${item}"]
      deps: [out]
      outs: ["made/${item}"]
  last:
    cmd: cat made/one made/two > end
    deps: [made/one, made/two]
    outs: [end]
  apart:
    cmd: cp code/b.py apart
    deps: [code/b.py]
    outs: [apart]
"""
CHANGES = {
    "nothing": lambda root: None,
    "code": lambda root: (root / "code/a.py").write_text("new"),
    "a file more": lambda root: (root / "code/c.py").write_text("new"),
    "a file less": lambda root: (root / "code/b.py").unlink(),
    "compiled code": lambda root: (root / "code/__pycache__/a.pyc").write_text("new"),
    "data": lambda root: (root / "feed/x.csv").write_text("new"),
    "a parameter": lambda root: rewrite(root / "params.yaml", "seed: 1", "seed: 2"),
    "a parameter of one": lambda root: rewrite(root / "params.yaml", "one: 1", "one: 2"),
    "another parameter": lambda root: rewrite(root / "params.yaml", "other: 1", "other: 2"),
    "switched off": lambda root: rewrite(root / "params.yaml", "[one, two, three]", "[one, two]"),
    "switched on": lambda root: rewrite(root / "params.yaml", "[one, two, three]", "[one, two, three, four]"),
    "an out": lambda root: (root / "made/two").write_text("new"),
    "an out of a folder": lambda root: (root / "out/b").write_text("new"),
    "an out less": lambda root: shutil.rmtree(root / "out"),
    "a command": lambda root: rewrite(root / "dvc.yaml", "cat made", "cat  made"),
    "a dependency": lambda root: rewrite(root / "dvc.yaml", "deps: [out]", "deps: [out, code/b.py]"),
    "a declared parameter": lambda root: rewrite(root / "dvc.yaml", "params: [seed]", "params: [seed, other]"),
    "a stage": lambda root: (root / "dvc.yaml").write_text(TINY + "  new: {cmd: 'true', deps: [end]}\n"),
}


def rewrite(path, old, new):
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A pipeline that DVC has run."""
    root = tmp_path_factory.mktemp("tiny") / "checkout"
    for name, text in {
        "dvc.yaml": TINY,
        "params.yaml": "seed: 1\nother: 1\nnames: [one, two, three]\n"
        "blocks: {one: 1, two: 2, three: 3, four: 4}\ndata: {path: ./feed/}\n",
        ".dvcignore": "__pycache__\n",
        "code/a.py": "a",
        "code/b.py": "b",
        "code/__pycache__/a.pyc": "c",
        "feed/x.csv": "x",
    }.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    for words in (("init", "-q", "--no-scm"), ("repro", "-q")):
        subprocess.run([sys.executable, "-m", "dvc", *words], cwd=root, check=True)
    return root


@pytest.mark.slow
@pytest.mark.parametrize("change", CHANGES)
def test_what_changed_is_what_dvc_says(tiny, tmp_path, monkeypatch, change):
    from dvc.repo import Repo

    root = tmp_path / "checkout"
    shutil.copytree(tiny, root, symlinks=True)
    monkeypatch.chdir(root)
    CHANGES[change](root)
    lock = DvcLock.of(yaml.safe_load((root / "dvc.lock").read_text()))
    pipeline, params = (yaml.safe_load((root / name).read_text()) for name in ("dvc.yaml", "params.yaml"))
    found = lock.changes(root, pipeline, params, outs=True)
    with Repo(str(root)) as repo:
        said = repo.status()
        assert found.keys() == said.keys()
        assert (
            lock.changes(root, pipeline, params, upto="last", outs=True).keys()
            == repo.status("last", with_deps=True).keys()
        )
    assert bool(found) == (change not in ("nothing", "compiled code", "another parameter", "switched off"))


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
