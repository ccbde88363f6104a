"""Our trainer against a bare PyTorch loop: `python benchmarks/sequence.py [--networks gru tcn ...] [--repeat N]`.

Both train the same network from the same seed on the same days in the same order, on one thread, so they end with the
same weights, bit for bit (`same_weights`). A figure is of a process of its own; the two take turns, and what counts is
the fastest of `--repeat` runs: whatever else the machine did can only have slowed a run down. Printed as JSON on
standard output: wall and CPU seconds of the training, peak memory of the process, stock-days a second, and the
trainer's speed as a share of the bare loop's.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
NETWORKS = ("gru", "tcn", "dlinear", "tsmixer", "patch", "cross")
SEED = 7


def main() -> None:
    """Run what is asked for and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS), choices=NETWORKS)
    parser.add_argument("--stocks", type=int, default=450, help="stocks of a day")
    parser.add_argument("--lookback", type=int, default=20, help="sessions of a window")
    parser.add_argument("--channels", type=int, default=10, help="values a session")
    parser.add_argument("--days", type=int, default=400, help="days of an epoch")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--repeat", type=int, default=3, help="runs of which the fastest counts")
    parser.add_argument("--task", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.task:
        print(json.dumps(run(json.loads(arguments.task))))
        return
    sizes = {key: getattr(arguments, key) for key in ("stocks", "lookback", "channels", "days", "epochs")}
    result: dict[str, Any] = {
        "machine": {"cores": os.cpu_count(), "python": platform.python_version(), "processor": platform.machine()},
        "sizes": sizes,
        "threads": 1,
    }
    for network in arguments.networks:
        runs: dict[str, list[dict[str, Any]]] = {"ours": [], "bare": []}
        for _ in range(arguments.repeat):
            for way, found in runs.items():
                found.append(measure({**sizes, "network": network, "way": way}))
        result[network] = compare(runs, sizes)
    print(json.dumps(result, indent=2))


def compare(runs: dict[str, list[dict[str, Any]]], sizes: dict[str, int]) -> dict[str, Any]:
    """Best times of the two ways, and their ratios."""
    told: dict[str, Any] = {}
    seen = sizes["stocks"] * sizes["days"] * sizes["epochs"]
    for way, found in runs.items():
        wall, cpu = (min(run[key] for run in found) for key in ("fit_wall_s", "fit_cpu_s"))
        told[way] = {
            "wall_s": round(wall, 2),
            "cpu_s": round(cpu, 2),
            "peak_mib": round(max(run["peak_mib"] for run in found)),
            "stock_days_per_s": round(seen / wall),
            "stock_days_per_cpu_s": round(seen / cpu),
        }
    digests = {run["weights"] for found in runs.values() for run in found}
    return {
        **told,
        "share_of_bare_wall": round(told["bare"]["wall_s"] / told["ours"]["wall_s"], 3),
        "share_of_bare_cpu": round(told["bare"]["cpu_s"] / told["ours"]["cpu_s"], 3),
        "same_weights": len(digests) == 1,
    }


def measure(work: dict[str, Any]) -> dict[str, Any]:
    """Run one way of training in a fresh process."""
    one = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"), "1")
    done = subprocess.run(
        # -P: this folder stays off the path, where features.py would hide the package of the same name.
        [sys.executable, "-P", str(HERE / "sequence.py"), "--task", json.dumps(work)],
        env={**os.environ, **one, "PYTHONPATH": str(HERE.parent)}, stdout=subprocess.PIPE, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise SystemExit(
            f"{work['network']} ({work['way']}) failed with code {done.returncode}; its messages are above"
        )
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return told


# --- one process -----------------------------------------------------------------------------------------------


def run(work: dict[str, Any]) -> dict[str, Any]:
    """Train one way, after a short training that pays for what only the first one pays."""
    train = ours if work["way"] == "ours" else bare
    train(work, days=4)
    wall, cpu = time.perf_counter(), time.process_time()
    weights = train(work, days=work["days"])
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return {"fit_wall_s": wall, "fit_cpu_s": cpu, "weights": weights, "peak_mib": helpers().usage()["peak_mib"]}


def ours(work: dict[str, Any], days: int) -> str:
    """Lightning's trainer, as the layer uses it; the digest of the weights."""
    from models.sequence_training import fit_network

    return digest(fit_network(params(work), batches(work, days), None, SEED).network)


def bare(work: dict[str, Any], days: int) -> str:
    """The loop written out, on the same batches and loss; the digest of the weights."""
    import torch

    from models.sequence_scoring import make_network, seeded, steady
    from models.sequence_training import day_loss

    chosen = params(work)
    with steady(1), seeded(SEED):
        network = make_network(chosen, work["channels"])
        descent = torch.optim.AdamW(
            network.parameters(), lr=chosen.learning_rate, weight_decay=chosen.weight_decay, fused=True
        )
        data = batches(work, days)
        for _ in range(work["epochs"]):
            for x, mask, label, weight in data:
                loss = day_loss(network(x, mask), label, weight, chosen.mse_weight)
                descent.zero_grad()
                loss.backward()
                torch.nn.utils.clip_grad_norm_(network.parameters(), chosen.gradient_clip)
                descent.step()
    return digest(network)


def params(work: dict[str, Any]) -> Any:
    """The layer's defaults at the sizes asked for."""
    from models.layers.sequence import SequenceParams

    return SequenceParams(network=work["network"], lookback=work["lookback"], epochs=work["epochs"], num_threads=1)


def batches(work: dict[str, Any], days: int) -> Any:
    """Days of random ranks of one row a stock and session, every outcome known."""
    import numpy as np

    from models.sequence_scoring import Days
    from models.windows import Windows

    lookback, stocks, sessions = work["lookback"], work["stocks"], work["days"]
    rng = np.random.default_rng(SEED)
    length = sessions + lookback - 1
    windows = Windows(
        lookback=lookback,
        grid=np.clip(rng.standard_normal((length, stocks, work["channels"]), dtype=np.float32), -3, 3),
        mask=np.ones((length, stocks), dtype=bool),
        start=np.arange(sessions),
        column=np.tile(np.arange(stocks), sessions),
        bounds=np.arange(sessions + 1) * stocks,
        session=np.arange(sessions, dtype=np.int32),
    )
    return Days(windows, rng.standard_normal(sessions * stocks, dtype=np.float32), np.arange(days), SEED)


def digest(network: Any) -> str:
    """SHA-256 of all weights."""
    from core.files import digest_bytes

    return digest_bytes(b"".join(value.cpu().numpy().tobytes() for value in network.state_dict().values()))


def helpers() -> Any:
    """The module of the other benchmarks' tasks, which lies beside this file and on no path."""
    found = importlib.util.spec_from_file_location("benchmark_tasks", HERE / "tasks.py")
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


if __name__ == "__main__":
    main()
