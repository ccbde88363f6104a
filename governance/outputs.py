"""Served sessions: whether what lies on the disk is what was written, by a champion that the ledger knows.

A manifest seals its session against accidents and careless hands. Whoever forges files, manifest and
seal together is found by `signals infer --as-of D --force`, which writes the same bytes again.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from core.errors import DataError, SignalsError
from core.files import canonical_json, differences, digest_bytes, digest_tree, read_json, write_json
from governance.chain import Chain

MANIFEST = "manifest.json"
WRITTEN = (MANIFEST, "signals.csv", "signals.parquet")
"""Names of a session's files."""
_REQUIRED = {"date": str, "bundle": str, "files": dict, "digest": str}
"""Type of the entries that every manifest has; those of previews alone have no version."""


def output_problems(folder: Path, chain: Chain) -> list[str]:
    """What of a served session is not as it was written, or was never the champion's to say."""
    try:
        manifest, problems = read_output(folder)
    except SignalsError as error:
        return [str(error)]
    head, version = str(manifest.get("promotion", "")), manifest.get("version")
    if head and not chain.contains(head):
        problems.append(f"it was served under the promotion {head[:24]}..., which is not in the ledger")
    promoted = {(r.payload.get("version"), r.payload.get("bundle_digest")) for r in chain.of_kind("promoted")}
    if (version, manifest.get("bundle")) not in promoted:
        problems.append(f"it says version {version} with a bundle that was never in production")
    return problems


def read_output(folder: Path) -> tuple[dict[str, Any], list[str]]:
    """The manifest of a session's folder, and how the folder differs from what was written.

    Every reader of served signals, risk, monitoring, a backfill or the audit, trusts a folder by this alone. Names that
    start with a dot, which file managers and synchronising programs leave, do not count.

    Raises
    ------
    DataError
        The manifest is missing, cannot be read, or lacks an entry that every manifest has.
    """
    if not folder.is_dir():
        raise DataError(f"{folder.name} is not a folder: move it away")
    if not (folder / MANIFEST).is_file():
        raise DataError(f"{folder.name}/{MANIFEST} is missing: write the signals of that session again (--force)")
    manifest = read_json(folder / MANIFEST)
    if not isinstance(manifest, dict):
        raise DataError(
            f"{folder.name}/{MANIFEST} is not a manifest: write the signals of that session again (--force)"
        )
    required = _REQUIRED if manifest.get("preview") else {**_REQUIRED, "version": int}
    for key, kind in required.items():
        if not isinstance(manifest.get(key), kind):
            raise DataError(
                f"{folder.name}/{MANIFEST} is not a manifest, it has no valid {key!r}: write the signals of that "
                "session again (--force)"
            )
    found = {name: digest for name, digest in digest_tree(folder, skip=(MANIFEST,)).items() if not _hidden(name)}
    problems = differences(manifest["files"], found)
    if manifest["digest"] != manifest_digest(manifest):
        problems.insert(0, f"{MANIFEST} was changed")
    if folder.name.startswith("date=") and folder.name != f"date={manifest['date']}":
        problems.insert(0, f"{MANIFEST} is of {manifest['date']} and was changed")
    return manifest, problems


def write_manifest(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Write the manifest of the files of a session's folder, sealed by its digest."""
    whole = {**manifest, "files": digest_tree(folder, skip=(MANIFEST,))}
    write_json(folder / MANIFEST, {**whole, "digest": manifest_digest(whole)})


def is_empty(folder: Path) -> bool:
    """Whether nothing is in the place of a session's folder, or a folder with hidden files at most."""
    if not folder.is_dir():
        return not os.path.lexists(folder)
    return all(_hidden(entry.name) for entry in folder.iterdir())


def refuse_foreign(folder: Path) -> None:
    """Refuse to put a session's signals in the place of anything but a session's files.

    Raises
    ------
    DataError
        There is a file in the place of the folder, a link to nothing, or something in the folder that was not written
        with the signals; writing them would remove it.
    """
    if is_empty(folder):
        return
    if not folder.is_dir():
        raise DataError(f"{folder} is not a folder: move it away, then write the signals of that session again")
    for entry in sorted(folder.iterdir()):
        if not _hidden(entry.name) and not (entry.name in WRITTEN and entry.is_file()):
            raise DataError(
                f"{folder} holds {entry.name!r}, which was not written with the signals: move it away, for it would be "
                "removed when they are written again"
            )


def _hidden(name: str) -> bool:
    return any(part.startswith(".") for part in name.split("/"))


def manifest_digest(manifest: Mapping[str, Any]) -> str:
    """Digest of a manifest, less the digest itself."""
    return digest_bytes(canonical_json({key: value for key, value in manifest.items() if key != "digest"}).encode())
