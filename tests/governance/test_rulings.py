"""What the server lets through, decided without a server."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.errors import GovernanceError
from governance.holdings import assigned_path, is_assigned, kept_folders, overlaps
from governance.ledger import Chain, Record
from governance.registry import Registry, VersionRow
from governance.rulings import ALLOW, HARMLESS_INSIDE, Known, Request, concerns, rule
from governance.state import State

MODEL = "layered-signals"
HOME = f"signals:/{MODEL}/models"


def record(seq, kind, actor="Ann", **payload):
    return Record(seq, f"2026-01-0{seq + 1}T00:00:00+00:00", kind, actor, payload, "", f"h{seq}")


def registered(seq, version):
    return record(
        seq,
        "registered",
        version=version,
        bundle_digest=f"d{version}",
        model_uri=f"{HOME}/m-{version}/artifacts",
        evidence_uri=f"signals:/{MODEL}/run{version}/artifacts/governance/e{version}",
        evidence=f"e{version}",
        gates=[],
    )


def row(version, **tags):
    return VersionRow(version, f"{HOME}/m-{version}/artifacts", "run", {"bundle.digest": f"d{version}", **tags})


def known(*more, tags=None, rows=(1, 2, 3), root=Path("/project")):
    """Versions 1 to 3 in the ledger (version 9 in the database alone); 1 served, then 2."""
    records = [registered(0, 1), registered(1, 2), registered(2, 3)]
    for version in (1, 2):
        records.append(record(len(records), "promoted", version=version, bundle_digest=f"d{version}"))
    records += [record(len(records) + i, kind, actor, **payload) for i, (kind, actor, payload) in enumerate(more)]
    versions = {number: row(number, **(tags or {})) for number in (*rows, 9)}
    return Known(root, MODEL, State(Chain(tuple(records))), Registry({"champion": 2}, {}, versions, 9))


def ask(action, facts=None, inside=False, **fields):
    request = Request(action, {"name": MODEL, **fields}, inside)
    facts = facts or known()
    assert concerns(request, MODEL)
    return rule(request, facts)


def reviewed(status, version=3, comment="read it"):
    return ("reviewed", "Rob", {"version": version, "status": status, "comment": comment, "evidence": f"e{version}"})


def refused(ruling, *words):
    assert ruling.verdict == "refuse"
    assert ruling.reason
    for word in words:
        assert word in ruling.reason


@pytest.mark.parametrize("alias", ["champion", "Champion"])
def test_the_champion_is_made_by_a_promotion(alias):
    ruling = ask("SetRegisteredModelAlias", alias=alias, version="3")
    assert (ruling.verdict, ruling.version) == ("promote", 3)


def test_even_of_a_version_that_the_ledger_does_not_know():
    # The promotion itself refuses it, in the words of the command line.
    assert ask("SetRegisteredModelAlias", alias="champion", version="9").verdict == "promote"


def test_saying_what_is_so_already_is_let_through():
    assert ask("SetRegisteredModelAlias", alias="champion", version="2") == ALLOW


@pytest.mark.parametrize(
    "action",
    [
        *("SetRegisteredModelAlias", "SetModelVersionTag", "DeleteModelVersionTag", "DeleteModelVersion"),
        "UpdateModelVersion",
    ],
)
@pytest.mark.parametrize(
    "version", ["", "latest", "-1", "2.0", "١x", "02", "+2", " 2", "2 ", "2\n", "2_", "0", "１", "²", "2" * 5000]
)
def test_a_version_is_named_in_one_spelling(action, version):
    """MLflow's `int` takes ten of these for a version."""
    refused(ask(action, alias="champion", key="team", value="x", version=version), "no version number")


def test_the_previous_champion_follows_the_ledger():
    refused(ask("SetRegisteredModelAlias", alias="previous_champion", version="3"), "signals rollback")
    refused(ask("DeleteRegisteredModelAlias", alias="previous_champion"), "version 1 is the previous champion")
    refused(ask("DeleteRegisteredModelAlias", alias="champion"), "version 2 is the champion", "signals rollback")


def test_a_champion_that_the_ledger_does_not_know_may_go():
    nobody = Known(Path("/project"), MODEL, State(Chain((registered(0, 1),))), Registry({"champion": 1}))
    assert ask("DeleteRegisteredModelAlias", nobody, alias="champion") == ALLOW


@pytest.mark.parametrize("alias", ["candidate", "challenger"])
def test_candidates_and_challengers_are_registered_and_whole(alias):
    assert ask("SetRegisteredModelAlias", alias=alias, version="3") == ALLOW
    assert ask("DeleteRegisteredModelAlias", alias=alias) == ALLOW
    refused(ask("SetRegisteredModelAlias", alias=alias, version="9"), "no record in the ledger")
    swapped = known(tags={"bundle.digest": "other"})
    refused(ask("SetRegisteredModelAlias", swapped, alias=alias, version="3"), "bundle.digest")
    refused(ask("SetRegisteredModelAlias", known(rows=(1, 2)), alias=alias, version="3"), "its row is gone")


def test_a_rejected_version_is_no_challenger_but_may_be_looked_at_again():
    facts = known(reviewed("rejected"))
    refused(ask("SetRegisteredModelAlias", facts, alias="challenger", version="3"), "Rob rejected it (read it)")
    assert ask("SetRegisteredModelAlias", facts, alias="candidate", version="3") == ALLOW


def test_other_aliases_and_other_models_are_nobody_elses_business():
    assert ask("SetRegisteredModelAlias", alias="mine", version="9") == ALLOW
    assert not concerns(Request("SetRegisteredModelAlias", {"name": "other", "alias": "champion"}), MODEL)
    assert not concerns(Request("LogMetric", {"run_id": "x"}), MODEL)
    assert not concerns(Request("CreateModelVersion", {"name": "other", "run_id": "run1"}), MODEL)


def test_another_models_version_of_a_governed_model_is_refused():
    """MLflow would write a tag on the logged model behind it."""
    refused(ask("CreateModelVersion", inside=True, name="other", run_id="run1"), "signals register")


@pytest.mark.parametrize("name", ["an endpoint of tomorrow", "_invoke_scorer_handler", "CreateGatewayEndpoint"])
def test_what_is_not_classified_or_closed_is_not_served(name):
    refused(ask(name, inside=False), name)
    refused(ask(name, inside=True), name)


@pytest.mark.parametrize(
    "key",
    [
        *("gates.verdict", "gates.failed", "bundle.digest", "waiver.net_sharpe", "review.other"),
        *("author", "trials", "git.commit", "git.clean", "dvc.lock"),
    ],
)
def test_the_projects_tags_are_its_own(key):
    refused(ask("SetModelVersionTag", version="3", key=key, value="pass"), key, "ledger")
    refused(ask("DeleteModelVersionTag", version="3", key=key), key, "ledger")


def test_own_tags_are_free():
    assert ask("SetModelVersionTag", version="3", key="team", value="x") == ALLOW
    assert ask("DeleteModelVersionTag", version="3", key="team") == ALLOW
    assert ask("SetRegisteredModelTag", key="team", value="x") == ALLOW


RESERVED = ["mlflow.prompt.is_prompt", "mlflow.user", "MLFLOW.prompt.is_prompt", "_mlflow_prompt_type", "mlflow."]


@pytest.mark.parametrize("key", RESERVED)
def test_tags_that_mlflow_acts_on_are_nobodys_on_governed_objects(key):
    for action in ("SetRegisteredModelTag", "DeleteRegisteredModelTag"):
        refused(ask(action, key=key, value="true"), key, "acts on")
    for action in ("SetModelVersionTag", "DeleteModelVersionTag"):
        refused(ask(action, version="3", key=key, value="true"), key, "acts on")
    for action in ("SetTag", "DeleteTag", "SetExperimentTag", "DeleteExperimentTag"):
        refused(ask(action, inside=True, key=key, value="true"), key)


@pytest.mark.parametrize("action", ["SetRegisteredModelTag", "DeleteRegisteredModelTag"])
def test_the_tag_that_ties_the_database_to_the_ledger_stays(action):
    refused(ask(action, key="ledger.head"), "ties the database to the ledger")


@pytest.mark.parametrize(("value", "status"), [("approved", "approved"), (" Rejected", "rejected")])
def test_a_review_is_comment_then_status(value, status):
    assert ask("SetModelVersionTag", version="3", key="review.comment", value="read it") == ALLOW
    assert ask("SetModelVersionTag", version="3", key="review.by", value="Rob") == ALLOW
    facts = known(tags={"review.comment": "read it ", "review.by": "Rob"})
    ruling = ask("SetModelVersionTag", facts, version="3", key="review.status", value=value)
    assert (ruling.verdict, ruling.version, ruling.status) == ("review", 3, status)
    assert (ruling.comment, ruling.by) == ("read it", "Rob")


def test_a_review_needs_words_and_new_ones():
    status = {"version": "3", "key": "review.status", "value": "approved"}
    refused(ask("SetModelVersionTag", **status), "review.comment")
    refused(ask("SetModelVersionTag", known(tags={"review.comment": " "}), **status), "review.comment")
    again = known(reviewed("rejected", comment="poor"), tags={"review.comment": "poor"})
    refused(ask("SetModelVersionTag", again, **status), "new words")
    anew = known(reviewed("rejected", comment="poor"), tags={"review.comment": "better now"})
    assert ask("SetModelVersionTag", anew, **status).verdict == "review"


def test_what_a_review_may_not_say_or_forget():
    facts = known(tags={"review.comment": "read it"})
    for value in ("pending", "", "yes"):
        refused(ask("SetModelVersionTag", facts, version="3", key="review.status", value=value), "approved or rejected")
    for key in ("review.status", "review.comment", "review.by"):
        refused(ask("SetModelVersionTag", facts, version="9", key=key, value="approved"), "no record in the ledger")
        refused(ask("DeleteModelVersionTag", facts, version="3", key=key), "stays in the ledger")


@pytest.mark.parametrize(
    ("version", "words"), [("1", "is or was the champion"), ("2", "is or was the champion"), ("3", "forgets nothing")]
)
def test_versions_of_the_ledger_are_not_deleted(version, words):
    refused(ask("DeleteModelVersion", version=version), words)


def test_what_the_ledger_does_not_know_may_go():
    assert ask("DeleteModelVersion", version="9") == ALLOW
    assert ask("UpdateModelVersion", version="9", description="x") == ALLOW


def test_a_champion_rolled_back_still_counts_as_one():
    facts = known(("rolled_back", "Olga", {"version": 2, "to": 1, "reason": "x"}))
    refused(ask("DeleteModelVersion", facts, version="2"), "is or was the champion")


@pytest.mark.parametrize(
    ("action", "fields", "words"),
    [
        ("DeleteRegisteredModel", {}, "versions 1, 2, 3"),
        ("RenameRegisteredModel", {"new_name": "other"}, "by this name"),
        ("RenameRegisteredModel", {"name": "other", "new_name": MODEL}, "by this name"),
        ("CreateModelVersion", {"source": "x", "run_id": "run1"}, "signals register"),
        ("CreateRegisteredModel", {}, "signals register"),
        ("TransitionModelVersionStage", {"version": "3", "stage": "Production"}, "stages are not used"),
        ("TransitionModelVersionStage", {"version": "9", "stage": "Archived"}, "stages are not used"),
        ("UpdateModelVersion", {"version": "3", "description": "all gates pass"}, "review.comment"),
    ],
)
def test_the_registered_model_stays_what_it_is(action, fields, words):
    refused(ask(action, **fields), words)


def test_an_empty_model_may_be_deleted():
    empty = Known(Path("/project"), MODEL, State(Chain(())), Registry())
    assert ask("DeleteRegisteredModel", empty) == ALLOW


@pytest.mark.parametrize(
    "action",
    [
        *("CreateRun", "DeleteRun", "UpdateRun", "LogMetric", "LogParam", "LogBatch", "LogInputs", "LogModel"),
        *("CreateLoggedModel", "FinalizeLoggedModel", "DeleteLoggedModel", "SetLoggedModelTags", "DeleteExperiment"),
        *("UpdateExperiment", "CreatePresignedUploadUrl", "serve_upload_artifact", "StartTraceV3", "RegisterScorer"),
        *("CreateIssue", "CreateLabelSchema", "AddDatasetToExperiments", "LinkTracesToRun", "export_traces"),
    ],
)
def test_the_governed_experiment_is_written_by_register_alone(action):
    refused(ask(action, inside=True), "signals register")


def test_inside_it_notes_and_repairs_are_free_and_origins_are_not():
    for action in HARMLESS_INSIDE:
        assert ask(action, inside=True) == ALLOW
    for key in ("mlflow.note.content", "looked at", "mlflow.sharedViewState.3f"):
        for action in ("SetTag", "DeleteTag", "SetExperimentTag", "DeleteExperimentTag"):
            assert ask(action, inside=True, key=key) == ALLOW
    for key in ("projection", "level", "bundle.digest", "mlflow.user", "mlflow.parentRunId", "git.commit"):
        refused(ask("SetTag", inside=True, key=key), key)
        refused(ask("DeleteTag", inside=True, key=key), key)


SPELLINGS = [
    "{0}",
    "/{0}",
    "./{0}",
    "x/../{0}",
    "{0}/",
    "{0}/artifacts/weights.json",
    "%6Cayered-signals/models",
    "%256Cayered-signals/models",
    "LAYERED-signals/models",
    "layered-signals//models",
    "layered-signals\\models",
]


@pytest.mark.parametrize(
    "action", ["UploadArtifact", "DeleteArtifact", "CreateMultipartUpload", "AbortMultipartUpload"]
)
@pytest.mark.parametrize("spelling", SPELLINGS)
def test_no_spelling_reaches_a_governed_file(action, spelling):
    path = spelling.format(f"{MODEL}/models/m-1")
    refused(ask(action, artifact_path=path), "may not be changed")


def test_nor_what_lies_above_or_in_the_body():
    refused(ask("DeleteArtifact", artifact_path=""), "the whole store")
    refused(ask("CreateMultipartUpload", artifact_path="x", path=f"../{MODEL}/a"), "may not be changed")
    assert ask("UploadArtifact", artifact_path="experiments/3/run/x.json") == ALLOW
    assert ask("UploadArtifact", artifact_path="3/run/x.json") == ALLOW
    assert ask("CreateMultipartUpload", artifact_path="3/run", path="x.json") == ALLOW


@pytest.mark.parametrize(
    "path",
    [
        *(
            "x",
            "3",
            "experiments/3",
            f"{MODEL}-mine/x.json",
            "experiments/x.txt",
            "01/x",
            "１/x",
            "../3x/y",
            "3x/../y/z",
        ),
        *("experiments/../signals/x", "%2e%2e/pipelines/x", "\\3", "-1/x", "0x1/y", "1.0/y"),
    ],
)
def test_files_go_where_the_server_puts_them(path):
    refused(ask("UploadArtifact", artifact_path=path))
    refused(ask("CreateMultipartUpload", artifact_path="3/run", path=f"../../{path}"))


def test_a_version_registered_elsewhere_is_kept_there():
    away = registered(0, 1).payload | {"model_uri": "mlflow-artifacts:/7/models/m-1/artifacts"}
    state = State(Chain((record(0, "registered", **away),)))
    kept = kept_folders(MODEL, state)
    assert overlaps("7/models/m-1/artifacts/weights.json", kept)
    assert overlaps("7", kept)
    assert not overlaps("7/models/m-2", kept)


@given(st.lists(st.sampled_from(["a", "b", ".", "..", "", "%2e%2e", MODEL]), max_size=6))
def test_a_path_reaches_in_exactly_if_the_file_system_says_so(parts):
    path = "/".join(parts)
    place = Path("/store")
    for part in path.replace("%2e", ".").split("/"):
        # What a file system does, rooted: the root's parent is the root.
        place = (place.parent if place != Path("/store") else place) if part == ".." else place / part
    reaches = place.is_relative_to(f"/store/{MODEL}") or place == Path("/store")
    assert overlaps(path, frozenset({MODEL})) == reaches


LOCATIONS = [
    *(f"signals:/{MODEL}", "signals:/", f"signals:/{MODEL}/models/m-1", "signals:/experiments/3", "SIGNALS:/x"),
    *("mlflow-artifacts:/3", f"mlflow-artifacts:/{MODEL}", "mlflow-artifacts://host/3", "mlruns/artifacts/x", " "),
    *("/project", "//project/mlruns", "///project", "/elsewhere", "//host/share", "\\\\host\\share", "signals", "."),
    *("file:///project/mlruns/artifacts", "file:///project/%6Dlruns/x", "FILE:/x", "file:x", "file://localhost/x"),
    *("/proc/self/cwd/mlruns", "/proc/self/root/project", "/dev/fd/3", "pipelines", "signals/date=2017-12-26"),
    *(".git/hooks", "~/x", "$HOME/x", "s3://bucket/x", "sftp://localhost/project", "runs:/r/x", "models:/m-1"),
    *("sqlite:///mlruns/mlflow.db", "dbfs:/x", "http://127.0.0.1/x", "\t", "%2Fproject", "c:\\project"),
]


@pytest.mark.parametrize("location", LOCATIONS)
def test_an_experiment_keeps_its_files_where_the_server_puts_them(location):
    refused(ask("CreateExperiment", name="mine", artifact_location=location), "artifact_location")
    assert ask("CreateExperiment", name="mine", artifact_location="") == ALLOW


@pytest.mark.parametrize("location", LOCATIONS)
def test_the_server_writes_no_file_where_it_has_assigned_none(location):
    """The location of an experiment that somebody else made, or made before there was this rule."""
    try:
        path = assigned_path(f"{location}/run/artifacts")
    except GovernanceError:
        return
    assert not is_assigned(path) or path.startswith(("/experiments/3/", "/3/"))


def test_nobody_takes_the_name_of_the_governed_experiment():
    refused(ask("CreateExperiment", name=MODEL), "signals register")
    refused(ask("UpdateExperiment", name="", experiment_id="7", new_name=MODEL), "signals register")
    assert ask("UpdateExperiment", name="", experiment_id="7", new_name="mine") == ALLOW
