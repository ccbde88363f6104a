"""What the MLflow server lets through: a pure decision about one request.

Two things are the project's own and written by `signals register` alone: the registered model of
the policy, with everything the ledger says about it, and the experiment of the same name, with the
runs and files behind its versions. Around them MLflow stays as it is. Two requests are decisions
about a version and are handed on as such: the alias `champion` asks for a promotion, the tag
`review.status` for a review; whoever carries them out applies the checks of the command line.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from core.text import require_text
from governance.endpoints import KINDS
from governance.guard import row_problems
from governance.holdings import is_assigned, kept_folders, overlaps
from governance.people import LONGEST_COMMENT, LONGEST_NAME
from governance.registry import LEDGER_HEAD, Registry
from governance.state import State
from governance.sync import OURS, is_reserved

CHAMPION, PREVIOUS = "champion", "previous_champion"
STATUS, COMMENT, BY = "review.status", "review.comment", "review.by"
REVIEWS: Mapping[str, Literal["approved", "rejected"]] = {"approved": "approved", "rejected": "rejected"}

_ORIGIN = ("author", "trials", "projection", "level")
_ORIGIN_PREFIXES = ("git.", "dvc.")
_FREE = ("mlflow.note.content", "mlflow.sharedviewstate.")
# MLflow's own numbers: its `int` also reads other spellings, and no database column holds a longer one.
_NUMBER = re.compile(r"[1-9][0-9]{0,8}")


@dataclass(frozen=True)
class Request:
    """One request that would change something.

    Parameters
    ----------
    action
        MLflow's name of it, for example `SetRegisteredModelAlias`.
    fields
        What it says, as MLflow itself reads it.
    inside
        Whether it is about the governed experiment, or a run, trace or logged model of it.
    """

    action: str
    fields: Mapping[str, Any] = field(default_factory=dict)
    inside: bool = False

    def text(self, name: str) -> str:
        """A field as text; empty where the request has none."""
        return str(self.fields.get(name) or "")


@dataclass(frozen=True)
class Known:
    """What a ruling rests on: the ledger's state and the registry's rows."""

    root: Path
    model: str
    state: State
    registry: Registry


@dataclass(frozen=True)
class Ruling:
    """The decision: let it through, refuse it with a reason, or carry it out as a governed decision.

    Parameters
    ----------
    status, comment, by
        Of a review: what it says, why, and the reviewer's name where the request's tags give one.
    """

    verdict: Literal["allow", "refuse", "promote", "review"]
    reason: str = ""
    version: int = 0
    status: Literal["approved", "rejected"] = "approved"
    comment: str = ""
    by: str = ""


ALLOW = Ruling("allow")


def refuse(reason: str) -> Ruling:
    """A refusal; the reason is what the user reads."""
    return Ruling("refuse", reason)


def concerns(request: Request, model: str) -> bool:
    """Whether a request touches what is governed, so that it needs a ruling (and a line in the access log)."""
    kind = KINDS.get(request.action)
    if request.inside or kind in (None, "closed", "files"):
        return True
    if request.action in ("CreateExperiment", "UpdateExperiment"):
        return True
    return kind == "registry" and model in (request.text("name"), request.text("new_name"))


def rule(request: Request, known: Known) -> Ruling:
    """The ruling on a request that `concerns` the governed model."""
    kind = KINDS.get(request.action)
    if kind is None:
        return refuse(f"{request.action} is not known to the policy of this server, so it is not served")
    if kind == "closed":
        return refuse(f"{request.action} is closed on this server: it runs code, calls out or deletes as its user")
    if kind == "registry" and known.model in (request.text("name"), request.text("new_name")):
        if request.action in _OF_VERSION and not _NUMBER.fullmatch(request.text("version")):
            return refuse(f"{request.text('version')[:80]!r} is no version number")
        return _MODEL_RULES[request.action](request, known)
    if request.inside:
        return _inside(request)
    return _upload(request, known) if kind == "files" else _experiment(request, known)


# The registered model.


def _set_alias(request: Request, known: Known) -> Ruling:
    alias, version = request.text("alias").casefold(), _number(request)
    if alias == CHAMPION:
        champion = known.state.champion
        if champion is not None and champion.payload["version"] == version:
            return ALLOW
        return Ruling("promote", version=version)
    if alias == PREVIOUS:
        return refuse(f"the alias {PREVIOUS} follows the ledger: it is what `signals rollback` would restore")
    if alias not in ("candidate", "challenger"):
        return ALLOW
    if version not in known.state.registrations:
        return refuse(f"version {version} has no record in the ledger: only `signals register` brings a version in")
    problems = row_problems(known.registry, version, known.state.registration(version).payload)
    review = known.state.review(version)
    if alias == "challenger" and review is not None and review.payload["status"] == "rejected":
        problems.append(f"{review.actor} rejected it ({review.payload['comment']})")
    return refuse(f"version {version} may not be {alias}: {'; '.join(problems)}") if problems else ALLOW


def _delete_alias(request: Request, known: Known) -> Ruling:
    alias = request.text("alias").casefold()
    champion = known.state.champion if alias == CHAMPION else known.state.previous if alias == PREVIOUS else None
    if champion is None:
        return ALLOW
    return refuse(
        f"the ledger says version {champion.payload['version']} is the {alias.replace('_', ' ')}: set the alias "
        "champion on another version, or take the champion out with `signals rollback --reason TEXT`"
    )


def _set_version_tag(request: Request, known: Known) -> Ruling:
    key, version = request.text("key"), _number(request)
    if key not in (STATUS, COMMENT, BY):
        return _owned(key)
    if version not in known.state.registrations:
        return refuse(f"version {version} has no record in the ledger: there is nothing to review; `signals register`")
    if key != STATUS:
        require_text(request.text("value"), f"the tag {key}", LONGEST_NAME if key == BY else LONGEST_COMMENT)
        return ALLOW
    status = REVIEWS.get(request.text("value").strip().casefold())
    if status is None:
        return refuse(f"{STATUS} says approved or rejected, not {request.text('value')!r}")
    tags = known.registry.versions[version].tags if version in known.registry.versions else {}
    review = known.state.review(version)
    comment = tags.get(COMMENT, "").strip()
    if not comment or (review is not None and comment == review.payload["comment"]):
        return refuse(f"say first what you looked at: save the tag {COMMENT} with new words, then {STATUS} again")
    return Ruling("review", version=version, status=status, comment=comment, by=tags.get(BY, "").strip())


def _delete_version_tag(request: Request, _: Known) -> Ruling:
    key = request.text("key")
    if key in (STATUS, COMMENT, BY):
        return refuse(f"a review stays in the ledger: to take an approval back, set {STATUS} to rejected")
    return _owned(key)


def _owned(key: str) -> Ruling:
    if is_reserved(key):
        return refuse(f"the tag {key} is one that MLflow itself acts on; choose another name for your own")
    if key in _ORIGIN or key.startswith((*OURS, *_ORIGIN_PREFIXES)):
        return refuse(f"the tag {key} is written by the project from its ledger; choose another name for your own")
    return ALLOW


def _model_tag(request: Request, _: Known) -> Ruling:
    key = request.text("key")
    return refuse(f"the tag {key} ties the database to the ledger") if key == LEDGER_HEAD else _owned(key)


def _delete_version(request: Request, known: Known) -> Ruling:
    version = _number(request)
    reigned = sorted({reign.version for reign in known.state.reigns})
    if version in reigned:
        return refuse(f"version {version} is or was the champion: its files must stay, or its past cannot be shown")
    if version in known.state.registrations:
        return refuse(f"version {version} is registered in the ledger, which forgets nothing: reject it instead")
    return ALLOW


def _delete_model(_: Request, known: Known) -> Ruling:
    if not known.state.registrations:
        return ALLOW
    return refuse(f"{known.model} is governed: the ledger knows its versions {_list(known)}, and they must stay")


def _rename_model(_: Request, known: Known) -> Ruling:
    return refuse(
        f"the name {known.model} is that of the governed model: params.yaml and the ledger know it by this name"
    )


def _create_model(_: Request, known: Known) -> Ruling:
    return refuse(f"the model {known.model} is made by the first `signals register`")


def _create_version(_: Request, known: Known) -> Ruling:
    return refuse(f"a version of {known.model} comes from `signals register` alone, which judges it by the gates")


def _transition(_: Request, __: Known) -> Ruling:
    return refuse("stages are not used here: set the alias champion on an approved version instead")


def _update_version(request: Request, known: Known) -> Ruling:
    if _number(request) not in known.state.registrations:
        return ALLOW
    return refuse(f"the description shows the gates as the ledger has them: say it in the tag {COMMENT} instead")


_MODEL_RULES: Mapping[str, Callable[[Request, Known], Ruling]] = {
    "SetRegisteredModelAlias": _set_alias,
    "DeleteRegisteredModelAlias": _delete_alias,
    "SetModelVersionTag": _set_version_tag,
    "DeleteModelVersionTag": _delete_version_tag,
    "SetRegisteredModelTag": _model_tag,
    "DeleteRegisteredModelTag": _model_tag,
    "DeleteModelVersion": _delete_version,
    "DeleteRegisteredModel": _delete_model,
    "RenameRegisteredModel": _rename_model,
    "CreateRegisteredModel": _create_model,
    "UpdateRegisteredModel": lambda _, __: ALLOW,
    "CreateModelVersion": _create_version,
    "TransitionModelVersionStage": _transition,
    "UpdateModelVersion": _update_version,
}


_OF_VERSION = frozenset(
    ("SetRegisteredModelAlias", "SetModelVersionTag", "DeleteModelVersionTag", "DeleteModelVersion")
) | {"UpdateModelVersion"}


def _number(request: Request) -> int:
    return int(request.text("version"))


def _list(known: Known) -> str:
    return ", ".join(map(str, sorted(known.state.registrations)))


# The experiment, its runs and its files.

HARMLESS_INSIDE = frozenset({"RestoreRun", "RestoreExperiment"})
"""Requests about the governed experiment that change nothing a version rests on."""

_TAGS = frozenset({"SetTag", "DeleteTag", "SetExperimentTag", "DeleteExperimentTag"})


def _inside(request: Request) -> Ruling:
    if request.action in HARMLESS_INSIDE:
        return ALLOW
    if request.action in _TAGS:
        key = request.text("key")
        if _owned(key) == ALLOW or key.casefold().startswith(_FREE):
            return ALLOW
        return refuse(f"the tag {key} says where the run comes from, or is MLflow's own")
    return refuse(
        "this experiment holds what the versions were judged by: it is written by `signals register` alone; "
        "keep runs of your own in another experiment"
    )


def _upload(request: Request, known: Known) -> Ruling:
    folder = request.text("artifact_path")
    # A multipart upload names the folder in its route and the file in its body.
    place = f"{folder}/{request.text('path')}"
    kept = kept_folders(known.model, known.state)
    if overlaps(folder, kept) or overlaps(place, kept):
        return refuse(f"{folder or 'the whole store'}: files of registered versions may not be changed")
    if not is_assigned(place):
        return refuse(f"{place}: files go where the server puts those of an experiment, below its number")
    return ALLOW


def _experiment(request: Request, known: Known) -> Ruling:
    if known.model in (request.text("name"), request.text("new_name")):
        return refuse(f"the experiment {known.model} is made by the first `signals register`: choose another name")
    if request.text("artifact_location"):
        return refuse("an experiment keeps its files where this server puts them: leave artifact_location empty")
    return ALLOW
