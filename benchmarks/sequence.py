"""The trainer of Signal B against a bare loop: `python benchmarks/sequence.py [--symbols 450] [--network gru]`.

Both train the same network from the same weights on the same batches, with the same loss, optimiser and clipping, on
one thread: once through the project's trainer (Lightning), once as a plain PyTorch loop. Each runs in a process of its
own, in turns, so that other work on the machine hits both alike. Printed as JSON on standard output: stock-days a
second of the fit alone, by wall and by CPU time, the share that ours reaches of the loop's, and wall and CPU seconds
and peak memory of the whole process. The rows are random numbers: what is timed does not depend on them.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
NETWORKS = ("gru", "tcn", "dlinear", "tsmixer", "patch", "cross")


def main() -> None:
    """Measure every network asked for and print one JSON object; or do one part, told by a parent process."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--symbols", type=int, default=450, help="stocks of a day")
    parser.add_argument("--lookback", type=int, default=20, help="sessions of a window")
    parser.add_argument("--channels", type=int, default=10, help="values a session")
    parser.add_argument("--days", type=int, default=200, help="days of an epoch")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--network", choices=NETWORKS, action="append", help="one to measure; all where none is named")
    parser.add_argument("--repeat", type=int, default=3, help="runs of each, of which the median counts")
    parser.add_argument("--part", choices=("ours", "bare"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.part:
        print(json.dumps(train(arguments)))
        return
    size = {name: getattr(arguments, name) for name in ("symbols", "lookback", "channels", "days", "epochs")}
    result: dict[str, Any] = {
        "machine": {"cores": os.cpu_count(), "python": platform.python_version(), "processor": platform.machine()},
        "size": size,
    }
    for network in arguments.network or NETWORKS:
        result[network] = compare(network, size, arguments.repeat)
    print(json.dumps(result, indent=2))


def compare(network: str, size: dict[str, int], times: int) -> dict[str, Any]:
    """Both ways in turns; medians, the largest peak of memory, and the median share of each turn."""
    runs: dict[str, list[dict[str, Any]]] = {"bare": [], "ours": []}
    for _ in range(times):
        for part, done in runs.items():
            done.append(run(part, network, size))
    digests = {done["weights"] for part in runs.values() for done in part}
    turns = zip(runs["ours"], runs["bare"], strict=True)
    share = [(bare["fit_s"] / ours["fit_s"], bare["fit_cpu_s"] / ours["fit_cpu_s"]) for ours, bare in turns]
    return {
        **{part: summary(done) for part, done in runs.items()},
        "share_by_wall": round(float(np.median([wall for wall, _ in share])), 3),
        "share_by_cpu": round(float(np.median([cpu for _, cpu in share])), 3),
        "same_weights": len(digests) == 1,
    }


def summary(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Medians of one way's runs."""

    def middle(name: str) -> float:
        return float(np.median([run[name] for run in runs]))

    return {
        "stock_days_per_s": round(runs[0]["stock_days"] / middle("fit_s")),
        "stock_days_per_cpu_s": round(runs[0]["stock_days"] / middle("fit_cpu_s")),
        "wall_s": round(middle("wall_s"), 2),
        "cpu_s": round(middle("cpu_s"), 2),
        "peak_mib": round(max(run["peak_mib"] for run in runs)),
    }


def run(part: str, network: str, size: dict[str, int]) -> dict[str, Any]:
    """One way in a fresh process."""
    options = [text for name, value in size.items() for text in (f"--{name}", str(value))]
    environment = {**os.environ, "PYTHONPATH": str(HERE.parent), "NUMBA_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    started = time.perf_counter()
    done = subprocess.run(
        # -P: this folder stays off the path, where its files would hide packages of the same name.
        [sys.executable, "-P", str(HERE / "sequence.py"), "--part", part, "--network", network, *options],
        env=environment, stdout=subprocess.PIPE, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise SystemExit(f"{part} of {network} failed with code {done.returncode}; its messages are above")
    return {**json.loads(done.stdout.splitlines()[-1]), "wall_s": time.perf_counter() - started}


def train(arguments: argparse.Namespace) -> dict[str, Any]:
    """Train one network one way; seconds of the fit alone, and what the process took."""
    import torch

    sys.path.append(str(HERE))
    from tasks import usage

    from core.files import digest_bytes
    from models.sequence.params import SequenceParams
    from models.sequence.scoring import Days, steady
    from models.sequence.training import fit_network

    params = SequenceParams(
        network=arguments.network[0], lookback=arguments.lookback, epochs=arguments.epochs, num_threads=1
    )
    windows, label = random_windows(arguments)
    learn = np.flatnonzero(windows.whole())

    def fit(days: np.ndarray) -> Any:
        given = Days(windows, label, days, 7)
        return fit_network(params, given, None, 7).network if arguments.part == "ours" else bare(params, given, 7)

    with steady(1):
        # what is done once, such as loading code, is not what is compared
        fit(learn[:2])
        started, cpu = time.perf_counter(), time.process_time()
        network = fit(learn)
        told = {"fit_s": time.perf_counter() - started, "fit_cpu_s": time.process_time() - cpu}
    weights = b"".join(weight.detach().numpy().tobytes() for weight in network.state_dict().values())
    assert torch.get_num_threads() == 1
    return {
        **told,
        "stock_days": len(learn) * arguments.symbols * arguments.epochs,
        "weights": digest_bytes(weights),
        **usage(),
    }


def random_windows(arguments: argparse.Namespace) -> tuple[Any, np.ndarray]:
    """Windows of random rows, one a symbol and session, and random labels."""
    from models.dataset import assemble_dataset
    from models.sequence.windows import make_windows

    rng = np.random.default_rng(0)
    sessions, symbols = arguments.days + arguments.lookback - 1, arguments.symbols
    rows = sessions * symbols
    label = rng.standard_normal(rows).astype(np.float32)
    data = assemble_dataset(
        dates=np.datetime64("2010-01-04") + np.arange(sessions),
        symbols=np.array([f"S{at:05d}" for at in range(symbols)]),
        sector=np.zeros(symbols, dtype=int),
        session=np.repeat(np.arange(sessions), symbols),
        symbol=np.tile(np.arange(symbols), sessions),
        X=rng.standard_normal((rows, arguments.channels)).astype(np.float32),
        features=[f"x{at}" for at in range(arguments.channels)],
        label=label,
        forward=label,
        raw=label,
    )
    return make_windows(data, arguments.lookback), label


def bare(params: Any, days: Any, seed: int) -> Any:
    """What one would write without a trainer: batches, loss, backward, clip, step."""
    import torch

    from models.sequence.scoring import make_network, seeded
    from models.sequence.training import day_loss

    with seeded(seed):
        network = make_network(params, days.windows.grid.shape[2])
        descent = torch.optim.AdamW(
            network.parameters(), lr=params.learning_rate, weight_decay=params.weight_decay, fused=True
        )
        network.train()
        for _ in range(params.epochs):
            for batch in days:
                loss = day_loss(network(batch.x, batch.mask), batch.label, batch.weight, params.mse_weight)
                descent.zero_grad()
                loss.backward()
                torch.nn.utils.clip_grad_norm_(network.parameters(), params.gradient_clip)
                descent.step()
    return network.eval()


if __name__ == "__main__":
    main()
