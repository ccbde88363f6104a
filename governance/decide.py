"""Rule on a request to the MLflow server, and carry out the decision it asks for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from core.errors import GovernanceError, SignalsError, StorageError
from governance import promotion
from governance.access_log import Person
from governance.gates import GovernanceRule
from governance.people import identities, same_person
from governance.policy import load_policy
from governance.rulings import BY, CHAMPION, Known, Request, Ruling, concerns, refuse, rule
from governance.snapshot import snapshot


def ruling_on(
    root: Path, person: Person, name: str, read: Callable[[str], Request]
) -> tuple[Request, Ruling | None, tuple[str, str] | None]:
    """Read a request and rule on it.

    Returns
    -------
    Request
        As it was read; of the given name where it could not be.
    Ruling or None
        None where the request does not concern what is governed, or nothing could be decided.
    tuple of str or None
        Message and MLflow error code where nothing could be decided: nothing is let through then.
    """
    from mlflow.exceptions import MlflowException

    asked = Request(name)
    try:
        policy = load_policy(root)
        asked = read(policy.model)
        return asked, decide(root, policy, person, asked) if concerns(asked, policy.model) else None, None
    except StorageError as error:
        return asked, None, (str(error), "TEMPORARILY_UNAVAILABLE")
    except SignalsError as error:
        return asked, refuse(str(error)), None
    except MlflowException as error:
        return asked, None, (error.message, error.error_code)
    except RecursionError:
        return asked, None, ("the request is nested too deeply to be read", "INVALID_PARAMETER_VALUE")


def decide(root: Path, policy: GovernanceRule, person: Person, asked: Request) -> Ruling:
    """Rule on a request, and carry out the decision it asks for.

    Raises
    ------
    GovernanceError
        The ledger or the registry cannot be trusted, or the decision may not be made.
    StorageError
        The disk refused, or another command holds the registry.
    """
    _, state, registry = snapshot(root, policy.model, policy.require_signatures)
    known = Known(root, policy.model, state, registry)
    ruling = rule(asked, known)
    if ruling.verdict == "promote":
        promotion.promote(root, policy, ruling.version, person.name, f"alias {CHAMPION} set in MLflow")
    elif ruling.verdict == "review":
        by = _reviewer(person, ruling.by)
        promotion.review(root, policy, ruling.version, ruling.status, by, ruling.comment)
    return ruling


def _reviewer(person: Person, named: str) -> str:
    """Who reviews: the login, or, where there is none, the name the tag gives (as `--by` does)."""
    if not person.verified:
        return named or person.name
    if not any("@" in identity for identity in identities(person.name)):
        raise GovernanceError(
            f"the login {person.name} is no email address, so nobody can tell whether it is the author's: "
            "give reviewers logins that are the addresses git knows them by"
        )
    if named and not same_person(named, person.name):
        raise GovernanceError(f"{BY} says {named}, but you are logged in as {person.name}: set it to your own name")
    return person.name


def error_of(message: str, code: str) -> tuple[int, str]:
    """Status and body of an error in MLflow's own form, which its pages show."""
    from mlflow.exceptions import MlflowException
    from mlflow.protos import databricks_pb2

    error = MlflowException(message, error_code=databricks_pb2.ErrorCode.Value(code))
    return error.get_http_status_code(), error.serialize_as_json()
