"""Every module that a stage imports is a dependency of it: no stage can be stale without DVC knowing."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
import yaml

ROOMS = (
    "core", "sources", "market", "features", "models", "portfolio",
    "reporting", "governance", "monitoring", "pipelines",
)  # fmt: skip
# Parameter blocks of every room are checked at the start of every stage, whichever it is; what the
# blocks say is tracked by `params`, not by the modules that declare them.
SETTLED = {"pipelines/params.py", "pipelines/stage.py", "pipelines/layout.py"}
# Registries find their modules by name; the stage lists the one it is about.
CHOSEN_BY_NAME = ("features/families/", "models/layers/", "sources/providers/")


def module_file(root: Path, name: str) -> str | None:
    path = root / name.replace(".", "/")
    if path.with_suffix(".py").is_file():
        return path.with_suffix(".py").relative_to(root).as_posix()
    if (path / "__init__.py").is_file():
        return (path / "__init__.py").relative_to(root).as_posix()
    return None


def imported(root: Path, file: str) -> set[str]:
    """Files of the project that a file imports, anywhere in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse((root / file).read_text())):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        for name in names:
            if name.split(".")[0] in ROOMS and (target := module_file(root, name)):
                found.add(target)
    return found


def reachable(root: Path, start: str) -> set[str]:
    seen: set[str] = set()
    todo = [start]
    while todo:
        file = todo.pop()
        if file in seen or file in SETTLED:
            continue
        seen.add(file)
        todo += imported(root, file)
    return seen


def covered(file: str, deps: list[str]) -> bool:
    return any(file == dep or file.startswith(dep + "/") for dep in deps)


def stages() -> dict[str, dict]:
    root = Path(__file__).resolve().parents[2]
    declared = yaml.safe_load((root / "dvc.yaml").read_text())["stages"]
    return {name: stage.get("do", stage) for name, stage in declared.items()}


@pytest.mark.parametrize("name", sorted(stages()))
def test_every_import_is_a_dependency(repository: Path, name: str) -> None:
    stage = stages()[name]
    start = stage["cmd"].split()[2].replace(".", "/") + ".py"
    missing = [
        file
        for file in sorted(reachable(repository, start))
        if not covered(file, stage["deps"]) and not file.startswith(CHOSEN_BY_NAME) and Path(file).name != "__init__.py"
    ]
    assert missing == []


@pytest.mark.parametrize("name", sorted(stages()))
def test_every_output_outlives_a_refused_input(name: str) -> None:
    stage = stages()[name]
    outs = [out for kind in ("outs", "metrics", "plots") for out in stage.get(kind, [])]
    assert outs
    assert all(isinstance(out, dict) and next(iter(out.values()))["persist"] for out in outs)


def test_every_declared_dependency_exists(repository: Path) -> None:
    outs = {next(iter(out)) for stage in stages().values() for out in stage["outs"]}
    produced = tuple(sorted({out.split("/")[0] + "/" for out in outs}))
    for name, stage in stages().items():
        for dep in stage["deps"]:
            if "${" not in dep and not dep.startswith(produced):
                assert (repository / dep).exists(), f"{name}: {dep}"
