"""Served sessions: whether what lies on the disk is what was written, by a champion that the ledger knows.

A manifest seals its session against accidents and careless hands. Whoever forges files, manifest and
seal together is found by `signals infer --as-of D --force`, which writes the same bytes again.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from core.errors import DataError, SignalsError
from core.files import canonical_json, differences, digest_bytes, digest_tree, read_json
from governance.chain import Chain

MANIFEST = "manifest.json"


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

    Every reader of served signals, risk, monitoring, a backfill or the audit, trusts a folder by this alone.

    Raises
    ------
    DataError
        The manifest is missing or cannot be read.
    """
    manifest = read_json(folder / MANIFEST)
    if not isinstance(manifest, dict) or not isinstance(manifest.get("files"), dict):
        raise DataError(f"{folder.name}/{MANIFEST} is not a manifest: it does not list the files of the session")
    problems = differences(manifest["files"], digest_tree(folder, skip=(MANIFEST,)))
    if manifest.get("digest", manifest_digest(manifest)) != manifest_digest(manifest):
        problems.insert(0, f"{MANIFEST} was changed")
    return manifest, problems


def manifest_digest(manifest: Mapping[str, Any]) -> str:
    """Digest of a manifest, less the digest itself."""
    return digest_bytes(canonical_json({key: value for key, value in manifest.items() if key != "digest"}).encode())
