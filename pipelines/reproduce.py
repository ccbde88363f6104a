"""`signals reproduce`: make a version again in a clean checkout of its commit, and compare every byte."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

import numpy as np
import yaml

from core.checkout import PARAMS
from core.errors import ConfigError, GovernanceError
from core.files import write_text
from core.params import read_yaml
from governance.dvc_lock import DvcLock
from governance.git import copy_commit, outside_hooks
from governance.policy import load_policy
from governance.reproduction import (
    Origin,
    first_to_differ,
    largest_difference,
    origin,
    other_libraries,
    other_machine,
    promises_bytes,
    rebuilt_params,
    require_same_tables,
)
from governance.seal import broken
from governance.trust import state_now
from pipelines.console import Printer
from pipelines.layout import LOCK
from pipelines.scratch import scratch_folder
from pipelines.stages import StageError, search_path
from pipelines.versions import version_named

_GRACE = 10.0

TOLERANCE = 1e-3
"""Relative difference up to which a bundle agrees where its bytes are not promised."""


def reproduce(root: Path, version: str, *, keep: bool = False, anyway: bool = False, cache: bool = False) -> None:
    """Rebuild a version from what its lineage names; nothing is written to the checkout, MLflow or the ledger.

    Parameters
    ----------
    keep
        Leave the rebuilt checkout behind.
    anyway
        Go on where the libraries are not those that the version was made with.
    cache
        Begin with the outs that DVC's cache holds; it is only read.

    Raises
    ------
    GovernanceError
        The version cannot be made again, the environment is another one, or what came out differs: in any byte where
        these are promised (see `core.numerics`), else by more than `TOLERANCE`.
    DataError
        A table that the version was made from has changed.
    StageError
        A stage failed in the clean checkout.
    """
    printer = Printer()
    state = state_now(root, load_policy(root))
    made = origin(root, state, version_named(root, state, version))
    require_same_tables(made, root)
    _require_environment(made, anyway, printer)
    with _ended_in_order(), scratch_folder("reproduce", keep) as folder:
        printer.line(f"version {made.version}: commit {made.commit[:12]}, stage {made.stage}, in {folder}")
        if not promises_bytes(made):
            printer.line("its bytes are not promised on this machine: the bundles are compared by tolerance")
        checkout = _prepare(made, root, folder, cache)
        _repro(made, checkout)
        differ = broken(checkout / made.bundle, made.files)
        lock = DvcLock.of(read_yaml(checkout / LOCK))
        apart = np.inf if not differ or promises_bytes(made) else _apart(made, checkout / made.bundle)
    if keep:
        printer.line(f"kept: {checkout}")
    if not differ:
        printer.line(f"version {made.version} is reproduced: {len(made.files)} files, every byte the same", "green")
        return
    _show(made, lock, differ, printer)
    if apart <= TOLERANCE:
        printer.line(
            f"version {made.version} agrees within tolerance: numbers differ by {apart:.1e} at most ({TOLERANCE:.0e} "
            "is allowed); the same bytes are promised on Linux, x86-64-v3 and `numerics: portable` only",
            "yellow",
        )
        return
    raise GovernanceError(
        f"version {made.version} is NOT reproduced: {len(differ)} of {len(made.files)} files differ "
        f"(the first: {differ[0]}); look at what was made {'there' if keep else 'with --keep'}"
    )


def _require_environment(made: Origin, anyway: bool, printer: Printer) -> None:
    others = other_libraries(made)
    if others and not anyway:
        more = f" (and {len(others) - 1} more)" if others[1:] else ""
        raise GovernanceError(
            f"version {made.version} was made with other libraries: {others[0]}{more}: install those of its "
            f"requirements.lock (`git show {made.commit[:12]}:requirements.lock`), or try with --anyway"
        )
    for other in others:
        printer.warning(f"another library than the version was made with: {other}")


def _prepare(made: Origin, root: Path, folder: Path, cache: bool) -> Path:
    """The clean checkout with the version's parameters, and with its lock and the cache where that is wanted."""
    nothing = folder / "nothing"
    nothing.mkdir()
    checkout = copy_commit(root, made.commit, folder / "checkout")
    values = rebuilt_params(made, root, nothing)
    write_text(checkout / PARAMS, yaml.safe_dump(values, sort_keys=False))
    (checkout / LOCK).unlink(missing_ok=True)
    if cache:
        write_text(checkout / LOCK, made.lineage["dvc_lock"]["content"])
        # Copies: a link would let a stage write into the shared cache.
        write_text(checkout / ".dvc/config.local", f"[cache]\n    dir = {_cache(root)}\n    type = copy\n")
        if _dvc(checkout, "checkout", "--quiet", "--allow-missing"):
            raise StageError("DVC could not read its cache (see its message above): try without --cache")
    return checkout


def _cache(root: Path) -> str:
    """Folder of the checkout's DVC cache."""
    asked = subprocess.run(
        [sys.executable, "-m", "dvc", "cache", "dir"], cwd=root, capture_output=True, text=True, check=False
    )
    if asked.returncode:
        raise ConfigError(f"{root}: DVC names no cache ({' '.join(asked.stderr.split())}): try without --cache")
    return asked.stdout.strip()


def _repro(made: Origin, checkout: Path) -> None:
    """Run every stage up to the bundle; the cache is not written to."""
    always = () if (checkout / LOCK).exists() else ("--force",)
    if _dvc(checkout, "repro", "--no-commit", "--no-run-cache", *always, made.stage):
        raise StageError(
            f"version {made.version} could not be made again: a stage stopped in the clean checkout (see its message "
            "above); look at it there with --keep"
        )


def _dvc(checkout: Path, *words: str) -> int:
    """Run DVC in the checkout, on the checkout's own code, and end it with all its stages if this process is ended."""
    inherited = os.environ.get("PYTHONPATH", "")
    env = {
        **outside_hooks(),
        "PATH": search_path(),
        "PYTHONPATH": os.pathsep.join(filter(None, [str(checkout), inherited])),
        "SIGNALS_ROOT": str(checkout),
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "dvc", *words], cwd=checkout, env=env, stdin=subprocess.DEVNULL, start_new_session=True
    )
    try:
        return process.wait()
    except BaseException:
        _end(process)
        raise


def _end(process: subprocess.Popen) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_GRACE)
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@contextlib.contextmanager
def _ended_in_order() -> Iterator[None]:
    """Inside, a request to end raises SystemExit, so that what was begun is cleared away."""

    def end(number: int, _: FrameType | None) -> None:
        raise SystemExit(128 + number)

    before = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _apart(made: Origin, bundle: Path) -> float:
    """Largest relative difference between the numbers of the version's bundle and of the one made now."""
    names = {file.relative_to(bundle).as_posix() for file in bundle.rglob("*") if file.is_file()}
    if names != set(made.files):
        return np.inf
    return max(largest_difference(made.kept / name, bundle / name) for name in sorted(names))


def _show(made: Origin, rebuilt: DvcLock, differ: list[str], printer: Printer) -> None:
    printer.table(f"Version {made.version}: what came out different", ("file",), [[line] for line in differ])
    stage = first_to_differ(made, rebuilt)
    if stage is not None:
        printer.line(f"the first stage that wrote something else: {stage}")
    printer.line(f"made on {made.lineage['platform']}, python {made.lineage['python']}")
    for difference in other_machine(made):
        printer.line(f"another machine or setting: {difference}")
