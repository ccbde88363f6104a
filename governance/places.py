"""Where the governed store is: `mlruns/` below the root of the checkout, and `signals:/` addresses.

MLflow stores absolute artifact locations, so moving a checkout would lose every artifact. A
`signals:/path` address names a place relative to the project root instead, and is resolved anew
by each process.
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlparse

from core.checkout import find_root
from core.errors import GovernanceError

SCHEME = "signals"
STORE = Path("mlruns")
DATABASE = STORE / "mlflow.db"
ARTIFACTS = STORE / "artifacts"
APART = ("compare", "monitor", "tearsheet", "truth.json")
"""What commands leave among the reports, of whichever run was the last then: it is no part of a version's evidence.
The tear sheet goes with the version all the same where it is of its run (`governance.reports`)."""
LEDGER = STORE / "ledger.jsonl"
ACCESS_LOG = STORE / "access.jsonl"
USERS = STORE / "users.db"
LOCK = STORE / ".governance.lock"
KEYS = Path("keys.yaml")
"""Whose signature counts; versioned with the code, so that a change of it is reviewed like one."""


def resolve(uri: str, root: Path | None = None) -> Path:
    """Folder that a `signals:/...` address names.

    Raises
    ------
    GovernanceError
        The address has another scheme, a host, or leads outside the artifact folder.
    """
    parsed = urlparse(uri)
    if parsed.scheme != SCHEME or parsed.netloc or parsed.query or parsed.fragment:
        raise GovernanceError(f"artifact address {uri!r} is not of the form {SCHEME}:/path: register the version again")
    parts = PurePosixPath(unquote(parsed.path).lstrip("/")).parts
    base = ((root or find_root()) / ARTIFACTS).resolve()
    folder = base.joinpath(*parts).resolve()
    if ".." in parts or not folder.is_relative_to(base):
        raise GovernanceError(f"artifact address {uri!r} leads outside {ARTIFACTS}: register the version again")
    return folder
