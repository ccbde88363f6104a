"""Write the files of a training into MLflow runs: one parent, a child a layer, a child a trial."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.errors import DataError
from core.files import canonical_json, read_json, read_parquet

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Param

_BATCH_PARAMS = 100
_BATCH_METRICS = 1000
_LONGEST_VALUE = 500
_DIGEST_LENGTH = 36
_NOT_ALLOWED = re.compile(r"[^\w\-. :/]")


def flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Leaves of nested mappings as dotted names; lists are leaves."""
    for key, value in values.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            yield from flat(value, f"{name}.")
        else:
            yield name, value


def metrics_of(values: Mapping[str, Any], time: int) -> list[Metric]:
    """MLflow metrics of every finite number in nested mappings."""
    from mlflow.entities import Metric

    return [
        Metric(_NOT_ALLOWED.sub("_", name), float(value), time, 0)
        for name, value in flat(values)
        if isinstance(value, (int, float)) and math.isfinite(value)
    ]


def params_of(values: Mapping[str, Any]) -> list[Param]:
    """MLflow parameters of every leaf of nested mappings."""
    from mlflow.entities import Param

    return [Param(_NOT_ALLOWED.sub("_", name), _text(value)) for name, value in flat(values)]


def _text(value: Any) -> str:
    text = value if isinstance(value, str) else canonical_json(value)
    return text if len(text) <= _LONGEST_VALUE else f"{text[: _LONGEST_VALUE - 3]}..."


def log_in_batches(client: MlflowClient, run_id: str, metrics: list[Metric], params: list[Param]) -> None:
    """Log any number of metrics and parameters, as many a request as MLflow takes."""
    for start in range(0, max(len(params), 1), _BATCH_PARAMS):
        client.log_batch(run_id, params=params[start : start + _BATCH_PARAMS])
    for start in range(0, len(metrics), _BATCH_METRICS):
        client.log_batch(run_id, metrics=metrics[start : start + _BATCH_METRICS])


def log_datasets(client: MlflowClient, run_id: str, lineage: Mapping[str, Any]) -> None:
    """Name the data folders, with their digests and date ranges, as inputs of a run."""
    from mlflow.entities import Dataset, DatasetInput, InputTag

    inputs = [
        DatasetInput(
            Dataset(
                name=path,
                digest=str(entry["md5"])[:_DIGEST_LENGTH],
                source_type="dvc",
                source=json.dumps({"path": path, "md5": entry["md5"]}),
                profile=json.dumps({**entry, "tables": lineage["tables"]} if path.endswith("clean") else entry),
            ),
            [InputTag("mlflow.data.context", "training")],
        )
        for path, entry in lineage["data"].items()
    ]
    if inputs:
        client.log_inputs(run_id, inputs)


def log_layer(
    client: MlflowClient, experiment: str, parent: str, layer: str, tune: Path, train: Path, metrics: Mapping[str, Any]
) -> int:
    """Write a layer's run and a run of each of its trials; return the number of trials.

    Parameters
    ----------
    tune, train
        The layer's own folders: best.json and trials.parquet, importance.json.
    metrics
        The layer's scores, nested.
    """
    run = client.create_run(experiment, tags={"mlflow.parentRunId": parent, "level": "layer"}, run_name=layer)
    run_id = run.info.run_id
    best = tune / "best.json"
    params = read_json(best) if best.is_file() else {}
    log_in_batches(client, run_id, metrics_of(metrics, run.info.start_time), params_of(params))
    importance = train / "importance.json"
    if importance.is_file():
        client.log_artifact(run_id, str(importance))
    trials = tune / "trials.parquet"
    count = _log_trials(client, experiment, run_id, layer, trials) if trials.is_file() else 0
    client.set_terminated(run_id)
    return count


def _log_trials(client: MlflowClient, experiment: str, parent: str, layer: str, path: Path) -> int:
    """A run a trial: its value overall and on each inner fold as metrics, what was searched as parameters."""
    trials = read_parquet(path)
    missing = [column for column in ("trial", "value") if column not in trials]
    if missing:
        raise DataError(f"{path} has no column {missing[0]!r}: run `dvc repro tune@{layer}`")
    client.log_artifact(parent, str(path))
    measured = [name for name in map(str, trials) if name == "value" or name.startswith("fold_")]
    searched = [name for name in map(str, trials) if name != "trial" and name not in measured]
    for trial in trials.sort_values("trial").to_dict("records"):
        run = client.create_run(
            experiment,
            tags={"mlflow.parentRunId": parent, "level": "trial"},
            run_name=f"{layer}-{int(trial['trial']):03d}",
        )
        client.log_batch(
            run.info.run_id,
            metrics=metrics_of({name: float(trial[name]) for name in measured}, run.info.start_time),
            params=params_of({name: trial[name] for name in searched})[:_BATCH_PARAMS],
        )
        client.set_terminated(run.info.run_id)
    return len(trials)
