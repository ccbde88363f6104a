"""What git says of a checkout, and a clean copy of one of its commits."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from core.errors import GovernanceError

_PATIENCE = 60
_SETTINGS = {
    "core.hooksPath": os.devnull,
    "core.fsmonitor": "false",
    "core.untrackedCache": "false",
    "core.attributesFile": os.devnull,
    "core.excludesFile": os.devnull,
    "core.ignoreStat": "false",
    "core.checkStat": "default",
    "core.trustctime": "true",
    "core.fileMode": "true",
}
# A checkout's own settings can run a program at every command, or hide what was changed; so can replaced objects.
_GIT = ("git", "--no-replace-objects", *(word for key, value in _SETTINGS.items() for word in ("-c", f"{key}={value}")))
# What git sets for the commands of its hooks: it would point every git below at one repository.
_OF_A_HOOK = (
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_COMMON_DIR",
    "GIT_DIR",
    "GIT_INDEX_FILE",
    "GIT_OBJECT_DIRECTORY",
    "GIT_PREFIX",
    "GIT_WORK_TREE",
)


def ask(root: Path, *arguments: str) -> str | None:
    """What a git command prints; None where it fails or there is no git."""
    try:
        done = subprocess.run(
            [*_GIT, *arguments],
            cwd=root,
            env=outside_hooks(),
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=_PATIENCE,
            check=False,
        )
    except FileNotFoundError:
        return None
    return done.stdout.strip("\n") if done.returncode == 0 else None


def changed_paths(root: Path) -> list[str] | None:
    """Paths below a folder whose content is not that of the commit, relative to it; None outside a repository.

    Files that the checkout is told to pass over count as changed: those flagged `skip-worktree` or `assume-unchanged`,
    and untracked ones that only `.git/info/exclude` or the user's own list ignores.
    """
    prefix, top = ask(root, "rev-parse", "--show-prefix"), ask(root, "rev-parse", "--show-toplevel")
    edited = ask(root, "status", "--porcelain=v1", "-z", "--untracked-files=no", "--no-renames", "--", ".")
    untracked = ask(root, "ls-files", "-z", "--others", "--exclude-per-directory=.gitignore")
    flagged = ask(root, "ls-files", "-z", "-v")
    if prefix is None or top is None or edited is None or untracked is None or flagged is None:
        return None
    if (Path(top) / prefix).resolve() != root.resolve():
        return ["core.worktree in .git/config, which is another folder"]
    paths = {entry[3:].removeprefix(prefix) for entry in edited.split("\0") if entry}
    paths.update(path for path in untracked.split("\0") if path)
    paths.update(entry[2:] for entry in flagged.split("\0") if entry[:1].islower() or entry[:1] == "S")
    return sorted(paths)


def copy_commit(root: Path, commit: str, folder: Path) -> Path:
    """Check a commit out into a folder, by a clone that borrows the repository's objects.

    Nothing is written to the repository: a registered worktree would outlive a killed process there.

    Parameters
    ----------
    root
        The project's folder; the repository's own, or one below it.

    Returns
    -------
    Path
        The project's folder in the clone.

    Raises
    ------
    GovernanceError
        The repository does not hold the commit, or git cannot check it out.
    """
    top, prefix = ask(root, "rev-parse", "--show-toplevel"), ask(root, "rev-parse", "--show-prefix")
    if top is None or prefix is None:
        raise GovernanceError(f"{root} is no git repository: run from the checkout that made the version")
    if ask(root, "cat-file", "-e", f"{commit}^{{commit}}") is None:
        raise GovernanceError(
            f"commit {commit[:12]} is not in this repository: fetch the branch that holds it (`git fetch --all`)"
        )
    # A template or a hook of the user's could change what is checked out.
    _run("clone", "--quiet", "--shared", "--no-checkout", "--template=", "--", top, str(folder))
    _run("-C", str(folder), "checkout", "--quiet", "--detach", commit)
    return folder / prefix


def outside_hooks() -> dict[str, str]:
    """The environment less what ties git commands to one repository."""
    return {name: value for name, value in os.environ.items() if name not in _OF_A_HOOK}


def _run(*arguments: str) -> None:
    done = subprocess.run(
        [*_GIT, *arguments], env=outside_hooks(), capture_output=True, encoding="utf-8", errors="replace", check=False
    )
    if done.returncode:
        reason = " ".join(done.stderr.split())
        raise GovernanceError(f"git could not make a clean checkout ({reason}): mend that and run again")
