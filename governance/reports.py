"""Reports that commands write beside those of the stages, and whether they are of the run on disk.

Such a report is a folder with a file `made_of.json`: the digest of every file that it was made from. It goes with a
version only while those files are the same, for otherwise it is of another run.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from core.errors import DataError
from core.files import digest_file, read_json
from governance.store import client as open_client
from governance.store import governing

if TYPE_CHECKING:
    from mlflow import MlflowClient

MADE_OF = "made_of.json"
TEAR_SHEET = "tearsheet"
COMPARED = "compare"


def digests(root: Path, files: Iterable[Path]) -> dict[str, str]:
    """SHA-256 of files by their path below the root.

    Raises
    ------
    DataError
        One is missing.
    """
    out = {}
    for file in files:
        if not (root / file).is_file():
            raise DataError(f"{root / file} is missing: run the stage that writes it (`dvc repro`)")
        out[file.as_posix()] = digest_file(root / file)
    return out


def changed(root: Path, report: Path) -> list[str]:
    """Files that are no longer what a report was made from.

    Parameters
    ----------
    report
        Folder of the report.

    Raises
    ------
    DataError
        The folder does not say what it was made from.
    """
    named = read_json(report / MADE_OF)
    if not isinstance(named, dict) or not named:
        raise DataError(f"{report / MADE_OF} names no file: make the report again")
    return [file for file, digest in named.items() if not _same(root / file, digest)]


def _same(file: Path, digest: str) -> bool:
    return file.is_file() and digest_file(file) == digest


def log_tear_sheet(root: Path, client: MlflowClient, run_id: str, reports: Path) -> list[str]:
    """Put the tear sheet beside the version, also where it came after it; one of another run stays out, and is told.

    It is no evidence: no gate reads it, and no approval rests on it.
    """
    folder = reports / TEAR_SHEET
    if not folder.is_dir():
        return []
    if stale := changed(root, folder):
        return [f"the tear sheet is of another run ({stale[0]} changed since): `signals tearsheet` makes it again"]
    client.log_artifacts(run_id, str(folder), TEAR_SHEET)
    return []


def log_comparison(root: Path, run_id: str, folder: Path) -> None:
    """Put a comparison with the champion among the files of a version's source run; no gate reads it.

    Raises
    ------
    StorageError
        The disk refused, or another command holds the registry.
    """
    with governing(root):
        open_client(root).log_artifacts(run_id, str(folder), f"{COMPARED}/{folder.name}")
