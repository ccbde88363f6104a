"""The guard against accidents and hands: what is refused, what only warns, what keeps serving."""

import importlib.util
import json
import os
import py_compile
import shutil
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

from core.errors import GovernanceError
from core.files import digest_tree
from governance.audit import audit
from governance.guard import serving
from governance.ledger import Ledger
from governance.people import identities, same_person
from governance.places import ARTIFACTS

REVIEWER = "Rob Reviewer <rob@example.org>"


def artifacts(world, pattern, version):
    registrations = [r.payload for r in world.ledger().read().of_kind("registered")]
    chosen = next(p for p in registrations if p["version"] == version)
    root = world.root / "mlruns/artifacts"
    folders = [root / chosen[key].removeprefix("signals:/") for key in ("model_uri", "evidence_uri")]
    return [path for folder in folders for path in folder.rglob(pattern)]


def edit(world, pattern, version):
    for path in artifacts(world, pattern, version):
        path.write_bytes(path.read_bytes() + b" ")


def remove(world, pattern, version):
    for path in artifacts(world, pattern, version):
        path.unlink()


def add(world, pattern, version):
    for path in artifacts(world, pattern, version):
        (path.parent / "extra.json").write_text("{}")


def swap_bundles(world, *_):
    one, two = (artifacts(world, "weights.json", version)[0] for version in (1, 2))
    shutil.copyfile(one, two)


BREAKS = {
    "an edited weight": (lambda w: edit(w, "weights.json", 2), "weights.json was changed"),
    "an edited manifest": (lambda w: edit(w, "manifest.json", 2), "manifest.json was changed"),
    "edited served code": (lambda w: edit(w, "served_model.py", 2), "served_model.py was changed"),
    "edited requirements": (lambda w: edit(w, "requirements.txt", 2), "requirements.txt was changed"),
    "edited verdicts": (lambda w: edit(w, "gates.json", 2), "gates.json was changed"),
    "edited daily IC": (lambda w: edit(w, "daily_ic.parquet", 2), "daily_ic.parquet was changed"),
    "a removed weight": (lambda w: remove(w, "weights.json", 2), "weights.json is missing"),
    "a removed lineage": (lambda w: remove(w, "lineage.json", 2), "lineage.json is missing"),
    "an added file": (lambda w: add(w, "weights.json", 2), "extra.json was added"),
    "another version's weights": (swap_bundles, "weights.json was changed"),
    "a changed digest tag": (
        lambda w: w.sql("UPDATE model_version_tags SET value = 'x' WHERE key = 'bundle.digest' AND version = 2"),
        "the tag bundle.digest in the MLflow database is not the registered one",
    ),
    "a deleted digest tag": (
        lambda w: w.sql("DELETE FROM model_version_tags WHERE key = 'bundle.digest' AND version = 2"),
        "the tag bundle.digest",
    ),
    "a deleted row": (lambda w: w.sql("DELETE FROM model_versions WHERE version = 2"), "its row is gone"),
    "a version deleted in the UI": (
        lambda w: w.sql("UPDATE model_versions SET current_stage = 'Deleted_Internal' WHERE version = 2"),
        "its row is gone",
    ),
    "a row that points elsewhere": (
        lambda w: w.sql("UPDATE model_versions SET storage_location = '/tmp/evil' WHERE version = 2"),
        "points at /tmp/evil",
    ),
}


@pytest.mark.parametrize("name", BREAKS)
def test_a_broken_champion_is_refused_and_the_last_good_one_serves(governed, name):
    governed.promote(2)
    assert serving(governed.root).version == 2
    act, reason = BREAKS[name]
    act(governed)
    served = serving(governed.root)
    assert served.version == 1
    assert "version 1, the last good champion, keeps serving: version 2 is refused" in served.warnings[0]
    assert reason in served.warnings[0]
    for pattern in ("weights.json",):
        edit(governed, pattern, 1)
    with pytest.raises(GovernanceError, match=r"no version may be served: version 2 is refused.*version 1 is refused"):
        serving(governed.root)


@pytest.mark.parametrize("alias_version", [2, None])
def test_an_alias_moved_by_hand_only_warns(governed, alias_version):
    if alias_version:
        governed.sql("UPDATE registered_model_aliases SET version = 2 WHERE alias = 'champion'")
    else:
        governed.sql("DELETE FROM registered_model_aliases WHERE alias = 'champion'")
    served = serving(governed.root)
    assert served.version == 1
    assert "the alias was moved without the ledger and is ignored" in served.warnings[0]


def rewrite(world, change):
    """Forge the ledger: apply a change to its bodies and chain them anew, as someone who knows how could."""
    bodies = [json.loads(line) for line in world.ledger().path.read_text().splitlines()]
    bodies = change(bodies)
    forged = Ledger(world.root / "forged.jsonl")
    for body in bodies:
        forged.append(body["kind"], body["actor"], body["payload"])
    shutil.move(forged.path, world.ledger().path)


LEDGER_BREAKS = {
    "an edited record": (
        lambda w: w.ledger().path.write_text(w.ledger().path.read_text().replace("Rob", "Bob")),
        "was changed after it was written",
    ),
    "a removed record": (
        lambda w: w.ledger().path.write_text("".join(w.ledger().path.read_text().splitlines(keepends=True)[1:])),
        "does not follow",
    ),
    "a cut end": (
        lambda w: w.ledger().path.write_text("".join(w.ledger().path.read_text().splitlines(keepends=True)[:-1])),
        "has lost records",
    ),
    "a deleted ledger": (lambda w: w.ledger().path.unlink(), "has lost records"),
    "a replayed old ledger": (
        lambda w: w.ledger().path.write_text("".join(w.ledger().path.read_text().splitlines(keepends=True)[:3])),
        "has lost records",
    ),
    "a forged ledger": (lambda w: rewrite(w, lambda bodies: bodies), "has lost records"),
    "binary rubbish": (lambda w: w.ledger().path.write_bytes(b"\x00\xff\n"), "line 1 is not a ledger record"),
}


@pytest.mark.parametrize("name", LEDGER_BREAKS)
def test_a_broken_ledger_serves_nothing_and_promotes_nothing(governed, name):
    act, reason = LEDGER_BREAKS[name]
    act(governed)
    with pytest.raises(GovernanceError, match=reason):
        serving(governed.root)
    with pytest.raises(GovernanceError, match=reason):
        governed.promote(2)
    with pytest.raises(GovernanceError, match=reason):
        governed.register()


def promotion_of(world, version, **changes):
    """What a promotion of a version would say, with changes."""
    registered = [r for r in world.ledger().read().of_kind("registered") if r.payload["version"] == version][-1]
    return {
        "version": version,
        "bundle_digest": registered.payload["bundle_digest"],
        "registration": registered.seq,
        "approval": None,
        "approved_by": REVIEWER,
        "failed": [],
        "waivers": [],
        "previous": None,
        "comment": "",
        **changes,
    }


def test_a_promotion_written_without_an_approval_is_refused(world):
    world.register()
    world.ledger().append("promoted", "Mallory", promotion_of(world, 1, approval=None))
    with pytest.raises(GovernanceError, match="its approval is not in the ledger"):
        serving(world.root)


@pytest.mark.parametrize("pretended", [0, 1, 2])
def test_a_promotion_that_names_a_wrong_approval_is_refused(governed, pretended):
    governed.ledger().append("promoted", "Mallory", promotion_of(governed, 2, approval=pretended))
    served = serving(governed.root)
    assert served.version == 1
    assert "approval" in served.warnings[0]


def test_a_promotion_of_another_bundle_is_refused(governed):
    payload = dict(governed.ledger().read().of_kind("promoted")[-1].payload)
    governed.ledger().append("promoted", "Mallory", {**payload, "bundle_digest": "0" * 64})
    with pytest.raises(GovernanceError, match="promoted with another bundle"):
        serving(governed.root)


def test_a_promotion_of_an_unregistered_version_is_refused(governed):
    payload = dict(governed.ledger().read().of_kind("promoted")[-1].payload)
    governed.ledger().append("promoted", "Mallory", {**payload, "version": 7})
    served = serving(governed.root)
    assert (served.version, "no registration" in served.warnings[0]) == (1, True)


def test_a_clock_behind_the_ledger_is_refused(governed):
    with pytest.raises(GovernanceError, match=r"the clock .* is behind the ledger"):
        serving(governed.root, now=datetime.now(UTC) - timedelta(days=2))


def test_a_torn_ledger_serves_with_a_warning(governed):
    with governed.ledger().path.open("ab") as handle:
        handle.write(b'{"seq": 9, "ki')
    served = serving(governed.root)
    assert served.version == 1
    assert "torn line" in served.warnings[0]


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda path: path.unlink(), "does not exist: run `signals register`"),
        (lambda path: path.write_bytes(b""), "not a readable MLflow store"),
        (lambda path: path.write_bytes(b"rubbish" * 100), "is damaged"),
    ],
)
def test_a_damaged_database_serves_nothing(governed, damage, reason):
    damage(governed.root / "mlruns/mlflow.db")
    with pytest.raises(GovernanceError, match=reason):
        serving(governed.root)


def test_a_replaced_empty_database_serves_nothing_and_takes_no_numbers(governed, empty_store):
    shutil.copyfile(empty_store, governed.root / "mlruns/mlflow.db")
    with pytest.raises(GovernanceError, match="its row is gone"):
        serving(governed.root)
    governed.train(weight=5.0)
    with pytest.raises(GovernanceError, match="the database was replaced"):
        governed.register()


def test_files_that_mlflow_leaves_behind_do_no_harm(governed):
    folder = artifacts(governed, "MLmodel", 1)[0].parent
    (folder / "registered_model_meta").write_text("x")
    assert serving(governed.root).version == 1
    assert audited(governed) == set()


def compiled(folder):
    """Code that Python runs in the place of its source, whatever that says."""
    (folder / "evil.py").write_text("print()")
    made = py_compile.compile(
        str(folder / "evil.py"), importlib.util.cache_from_source(str(folder / "served_model.py")),
        invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
    )  # fmt: skip
    (folder / "evil.py").unlink()
    return Path(made)


def left(folder):
    (folder / "registered_model_meta").write_text("x")


ADDED = {
    "compiled code": compiled,
    "compiled code of the package": lambda folder: compiled(folder / "artifacts/code/core"),
    "compiled code by itself": lambda folder: (folder / "json.pyc").write_bytes(b"x"),
    "a file of that name in the bundle": lambda folder: left(folder / "artifacts/bundle"),
    "compiled code in the bundle": lambda folder: compiled(folder / "artifacts/bundle"),
    "a link to a folder": lambda folder: (folder / "json").symlink_to("/usr/lib"),
    "a link to nothing": lambda folder: (folder / "json").symlink_to("nowhere"),
    "a pipe": lambda folder: os.mkfifo(folder / "pipe"),
}


def audited(world):
    return {finding.what for finding in audit(world.root, world.policy, world.root / "signals").broken}


@pytest.mark.parametrize("add", ADDED.values(), ids=ADDED.keys())
def test_nothing_may_be_added_to_a_version(governed, add):
    add(artifacts(governed, "MLmodel", 1)[0].parent)
    with pytest.raises(GovernanceError, match="was added"):
        serving(governed.root)
    assert any("was added" in what for what in audited(governed))


def test_loading_a_version_leaves_nothing_among_its_files(governed):
    folder = artifacts(governed, "MLmodel", 1)[0].parent
    before = digest_tree(folder)
    stored = f"signals:/{folder.relative_to(governed.root / ARTIFACTS).as_posix()}"
    repository = get_artifact_repository(stored)
    copy = Path(repository.download_artifacts(""))
    assert digest_tree(copy) == before
    compiled(copy)
    assert digest_tree(folder) == before
    assert Path(repository.download_artifacts("MLmodel")) == folder / "MLmodel"
    shutil.rmtree(copy)


def test_the_guard_needs_no_mlflow(governed):
    code = (
        "import sys; from pathlib import Path; from governance.guard import serving;"
        f"served = serving(Path({str(governed.root)!r}));"
        "heavy = {'mlflow', 'sqlalchemy', 'lightgbm', 'torch', 'optuna'} & set(sys.modules);"
        "assert not heavy, heavy; print(served.version)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "1"


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("Ann <a@x.org>", "ANN <b@x.org>", True),
        ("Ann <a@x.org>", "Bob <A@X.ORG>", True),
        ("a@x.org", "Ann <a@x.org>", True),
        ("Ann  Lee", "ann lee", True),
        ("\uff21nn", "Ann", True),
        ("Ann", "Anna", False),
        ("Ann <a@x.org>", "Bob <b@x.org>", False),
        ("", "", False),
    ],
)
def test_same_person(one, other, same):
    assert same_person(one, other) is same


def test_identities_are_the_name_and_the_address():
    assert identities(" Ann  Lee <Ann@X.org> ") == {"ann lee", "ann@x.org"}
