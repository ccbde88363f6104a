"""`signals status`, `review` and `promote` through a team's MLflow server, from a machine without the ledger.

They ask for what the pages ask for, so the server's policy decides, and records the login. Address, user and password
are MLflow's own environment variables, which MLflow's client reads; nothing here sees the password.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from core.errors import ConfigError, GovernanceError
from core.text import require_text
from governance.people import LONGEST_COMMENT
from governance.rulings import CHAMPION, COMMENT, STATUS
from governance.store import quiet_mlflow
from pipelines.console import Printer

if TYPE_CHECKING:
    from mlflow import MlflowClient

ADDRESS = "MLFLOW_TRACKING_URI"


def team_server() -> str | None:
    """Address of the team's server; None where the environment names none.

    Raises
    ------
    ConfigError
        The address holds a password.
    """
    address = os.environ.get(ADDRESS, "")
    if not address.startswith(("http://", "https://")):
        return None
    if urlsplit(address).username is not None:
        raise ConfigError(
            f"{ADDRESS} holds a user: name the server alone, and set MLFLOW_TRACKING_USERNAME and "
            "MLFLOW_TRACKING_PASSWORD"
        )
    return address


def require_ledger(command: str) -> None:
    """Refuse a command that writes the ledger where that lies on a server.

    Raises
    ------
    ConfigError
        The environment names a team's server.
    """
    if team_server() is not None:
        raise ConfigError(
            f"`signals {command}` writes the ledger, which lies on the host of the server that {ADDRESS} names: run it "
            f"there, or unset {ADDRESS} to use the ledger of this checkout"
        )


def review(address: str, model: str, version: str, status: str, by: str | None, comment: str) -> None:
    """Approve or reject a version, as the user who is logged in.

    Raises
    ------
    ConfigError
        A name is given: the login is the name; or the comment is not text that can be recorded.
    GovernanceError
        The server refuses, or cannot be reached.
    """
    _require_login(by)
    comment = require_text(comment, "the comment of a review", LONGEST_COMMENT)
    with _asking(address) as client:
        number = _number(client, model, version)
        client.set_model_version_tag(model, number, COMMENT, comment)
        client.set_model_version_tag(model, number, STATUS, status)
    Printer().line(f"version {number} {status}, in the ledger of {address}")


def promote(address: str, model: str, version: str, by: str | None, comment: str) -> None:
    """Put a version into production, as the user who is logged in.

    Raises
    ------
    ConfigError
        A name is given, where the login is the name; or a comment, which an alias cannot carry.
    GovernanceError
        The server refuses, or cannot be reached.
    """
    _require_login(by)
    if comment:
        raise ConfigError("the promotion through a team's server carries no comment: say it in the review")
    with _asking(address) as client:
        number = _number(client, model, version)
        client.set_registered_model_alias(model, CHAMPION, number)
    Printer().line(f"version {number} is the champion, in the ledger of {address}")


def status(address: str, model: str) -> None:
    """Print the versions as the server shows them.

    Raises
    ------
    GovernanceError
        The server refuses, or cannot be reached.
    """
    with _asking(address) as client:
        aliases = client.get_registered_model(model).aliases
        versions = sorted(client.search_model_versions(f"name = '{model}'"), key=lambda row: -int(row.version))
    rows = [
        (
            str(row.version),
            ", ".join(sorted(alias for alias, number in aliases.items() if str(number) == str(row.version))),
            *(row.tags.get(key, "") for key in ("gates.verdict", "gates.failed", STATUS, "review.by")),
        )
        for row in versions
    ]
    printer = Printer()
    printer.table(f"{model} at {address}", ("version", "aliases", "gates", "failed", "review", "by"), rows)
    printer.line("what serves is decided by the ledger, on the server's host: `signals status` there checks it")


def _require_login(by: str | None) -> None:
    if by is not None:
        raise ConfigError("--by is not for a team's server, which takes the name of who is logged in: leave it out")


def _number(client: MlflowClient, model: str, version: str) -> str:
    return version if version.isdecimal() else str(client.get_model_version_by_alias(model, version).version)


@contextmanager
def _asking(address: str) -> Iterator[MlflowClient]:
    quiet_mlflow()
    # One answer is enough: a person is waiting.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    try:
        yield MlflowClient(tracking_uri=address, registry_uri=address)
    except MlflowException as error:
        raise GovernanceError(f"{address}: {error.message}") from error
