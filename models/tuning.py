"""Search a layer's parameters on the inner folds, before the first test block (Optuna, TPE).

A study survives being killed at any moment: a trial that did not finish is run again with the same
parameters, because the sampler's seed follows from the number of finished trials, and what a study
exports is a function of the data, the parameters, the rule and the seed alone.

References
----------
Akiba et al. (2019), Optuna: a next-generation hyperparameter optimization framework.
Bailey and López de Prado (2014), The deflated Sharpe ratio (why every trial's returns are kept).
Breiman, Friedman, Olshen and Stone (1984), Classification and regression trees (the rule of one standard error).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import BaseModel, Field

from core.errors import ConfigError
from core.files import canonical_json, digest_bytes
from core.params import Params
from models.dataset import Dataset
from models.folds import Fold
from models.layers.base import LAYERS, Choice, Space
from models.scoring import decile_spread, default_lags, newey_west_t, rank_ic
from models.studies import open_study, require_whole
from models.training import Progress, fit_predict

if TYPE_CHECKING:
    import optuna

_STARTUP_TRIALS = 5
# Fewer trials than these say too little of what is usual on an inner fold.
_UNPRUNED_TRIALS = 4
_SEED_STRIDE = 1_000_003


class TuningRule(Params):
    """How long to search, and where the trials are kept."""

    trials: int = Field(default=8, ge=1, le=10_000, description="trials that finish; the first is params.yaml's own")
    cost_bps: float = Field(default=10.0, ge=0, description="one-way cost in the trials' recorded returns")
    move_t: float = Field(default=1.0, description="t of the daily gain over the first trial that another one needs")
    pruning: bool = Field(default=True, description="give a trial up after an inner fold that is below the median")
    storage: str | None = Field(default=None, description="Optuna storage URL shared by workers; null: a local journal")


@dataclass(frozen=True, eq=False)
class TuningResult:
    """A finished study.

    Attributes
    ----------
    best_params
        Complete parameters of the chosen trial, as plain values: the best, or the first where the best is not better
        by enough.
    best_value
        Its mean daily rank IC over the inner folds.
    chosen
        Its number.
    trials
        One row a finished trial: `trial`, `value`, `pruned`, `fold_<i>` (rank IC), then the parameters searched.
        A pruned trial has no value and no rank IC on the folds that it did not come to.
    returns
        `date` and one column `trial_<n>` each: the net daily decile spread of every trial, as far as it ran.
    """

    best_params: dict[str, Any]
    best_value: float
    chosen: int
    trials: pd.DataFrame
    returns: pd.DataFrame


def tune(
    name: str,
    params: BaseModel,
    dataset: Dataset,
    folds: Sequence[Fold],
    rule: TuningRule,
    *,
    seed: int,
    folder: Path,
    data_digest: str,
    code_digest: str,
    horizon: int,
    progress: Progress | None = None,
) -> TuningResult:
    """Run a layer's study up to `rule.trials` finished trials.

    Parameters
    ----------
    params
        The layer's own parameters: the first trial, and what the search does not vary.
    folds
        Inner purged folds, all before the first test block.
    folder
        Where the journal lies; not an output of the stage, for it holds times.
    data_digest
        Digest of the dataset: another one starts another study.
    code_digest
        Digest of the code that fits and scores: trials of other code are no trials of this one.
    horizon
        Sessions a position is held.

    Raises
    ------
    ConfigError
        A parameter's own value lies outside what the search may vary.
    StorageError
        Another process runs the same study, its journal is damaged, or the shared storage does not answer.
    """
    # a single trial searches nothing, so it may stand anywhere
    space: Space = LAYERS[name].space if rule.trials > 1 else {}
    _require_inside(name, params, space)
    identity = study_identity(name, params, space, folds, rule, seed, data_digest, code_digest, horizon)
    with open_study(f"{name}-{identity[:20]}", folder / f"{name}.journal", rule.storage) as study:
        where = (rule.storage and "tuning.storage") or str(folder / f"{name}.journal")
        for trial in _finished(study):
            require_whole(trial, set(space), len(folds), len(dataset.dates), where)
        while (done := len(_finished(study))) < rule.trials:
            if progress:
                progress(done, rule.trials, f"{name}: trial {done}")
            _run_trial(study, done, name, params, space, dataset, folds, rule, seed, horizon)
        finished = _finished(study)
    if progress:
        progress(len(finished), rule.trials, f"{name}: done")
    return _export(finished, params, space, dataset, len(folds), rule, horizon)


def study_identity(
    name: str,
    params: BaseModel,
    space: Space,
    folds: Sequence[Fold],
    rule: TuningRule,
    seed: int,
    data_digest: str,
    code_digest: str,
    horizon: int,
) -> str:
    """Digest of all that decides a trial's outcome: neither the number of trials nor how one of them is chosen does."""
    parts = {
        "layer": name,
        "params": params.model_dump(mode="json"),
        "space": {key: asdict(searched) for key, searched in space.items()},
        "folds": [asdict(fold) for fold in folds],
        "rule": rule.model_dump(mode="json", exclude={"trials", "storage", "move_t"}),
        "seed": seed,
        "data": data_digest,
        "code": code_digest,
        "horizon": horizon,
    }
    return digest_bytes(canonical_json(parts).encode())


def _require_inside(name: str, params: BaseModel, space: Space) -> None:
    for key, searched in space.items():
        own = getattr(params, key)
        if isinstance(searched, Choice):
            inside, allowed = own in searched.options, f"one of {', '.join(map(str, searched.options))}"
        else:
            inside, allowed = searched.low <= own <= searched.high, f"{searched.low:g} to {searched.high:g}"
        if not inside:
            raise ConfigError(
                f"layers.{name}.{key} = {own!r} lies outside what is searched ({allowed}): "
                "choose a value inside, or keep it without a search by tuning.trials = 1"
            )


def suggest(trial: optuna.Trial, space: Space) -> dict[str, Any]:
    """Values of one trial for every parameter that is searched."""
    values: dict[str, Any] = {}
    for key in sorted(space):
        searched = space[key]
        if isinstance(searched, Choice):
            values[key] = trial.suggest_categorical(key, searched.options)
        elif searched.whole:
            values[key] = trial.suggest_int(key, int(searched.low), int(searched.high), log=searched.log)
        else:
            values[key] = trial.suggest_float(key, searched.low, searched.high, log=searched.log)
    return values


def _run_trial(
    study: optuna.Study,
    done: int,
    name: str,
    params: BaseModel,
    space: Space,
    dataset: Dataset,
    folds: Sequence[Fold],
    rule: TuningRule,
    seed: int,
    horizon: int,
) -> None:
    import optuna

    # workers that share a study must not draw the same trial; one alone must draw a lost trial again
    drawn = done if rule.storage is None else len(study.get_trials(deepcopy=False))
    sampler_seed = (seed * _SEED_STRIDE + drawn) % 2**32
    study.sampler = optuna.samplers.TPESampler(seed=sampler_seed, n_startup_trials=_STARTUP_TRIALS)
    median = optuna.pruners.MedianPruner(n_startup_trials=_UNPRUNED_TRIALS)
    study.pruner = median if rule.pruning else optuna.pruners.NopPruner()
    if not done:
        study.enqueue_trial({key: getattr(params, key) for key in space}, skip_if_exists=rule.storage is not None)
    trial = study.ask()
    values = {**params.model_dump(), **suggest(trial, space)}
    scores, spreads, ranked, pruned = [], [], [], False
    for step, fold in enumerate(folds):
        rows, predictions = fit_predict(name, values, dataset, fold, seed)
        block = dataset.take(rows)
        daily = rank_ic(predictions, block.forward, block.session)
        # a constant prediction ranks nothing: no day has an IC, and the trial's worth is none
        scores.append(float(daily.mean()) if len(daily) else 0.0)
        ranked.append(daily)
        spreads.append(
            decile_spread(
                predictions, block.raw, block.session, horizon=horizon, cost_bps=rule.cost_bps, symbol=block.symbol
            )
        )
        trial.report(float(np.mean(scores)), step)
        if step + 1 < len(folds) and trial.should_prune():
            pruned = True
            break
    spread, daily = pd.concat(spreads), pd.concat(ranked)
    evidence = {"folds": scores, "sessions": spread.index.tolist(), "returns": spread.tolist()}
    evidence |= {"ranked": daily.index.tolist(), "rank_ic": daily.tolist()}
    # one write holds the evidence, and the value comes after it: a finished trial is always complete
    trial.set_user_attr("evidence", evidence)
    if pruned:
        study.tell(trial, state=optuna.trial.TrialState.PRUNED)
    else:
        study.tell(trial, float(np.mean(scores)))


def _finished(study: optuna.Study) -> list[optuna.trial.FrozenTrial]:
    """Trials that ended, pruned ones too, in the order in which they did: every one of them was a try."""
    import optuna

    ended = (optuna.trial.TrialState.COMPLETE, optuna.trial.TrialState.PRUNED)
    trials = study.get_trials(deepcopy=False, states=ended)
    return sorted(trials, key=lambda trial: (trial.datetime_complete, trial.number))


def _export(
    finished: Sequence[optuna.trial.FrozenTrial],
    params: BaseModel,
    space: Space,
    dataset: Dataset,
    folds: int,
    rule: TuningRule,
    horizon: int,
) -> TuningResult:
    import optuna

    rows, columns = [], {}
    for number, trial in enumerate(finished):
        evidence = trial.user_attrs["evidence"]
        pruned = trial.state != optuna.trial.TrialState.COMPLETE
        scores = {f"fold_{fold}": np.nan for fold in range(folds)}
        scores |= {f"fold_{fold}": score for fold, score in enumerate(evidence["folds"])}
        searched = {key: trial.params[key] for key in sorted(space)}
        value = np.nan if pruned else trial.value
        rows.append({"trial": number, "value": value, "pruned": pruned, **scores, **searched})
        sessions, values = evidence["sessions"], evidence["returns"]
        columns[f"trial_{number:03d}"] = pd.Series(values, pd.Index(sessions, dtype=int), dtype=float)
    trials = pd.DataFrame(rows)
    returns = pd.DataFrame(columns).sort_index()
    returns.insert(0, "date", dataset.dates[returns.index.to_numpy(dtype=int)])
    best = _choose(trials["value"].to_numpy(), [_ranked(trial) for trial in finished], rule.move_t, horizon)
    return TuningResult(
        best_params={**params.model_dump(), **{key: finished[best].params[key] for key in sorted(space)}},
        best_value=float(trials["value"].iloc[best]),
        chosen=best,
        trials=trials,
        returns=returns.reset_index(drop=True),
    )


def _ranked(trial: optuna.trial.FrozenTrial) -> pd.Series:
    """Daily rank IC of a trial, by session."""
    evidence = trial.user_attrs["evidence"]
    return pd.Series(evidence["rank_ic"], pd.Index(evidence["ranked"], dtype=int), dtype=float)


def _choose(values: NDArray[np.float64], daily: Sequence[pd.Series], move_t: float, horizon: int) -> int:
    """The best trial if it is better than the first by enough (Newey-West t of the daily difference), else the first.

    The first trial is what params.yaml says. Taking whichever of a few noisy trials came out on top would be to choose
    by luck (Breiman et al. 1984, the rule of one standard error).
    """
    best = int(np.nanargmax(values))
    if best == 0 or not np.isfinite(values[0]):
        return best
    gain = (daily[best] - daily[0]).dropna()
    t = newey_west_t(gain, default_lags(len(gain), horizon)) if len(gain) else np.nan
    return best if t >= move_t else 0
