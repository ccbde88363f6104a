"""Simulated markets whose truth is known: `python benchmarks/truth.py [--null 20] [--planted 3]`.

Each market is a run of the whole pipeline, in a copy of this checkout, with a seed of its own. Where nothing is planted
the gates should let no version pass; where a signal is planted, the stack should find most of it: its rank IC is
set against that of the oracle, the expected return that the market was made with, on the same rows. Gates about the
commit a version comes from are left out: a copy has none. Printed as JSON on standard output.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import yaml

from core.files import read_json
from core.params import merge

CHECKOUT = Path(__file__).resolve().parents[1]
ORIGIN = {"clean_tree", "lineage"}
SMALL: dict[str, Any] = {
    "universe": {"min_dollar_volume": 0.0},
    "features": {"families": ["market", "behaviour", "crowding", "macro"]},
    "folds": {"train_sessions": 630, "test_sessions": 189, "holdout_sessions": 189, "valid_sessions": 20},
    "layers": {
        "names": ["linear", "boosting", "behaviour"],
        "boosting": {"n_estimators": 60, "num_leaves": 7, "min_data_in_leaf": 100, "num_threads": 1, "seeds": 1},
    },
    "tuning": {"trials": 4},
}


def main() -> None:
    """Run the markets asked for and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--null", type=int, default=20, help="small markets without a signal")
    parser.add_argument("--planted", type=int, default=3, help="markets of the default size with one")
    parser.add_argument("--first-seed", type=int, default=101)
    arguments = parser.parse_args()
    seeds = range(arguments.first_seed, arguments.first_seed + max(arguments.null, arguments.planted))
    null = [told(seed, nothing_planted(seed)) for seed in seeds[: arguments.null]]
    planted = [told(seed, {"data": {"simulated": {"seed": seed}}}) for seed in seeds[: arguments.planted]]
    print(
        json.dumps(
            {
                "machine": {"cores": os.cpu_count()},
                "null": {"markets": len(null), "accepted": sum(market["accepted"] for market in null), "each": null},
                "planted": {"markets": len(planted), "each": planted},
            },
            indent=1,
        )
    )


def nothing_planted(seed: int) -> dict[str, Any]:
    """Parameters of a small market without a signal."""
    market = {
        "symbols": 40,
        "start": "2012-01-03",
        "end": "2016-12-30",
        "preset": "null",
        "planted_ic": None,
        "seed": seed,
    }
    return {**SMALL, "data": {"simulated": market}}


def told(seed: int, changes: dict[str, Any]) -> dict[str, Any]:
    """What a market's run comes to."""
    started = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="truth-") as name:
        root = Path(name)
        copy_checkout(root, changes)
        run(root, "dvc", "repro", "-q")
        run(root, "pipelines.cli", "register")
        ledger = [json.loads(line) for line in (root / "mlruns/ledger.jsonl").read_text().splitlines()]
        registered = next(record for record in reversed(ledger) if record["kind"] == "registered")
        gates = registered["payload"]["gates"]
        failed = [gate["gate"] for gate in gates if not gate["passed"] and gate["severity"] == "block"]
        origin = {gate["name"] for gate in policy(root) if gate.get("check") in ORIGIN}
        found = read_json(root / "reports/metrics.json")
        result = {
            "seed": seed,
            "accepted": not set(failed) - origin,
            "failed": sorted(set(failed) - origin),
            "rank_ic": round(found["test"]["stack"]["rank_ic"], 4),
            "rank_ic_t": round(found["test"]["stack"]["rank_ic_t"], 2),
            "holdout_rank_ic": round(found["holdout"]["stack"]["rank_ic"], 4),
        }
        run(root, "pipelines.cli", "truth")
        result |= against_oracle(read_json(root / "reports/truth.json"))
    result["wall_s"] = round(time.perf_counter() - started, 1)
    print(json.dumps(result), file=sys.stderr, flush=True)
    return result


def copy_checkout(root: Path, changes: dict[str, Any]) -> None:
    """Copy what git would commit, with other parameters, and what is compiled already."""
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "-z"], cwd=CHECKOUT, check=True, capture_output=True
    ).stdout.decode()
    names = [name for name in listed.split("\0") if name and name != "dvc.lock" and (CHECKOUT / name).is_file()]
    compiled = [path.relative_to(CHECKOUT).as_posix() for path in CHECKOUT.glob("[fm]*/**/__pycache__/*.nb[ic]")]
    for name in (*names, *compiled):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes((CHECKOUT / name).read_bytes())
    values = yaml.safe_load((root / "params.yaml").read_text())
    merge(values, {"data": {"source": "simulated", "path": "data/files"}})
    merge(values, changes)
    (root / "params.yaml").write_text(yaml.safe_dump(values, sort_keys=False))
    subprocess.run(["git", "init", "-q"], cwd=root, check=True)


def run(root: Path, *words: str) -> None:
    """Run `python -m WORDS` in a copy; what it prints is shown only if it fails."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    env = {**os.environ, "PATH": path, "PYTHONPATH": str(root), "DVC_NO_ANALYTICS": "1"}
    done = subprocess.run([sys.executable, "-m", *words], cwd=root, env=env, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(words)} ended with {done.returncode}\n{done.stdout}\n{done.stderr}")


def policy(root: Path) -> list[dict[str, Any]]:
    """Gates of a copy."""
    return yaml.safe_load((root / "params.yaml").read_text())["governance"]["gates"]


def against_oracle(truth: dict[str, Any]) -> dict[str, Any]:
    """The oracle's rank IC before the holdout and the share that the stack finds; nothing where nothing is planted."""
    if not truth["planted"]:
        return {}
    wanted = {"part": "test", "regime": "all", "model": "stack"}
    (stack,) = (line for line in truth["found"] if wanted.items() <= line.items())
    return {"oracle_rank_ic": stack["oracle_rank_ic"], "recovered": stack["share"]}


if __name__ == "__main__":
    main()
