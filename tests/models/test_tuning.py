import os
import re
import signal
import subprocess
import sys

import numpy as np
import optuna
import pandas as pd
import pytest

from core.errors import ConfigError, StorageError
from core.files import canonical_json, write_parquet
from models.folds import FoldRule, tuning_folds
from models.layers.linear import LinearParams
from models.tuning import TuningRule, _choose, study_identity, tune

RULE = FoldRule(train_sessions=150, test_sessions=40, holdout_sessions=40, embargo=1, tuning_splits=2)
TRIALS = 8
# Long enough for the sampler to have learned before and after a death.
LONG = 14


def run(make_dataset, folder, trials=TRIALS, **changes):
    data = make_dataset()
    given = {"seed": 5, "folder": folder, "data_digest": "d", "code_digest": "c", "horizon": 2, **changes}
    folds = tuning_folds(data.dates, RULE, 2)
    return tune("linear", LinearParams(alpha=0.05), data, folds, TuningRule(trials=trials), **given)


def same_bytes(one, two, folder):
    assert canonical_json([one.best_params, one.best_value]) == canonical_json([two.best_params, two.best_value])
    for part in ("trials", "returns"):
        write_parquet(folder / "one.parquet", getattr(one, part))
        write_parquet(folder / "two.parquet", getattr(two, part))
        assert (folder / "one.parquet").read_bytes() == (folder / "two.parquet").read_bytes()


def test_every_trial_is_kept(make_dataset, tmp_path):
    calls = []
    result = run(make_dataset, tmp_path, progress=lambda *call: calls.append(call))
    assert result.trials["trial"].tolist() == list(range(TRIALS))
    assert result.trials["alpha"].iloc[0] == 0.05
    assert result.trials["alpha"].nunique() == TRIALS
    assert list(result.returns) == ["date", *(f"trial_{n:03d}" for n in range(TRIALS))]
    ended, pruned = (result.trials[result.trials["pruned"] == way] for way in (False, True))
    assert len(pruned)
    assert pruned[["value", "fold_1"]].isna().all(axis=None)
    assert np.isfinite(ended[["value", "fold_0", "fold_1"]].to_numpy()).all()
    # a pruned trial was a try: the returns that it came to are kept
    returns = result.returns.iloc[:, 1:].to_numpy()
    half = len(returns) // 2
    assert np.isfinite(returns[:, ended["trial"]]).all()
    assert np.isfinite(returns[: half - 5, pruned["trial"]]).all()
    assert np.isnan(returns[half + 5 :, pruned["trial"]]).all()
    chosen = result.trials.loc[result.chosen]
    assert (result.best_value, result.best_params) == (chosen["value"], {"alpha": chosen["alpha"]})
    assert result.chosen in (0, result.trials["value"].idxmax())
    np.testing.assert_allclose(ended["value"], ended[["fold_0", "fold_1"]].mean(axis=1))
    assert calls[-1][:2] == (TRIALS, TRIALS)


def test_another_trial_is_chosen_only_where_it_is_better_by_enough():
    rng = np.random.default_rng(3)
    first = pd.Series(rng.normal(0.02, 0.1, 400))
    luckier = first + rng.normal(0.0, 0.1, 400)
    luckier += 0.002 + first.mean() - luckier.mean()
    better = first + 0.01 + rng.normal(0.0, 0.01, 400)
    values = np.array([first.mean(), luckier.mean()])
    assert _choose(values, [first, luckier], 1.0, 5) == 0
    assert _choose(values, [first, luckier], -np.inf, 5) == 1
    assert _choose(np.array([*values, better.mean()]), [first, luckier, better], 1.0, 5) == 2
    # a pruned trial has no value, and the first may itself be the best
    assert _choose(np.array([0.5, np.nan]), [first, luckier], 1.0, 5) == 0


def test_the_move_needed_decides_between_first_and_best(make_dataset, tmp_path):
    data = make_dataset()
    folds = tuning_folds(data.dates, RULE, 2)
    given = {"seed": 5, "data_digest": "d", "code_digest": "c", "horizon": 2}
    far, near = (
        tune("linear", LinearParams(alpha=0.05), data, folds, TuningRule(trials=TRIALS, move_t=t),
             folder=tmp_path / str(t), **given)
        for t in (1e9, -1e9)
    )  # fmt: skip
    assert (far.chosen, far.best_params) == (0, {"alpha": 0.05})
    assert near.chosen == near.trials["value"].idxmax()


def test_a_trial_below_the_median_is_given_up(make_dataset, tmp_path):
    result = run(make_dataset, tmp_path)
    first = result.trials["fold_0"].to_numpy()
    ended = ~result.trials["pruned"].to_numpy()
    for trial in range(TRIALS):
        usual = first[:trial][ended[:trial]]
        assert ended[trial] == (ended[:trial].sum() < 4 or first[trial] >= np.median(usual)), trial
    data = make_dataset()
    rule = TuningRule(trials=TRIALS, pruning=False)
    given = {"seed": 5, "folder": tmp_path, "data_digest": "d", "code_digest": "c", "horizon": 2}
    whole = tune("linear", LinearParams(alpha=0.05), data, tuning_folds(data.dates, RULE, 2), rule, **given)
    assert not whole.trials["pruned"].any()


def test_nothing_after_the_first_test_session_matters(make_dataset, tmp_path):
    result = run(make_dataset, tmp_path / "a", trials=2)

    def poisoned():
        data = make_dataset()
        later = data.session >= RULE.train_sessions
        data.X[later] = 9.0
        for outcome in (data.label, data.forward, data.raw):
            outcome[data.session > RULE.train_sessions - 3] = -9.0
        return data

    same_bytes(result, run(poisoned, tmp_path / "b", trials=2), tmp_path)


def test_a_study_grows_as_if_it_had_been_long_from_the_start(make_dataset, tmp_path):
    run(make_dataset, tmp_path / "a", trials=3)
    same_bytes(run(make_dataset, tmp_path / "a"), run(make_dataset, tmp_path / "b"), tmp_path)


def test_a_finished_study_fits_nothing(make_dataset, tmp_path, monkeypatch):
    first = run(make_dataset, tmp_path)
    monkeypatch.setattr("models.tuning.fit_predict", lambda *args: pytest.fail("fitted again"))
    same_bytes(first, run(make_dataset, tmp_path), tmp_path)


KILLED = """
import importlib.util, os, signal, sys
from pathlib import Path
spec = importlib.util.spec_from_file_location("helpers", sys.argv[1])
helpers = importlib.util.module_from_spec(spec)
spec.loader.exec_module(helpers)
spec = importlib.util.spec_from_file_location("synthetic", sys.argv[2])
synthetic = importlib.util.module_from_spec(spec)
spec.loader.exec_module(synthetic)
import models.tuning as tuning
fit, left = tuning.fit_predict, [int(sys.argv[4])]
def dies(*args):
    left[0] -= 1
    if left[0] < 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return fit(*args)
tuning.fit_predict = dies
helpers.run(synthetic.make_dataset, Path(sys.argv[3]), trials=helpers.LONG)
"""


def test_killed_in_the_middle_ends_with_the_same_bytes(make_dataset, tmp_path, repository):
    whole = run(make_dataset, tmp_path / "whole", trials=LONG)
    folder = tmp_path / "killed"
    here = repository / "tests" / "models"
    # dies in the first trial (an enqueued one), then among the sampled ones
    for fits in (1, 15, 2):
        command = [sys.executable, "-c", KILLED, str(here / "test_tuning.py"), str(here / "synthetic.py")]
        env = {**os.environ, "PYTHONPATH": str(repository)}
        done = subprocess.run([*command, str(folder), str(fits)], cwd=tmp_path, env=env, check=False)
        assert done.returncode == -signal.SIGKILL
        journal = folder / "linear.journal"
        with journal.open("ab") as handle:
            handle.write(b'{"op_code":6,"worker_id":"x","trial_id":0,"us')
        (folder / "linear.journal.lock").symlink_to(journal)
    same_bytes(whole, run(make_dataset, folder, trials=LONG), tmp_path)


def test_changed_inputs_start_another_study(make_dataset, tmp_path):
    base = (LinearParams(), {}, (), TuningRule(), 1, "d", "c", 5)
    names = {study_identity("linear", *base)}
    for place, other in (
        (0, LinearParams(alpha=0.5)),
        (3, TuningRule(cost_bps=1)),
        (4, 2),
        (5, "e"),
        (6, "e"),
        (7, 10),
    ):
        names.add(study_identity("linear", *base[:place], other, *base[place + 1 :]))
    assert len(names) == 7
    longer = study_identity("linear", *base[:3], TuningRule(trials=99, storage="sqlite://", move_t=3.0), *base[4:])
    assert longer in names


def test_two_processes_do_not_share_a_journal(make_dataset, tmp_path):
    import filelock

    with filelock.FileLock(tmp_path / "linear.owner"), pytest.raises(StorageError, match="in use by another process"):
        run(make_dataset, tmp_path)


def test_own_value_outside_the_search(make_dataset, tmp_path):
    data = make_dataset()
    folds = tuning_folds(data.dates, RULE, 2)
    given = {"seed": 5, "folder": tmp_path, "data_digest": "d", "code_digest": "c", "horizon": 2}
    with pytest.raises(ConfigError, match=r"layers\.linear\.alpha = 0\.0 lies outside what is searched"):
        tune("linear", LinearParams(alpha=0.0), data, folds, TuningRule(trials=2), **given)
    alone = tune("linear", LinearParams(alpha=0.0), data, folds, TuningRule(trials=1), **given)
    assert alone.best_params == {"alpha": 0.0}


def test_shared_storage(make_dataset, tmp_path):
    data = make_dataset()
    folds = tuning_folds(data.dates, RULE, 2)
    given = {"seed": 5, "folder": tmp_path, "data_digest": "d", "code_digest": "c", "horizon": 2}
    rule = TuningRule(trials=3, storage=f"sqlite:///{tmp_path}/studies.db")
    result = tune("linear", LinearParams(alpha=0.05), data, folds, rule, **given)
    assert len(result.trials) == 3
    assert not (tmp_path / "linear.journal").exists()
    with pytest.raises(StorageError, match=r"tuning\.storage does not answer"):
        tune("linear", LinearParams(), data, folds, TuningRule(storage="sqlite:////nowhere/at/all.db"), **given)


DAMAGE = {
    "missing": lambda lines, at: [*lines[:at], *lines[at + 1 :]],
    "zeroed": lambda lines, at: [*lines[:at], bytes(len(lines[at]) - 1) + b"\n", *lines[at + 1 :]],
    "half": lambda lines, at: [*lines[:at], lines[at][: len(lines[at]) // 2] + b"\n", *lines[at + 1 :]],
    "joined": lambda lines, at: [*lines[:at], lines[at][: len(lines[at]) // 2], *lines[at + 1 :]],
    "binary": lambda lines, at: [*lines[:at], b"\xff\xfe\x00\x93\n", *lines[at + 1 :]],
    "no fields": lambda lines, at: [*lines[:at], b"{}\n", *lines[at + 1 :]],
    "no object": lambda lines, at: [*lines[:at], b"[6]\n", *lines[at + 1 :]],
    "bare": lambda lines, at: [*lines[:at], lines[at].split(b",")[0] + b"}\n", *lines[at + 1 :]],
    "unknown": lambda lines, at: [*lines[:at], lines[at].replace(b'"op_code":', b'"op_code":7'), *lines[at + 1 :]],
    "twice": lambda lines, at: [*lines[: at + 1], *lines[at:]],
    "nested": lambda lines, at: [*lines[:at], b"[" * 100_000 + b"\n", *lines[at + 1 :]],
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_journal_is_refused_or_loses_nothing(make_dataset, tmp_path, damage):
    """Whichever line was hit, every finished trial is there, or one line says why not."""
    whole = run(make_dataset, tmp_path, trials=3)
    journal = tmp_path / "linear.journal"
    lines, refused = journal.read_bytes().splitlines(keepends=True), 0
    for at in range(len(lines)):
        content = b"".join(damage(lines, at))
        journal.write_bytes(content)
        try:
            again = run(make_dataset, tmp_path, trials=3)
        except StorageError as error:
            said, refused = str(error), refused + 1
        else:
            same_bytes(whole, again, tmp_path)
            continue
        assert re.fullmatch(rf"{re.escape(str(journal))}.*(sed -i|move it away).*", said)
        assert journal.read_bytes().startswith(content[: content.rfind(b"\n") + 1])
    # Some lines say nothing that counts, such as when a trial began; most may stand there twice.
    assert refused >= 3


@pytest.mark.parametrize("tail", [b"\0" * 4096, b'{"op_code":6,"wor', b"\xff\xfe\x93", b"}"])
def test_a_torn_last_line_is_dropped(make_dataset, tmp_path, tail):
    whole = run(make_dataset, tmp_path, trials=3)
    journal = tmp_path / "linear.journal"
    before = journal.read_bytes()
    journal.write_bytes(before + tail)
    same_bytes(whole, run(make_dataset, tmp_path, trials=3), tmp_path)
    after = journal.read_bytes()
    assert after.startswith(before)
    assert after[len(before) :].startswith(b'{"op_code":0,')


def test_a_folder_in_the_journals_place_and_another_project_in_it(make_dataset, tmp_path):
    whole = run(make_dataset, tmp_path / "whole", trials=3)
    (tmp_path / "linear.journal").mkdir()
    with pytest.raises(StorageError, match="is not a file"):
        run(make_dataset, tmp_path, trials=3)
    (tmp_path / "linear.journal").rmdir()
    storage = optuna.storages.JournalStorage(
        optuna.storages.journal.JournalFileBackend(str(tmp_path / "linear.journal"))
    )
    other = optuna.create_study(storage=storage, study_name="of somebody", directions=["minimize", "maximize"])
    other.optimize(lambda trial: (trial.suggest_int("x", 0, 9), 0), n_trials=2)
    same_bytes(whole, run(make_dataset, tmp_path, trials=3), tmp_path)
