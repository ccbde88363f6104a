"""The operator's walk of docs/operations.md, line by line as written."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from core.files import read_json
from governance.ledger import Ledger
from sources.calendar import sessions

pytestmark = pytest.mark.slow

LAST = {"written": "2017-12-29", "here": "2016-12-30"}
"""Last session of the market that the page simulates, and of the small one here."""


def commands(repository: Path) -> list[tuple[str, int]]:
    """Every command of the walk, with the exit code that the page names beside it."""
    text = (repository / "docs/operations.md").read_text()
    walk = text[text.index("## The whole walk") : text.index("## What it writes")]
    lines = [line for block in re.findall(r"```console\n(.*?)```", walk, re.DOTALL) for line in block.splitlines()]
    codes = [re.search(r"# ends with (\d+)", line) for line in lines]
    return [(line, int(code[1]) if code else 0) for line, code in zip(lines, codes, strict=True)]


def on_the_small_market(line: str) -> str:
    """The same command for a market of other years, without the environment that `make` would create."""
    written, here = (sessions(f"{last[:4]}-11-01", last)[::-1].astype(str) for last in LAST.values())
    for old, new in zip(written, here, strict=False):
        line = line.replace(old, new)
    line = line.replace("simulate --start 2008-01-02", "simulate --symbols 40 --start 2012-01-03 --end 2016-12-30")
    line = line.replace("--out data/market", "--planted-ic 0.2 --out data/market") if "simulate" in line else line
    return re.sub(r"^make run(?: DATA=(\S+))?$", lambda m: "signals run" + (f" --data {m[1]}" if m[1] else ""), line)


def test_the_walk_runs_as_written(finished, repository: Path, tmp_path: Path) -> None:
    project = finished.copy(tmp_path / "project")
    # Forty symbols over five years can neither be a broad book nor rule luck out.
    gates = yaml.safe_load((project.root / "params.yaml").read_text())["governance"]["gates"]
    beyond = ("concentration", "deflated_sharpe")
    project.set_params({"governance": {"gates": [gate for gate in gates if gate["name"] not in beyond]}})
    project.env["HOME"] = str(tmp_path / "home")
    script = tmp_path / "bin/signals"
    script.parent.mkdir()
    script.write_text(f'#!/bin/sh\nexec {sys.executable} -m pipelines.cli "$@"\n')
    # The stages find the interpreter of the command: no environment needs to be activated.
    stranger = script.with_name("python")
    stranger.write_text("#!/bin/sh\nexit 42\n")
    for file in (script, stranger):
        file.chmod(0o755)
    project.env["PATH"] = f"{script.parent}:/usr/bin:/bin"
    told = {}
    for line, code in commands(repository):
        command = on_the_small_market(line)
        done = subprocess.run(
            ["bash", "-c", f"set -o pipefail; {command}"],
            cwd=project.root,
            env=project.env,
            capture_output=True,
            text=True,
        )
        assert done.returncode == code, f"{command} ended with {done.returncode}\n{done.stdout}\n{done.stderr}"
        told[line] = done.stdout + done.stderr

    trained = told["make run DATA=data/market"]
    assert "python -m pipelines.ingest" in trained
    assert "Gates of version 1" in trained
    assert "PREVIEW" in trained
    again = project.signals("run").stdout
    assert "Running stage" not in again
    assert "was registered before" in again
    assert "nothing to do" in told["signals infer --as-of 2017-12-20"]
    assert "prices.parquet is not readable Parquet" in next(out for line, out in told.items() if "ends with 3" in line)
    assert "frozen by Olga" in next(out for line, out in told.items() if "ends with 7" in line)
    assert "nothing broke" in told["signals audit"]
    assert "UNSIGNED" not in told["signals audit"]
    days = sorted(path.name for path in (project.root / "signals").glob("date=*"))
    served = sessions("2016-12-01", LAST["here"])[-len(days) :].astype(str)
    assert days == [f"date={day}" for day in served]
    versions = [read_json(project.root / "signals" / day / "manifest.json")["version"] for day in days]
    assert versions == [1] * 7 + [2, 1]
    chain = Ledger(project.root / "mlruns/ledger.jsonl").read()
    assert len(chain.of_kind("promoted")) == 2
    assert all(record.signature for record in chain.of_kind("reviewed", "promoted", "rolled_back", "unfrozen"))
