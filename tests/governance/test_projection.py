"""The projection: everything of a training in MLflow, once, whatever interrupts it."""

import shutil
from collections import Counter
from pathlib import Path

import pytest

from core.errors import BundleError, DataError, GovernanceError
from core.files import write_json
from governance import projection, runs, store
from governance.dvc_lock import folder_md5
from governance.registry import read_registry
from governance.reports import digests

MODEL = "layered-signals"


def everything(world):
    """Counts of what a registration writes."""
    client = store.client(world.root)
    experiment = client.get_experiment_by_name(MODEL)
    found = client.search_runs([experiment.experiment_id], max_results=1000)
    levels = [run.data.tags["level"] for run in found]
    return {
        "runs": {level: levels.count(level) for level in sorted(set(levels))},
        "versions": sorted(read_registry(world.root, MODEL).versions),
        "models": len(client.search_logged_models([experiment.experiment_id])),
        "records": [(r.kind, r.payload.get("version")) for r in world.ledger().read().records],
    }


WHOLE = {
    "runs": {"layer": 2, "stack": 1, "trial": 4},
    "versions": [1],
    "models": 1,
    "records": [("registered", 1), ("holdout_opened", None)],
}


def test_a_second_call_adds_nothing(world):
    first = world.register()
    before = {path: path.stat().st_mtime_ns for path in (world.root / "mlruns/artifacts").rglob("*")}
    second = world.register()
    assert (first.created, second.created) == (True, False)
    assert (second.version, second.run_id) == (first.version, first.run_id)
    assert everything(world) == WHOLE
    assert {path: path.stat().st_mtime_ns for path in (world.root / "mlruns/artifacts").rglob("*")} == before


STEPS = [
    (runs, "log_datasets"),
    (runs, "log_layer"),
    (projection, "log_model"),
    (projection, "_ensure_model"),
    (projection, "_location"),
    (projection, "store_evidence"),
    (projection, "_finish"),
    (projection, "describe"),
]


@pytest.mark.parametrize(("module", "step"), STEPS, ids=[step for _, step in STEPS])
def test_a_killed_projection_is_made_whole_by_the_next(world, monkeypatch, module, step):
    def killed(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(module, step, killed)
        with pytest.raises(KeyboardInterrupt):
            world.register()
    assert world.register().version == 1
    assert everything(world) == WHOLE
    row = read_registry(world.root, MODEL)
    assert row.aliases == {"candidate": 1}
    assert row.versions[1].tags["gates.verdict"] == "pass"
    folders = list((world.root / "mlruns/artifacts/layered-signals/models").glob("m-*/artifacts/MLmodel"))
    assert len(folders) == 1
    world.approve(1)
    world.promote(1)


def test_what_commands_left_among_the_reports_is_no_evidence(world):
    # They are of whichever run was the last when they were asked.
    (world.root / "reports/truth.json").write_text("{}")
    (world.root / "reports/compare").mkdir()
    (world.root / "reports/compare/report.html").write_text("")
    registered = world.register()
    files = {entry.path for entry in store.client(world.root).list_artifacts(registered.run_id)}
    assert "metrics.json" in files
    assert not files & {"truth.json", "compare"}


def _tear_sheet(world, text="<html>tear sheet</html>"):
    folder = world.root / "reports/tearsheet"
    folder.mkdir(exist_ok=True)
    (folder / "index.html").write_text(text)
    write_json(folder / "made_of.json", digests(world.root, [Path("artifacts/bundle/weights.json")]))


def test_the_tear_sheet_of_the_run_goes_with_the_version(world):
    first = world.register()
    client = store.client(world.root)
    assert not client.list_artifacts(first.run_id, "tearsheet")
    _tear_sheet(world)
    again = world.register()
    assert (again.version, again.created) == (1, False)
    assert {f.path for f in client.list_artifacts(first.run_id, "tearsheet")} == {
        "tearsheet/index.html",
        "tearsheet/made_of.json",
    }
    world.approve(1)
    world.promote(1)


def test_the_tear_sheet_of_another_run_stays_out_and_is_told(world):
    _tear_sheet(world)
    world.train(weight=2.0)
    registered = world.register()
    assert not store.client(world.root).list_artifacts(registered.run_id, "tearsheet")
    assert [note for note in registered.notes if "tear sheet is of another run (artifacts/bundle/weights.json" in note]


def test_a_tear_sheet_that_does_not_say_of_what_is_refused(world):
    _tear_sheet(world)
    (world.root / "reports/tearsheet/made_of.json").write_text("{}")
    with pytest.raises(DataError, match="names no file"):
        world.register()


def test_what_a_reviewer_finds_in_mlflow(world):
    registered = world.register()
    client = store.client(world.root)
    run = client.get_run(registered.run_id)
    assert run.data.metrics["test.stack.rank_ic"] == 0.03
    assert run.data.metrics["gate.rank_ic_t"] == 1.0
    assert run.data.params["seed"] == "1"
    assert {d.dataset.name: d.dataset.digest for d in run.inputs.dataset_inputs} == {
        "data/clean": folder_md5(world.root / "data/clean")[:36]
    }
    files = {entry.path for entry in client.list_artifacts(registered.run_id, "evaluation")}
    assert "evaluation/report.html" in files
    version = client.get_model_version(MODEL, "1")
    assert version.tags["author"] == "Ann Author <ann@example.org>"
    assert version.tags["git.clean"] == "true"
    assert len(version.tags["git.commit"]) == 40
    assert version.tags["dvc.lock"] != "none"
    assert "| rank_ic_t | pass |" in version.description
    assert "NOT verified" in version.description
    trials = client.search_runs([run.info.experiment_id], "tags.level = 'trial'")
    assert {t.data.params["kind"] for t in trials} == {"ridge"}
    assert {round(t.data.metrics["value"], 2) for t in trials} == {0.0, 0.02}


def test_the_registered_model_predicts_with_its_signature(world):
    import mlflow

    world.register()
    client = store.client(world.root)
    with store.tracked(store.tracking_uri(world.root)):
        model = mlflow.pyfunc.load_model(f"models:/{MODEL}/1")
    from governance.packing import example_of

    example = example_of({"features": ["momentum", "value"]})
    signals = model.predict(example)
    assert signals["signal"].tolist() == pytest.approx((example["momentum"] - example["value"]).tolist())
    assert [c.name for c in model.metadata.signature.inputs.inputs] == ["date", "symbol", "scale", "momentum", "value"]
    with pytest.raises(mlflow.exceptions.MlflowException, match="missing inputs"):
        model.predict(example.drop(columns="value"))
    assert client.get_model_version(MODEL, "1").tags["bundle.digest"]


def test_a_second_bundle_is_a_second_version(world):
    world.register()
    world.train(weight=2.0)
    registered = world.register()
    assert (registered.version, registered.created) == (2, True)
    assert everything(world)["runs"] == {"layer": 4, "stack": 2, "trial": 8}
    assert read_registry(world.root, MODEL).aliases["candidate"] == 2
    world.train()
    assert world.register().version == 1
    assert read_registry(world.root, MODEL).aliases["candidate"] == 1


def test_committing_clears_the_gate_and_a_later_edit_does_not_bring_it_back(world):
    (world.root / "models/served_model.py").write_text(
        (world.root / "models/served_model.py").read_text() + "# edited\n"
    )
    failed = [v.gate for v in world.register().verdicts if not v.passed]
    assert failed == ["clean_tree"]
    from subprocess import run

    run(["git", "commit", "-qam", "edit"], cwd=world.root, check=True)
    again = world.register()
    assert (again.version, again.created, [v.gate for v in again.verdicts if not v.passed]) == (1, True, [])
    (world.root / "new.py").write_text("")
    assert not world.register().created


def test_a_changed_policy_is_a_new_judgement_of_the_same_version(world):
    world.register()
    world.approve(1)
    gates = [gate.model_copy(update={"min": 9.0}) if gate.name == "rank_ic_t" else gate for gate in world.policy.gates]
    world.policy = world.policy.model_copy(update={"gates": gates})
    again = world.register()
    assert (again.version, again.created) == (1, True)
    with pytest.raises(GovernanceError, match=r"gate rank_ic_t fails.*nobody has approved it"):
        world.promote(1)
    assert read_registry(world.root, MODEL).versions[1].tags["gates.verdict"] == "fail"


def test_a_bundle_that_is_broken_is_not_registered(world):
    weights = world.training.bundle / "weights.json"
    whole = weights.read_bytes()
    weights.write_text("{}")
    with pytest.raises(BundleError, match=r"weights.json was changed"):
        world.register()
    weights.write_bytes(whole)
    (world.training.bundle / "extra").write_text("")
    with pytest.raises(BundleError, match="extra was added"):
        world.register()
    shutil.rmtree(world.training.bundle)
    with pytest.raises(BundleError, match=r"manifest.json is missing"):
        projection.project(world.root, world.policy, world.training, {})


def test_a_missing_report_is_named(world):
    (world.training.reports / "metrics.json").unlink()
    with pytest.raises(DataError, match=r"metrics.json is missing: run the stage"):
        world.register()
    assert not (world.root / "mlruns/ledger.jsonl").exists()


@pytest.mark.slow
def test_a_trial_is_logged_in_one_request(world, monkeypatch):
    """Twenty trials take seconds because one request holds all that is known of a trial."""
    from mlflow import MlflowClient

    requests = Counter()
    log_batch = MlflowClient.log_batch

    def counted(self, run_id, *arguments, **named):
        requests[run_id] += 1
        return log_batch(self, run_id, *arguments, **named)

    monkeypatch.setattr(MlflowClient, "log_batch", counted)
    world.train(trials=10)
    world.register()
    client = store.client(world.root)
    experiment = client.get_experiment_by_name(MODEL)
    trials = client.search_runs([experiment.experiment_id], "tags.level = 'trial'")
    assert [requests[trial.info.run_id] for trial in trials] == [1] * 20


def test_how_served_signals_do_is_no_evidence_of_a_new_version(world):
    page = world.root / "reports/monitor/index.html"
    page.parent.mkdir(parents=True)
    page.write_text("of the version that serves")
    registered = world.register()
    kept = {item.path for item in store.client(world.root).list_artifacts(registered.run_id)}
    assert "metrics.json" in kept
    assert "monitor" not in kept
