import numpy as np
import pytest

from core.errors import DataError
from models.checkpoints import Checkpoints
from models.folds import FoldRule, walk_forward
from models.scoring import rank_ic
from models.training import final_fold, fit_predict, train_layer

RULE = FoldRule(train_sessions=100, test_sessions=40, holdout_sessions=40, valid_sessions=20, embargo=1)
HORIZON = 2
BOOSTING = {"n_estimators": 30, "num_leaves": 5, "min_data_in_leaf": 50, "num_threads": 1}


def test_out_of_fold_covers_the_test_blocks_only(make_dataset):
    data = make_dataset(ic=0.15)
    folds = walk_forward(data.dates, RULE, HORIZON)
    calls = []
    result = train_layer("boosting", BOOSTING, data, folds, 1, lambda *call: calls.append(call))
    assert np.isnan(result.oof[data.session < 100]).all()
    assert np.isfinite(result.oof[data.session >= 100]).all()
    assert calls[-1][:2] == (len(folds) + 1, len(folds) + 1)
    assert rank_ic(result.oof, data.forward, data.session).mean() > 0.05
    assert set(result.importance) == set(data.features)


def test_noise_stays_noise(make_dataset):
    data = make_dataset(ic=0.0, sessions=300, seed=4)
    folds = walk_forward(data.dates, RULE, HORIZON)
    for name, params in (("linear", {}), ("boosting", BOOSTING)):
        oof = train_layer(name, params, data, folds, 1).oof
        assert abs(rank_ic(oof, data.forward, data.session).mean()) < 0.03


@pytest.mark.parametrize("early_stopping", [0, 5])
def test_prefix_predictions_do_not_move_with_the_future(make_dataset, early_stopping):
    data = make_dataset()
    params = {**BOOSTING, "early_stopping": early_stopping}
    folds = walk_forward(data.dates, RULE, HORIZON)
    whole = train_layer("boosting", params, data, folds, 1).oof
    poisoned = make_dataset()
    last = folds[1].test[1]
    later = poisoned.session > last
    poisoned.X[later] = 77.0
    outcome_later = poisoned.session > last - HORIZON - 1
    poisoned.label[outcome_later] = np.nan
    again = train_layer("boosting", params, poisoned, folds[:2], 1).oof
    rows = data.rows(folds[0].test[0], last)
    assert again[rows].tobytes() == whole[rows].tobytes()


def test_final_fold_is_laid_out_like_the_last():
    folds = walk_forward(240, RULE, HORIZON)

    class Known:
        known = np.arange(240) <= 236
        session = np.arange(240)
        dates = np.arange(240)

    fold = final_fold(Known, folds)
    assert fold.valid == (217, 236)
    assert fold.train == (0, 217 - HORIZON - 1 - RULE.embargo)
    rolling = walk_forward(240, FoldRule(**{**RULE.model_dump(), "rolling": 80}), HORIZON)
    fold = final_fold(Known, rolling)
    assert fold.known == (236 - 79, 236)
    Known.known = np.zeros(240, bool)
    with pytest.raises(DataError, match="no row has a known outcome"):
        final_fold(Known, folds)


class TestCheckpoints:
    """A killed training goes on with the fold it was in."""

    def train(self, make_dataset, folder, identity=("d",)):
        data = make_dataset()
        folds = walk_forward(data.dates, RULE, HORIZON)
        kept = Checkpoints(folder, {"data": identity})
        return train_layer("linear", {}, data, folds, 1, checkpoints=kept), len(folds)

    def killed(self, make_dataset, folder, monkeypatch, fits):
        """Train until the process is stopped in the fit after the given number."""
        left = [fits]

        def dies(*given):
            left[0] -= 1
            if left[0] < 0:
                raise KeyboardInterrupt
            return fit_predict(*given)

        with monkeypatch.context() as patch:
            patch.setattr("models.training.fit_predict", dies)
            with pytest.raises(KeyboardInterrupt):
                self.train(make_dataset, folder)

    def counted(self, make_dataset, folder, monkeypatch, identity=("d",)):
        """Train to the end; the result and how many folds were fitted."""
        fitted = []

        def count(*given):
            fitted.append(given[3].index)
            return fit_predict(*given)

        with monkeypatch.context() as patch:
            patch.setattr("models.training.fit_predict", count)
            result, _ = self.train(make_dataset, folder, identity)
        return result, fitted

    def test_only_the_fold_that_died_is_fitted_again(self, make_dataset, tmp_path, monkeypatch):
        whole, folds = self.train(make_dataset, tmp_path / "whole")
        self.killed(make_dataset, tmp_path / "killed", monkeypatch, 2)
        result, fitted = self.counted(make_dataset, tmp_path / "killed", monkeypatch)
        assert fitted == list(range(2, folds))
        assert result.oof.tobytes() == whole.oof.tobytes()

    def test_other_data_is_another_training(self, make_dataset, tmp_path, monkeypatch):
        _, folds = self.train(make_dataset, tmp_path)
        _, fitted = self.counted(make_dataset, tmp_path, monkeypatch, ("other",))
        assert fitted == list(range(folds))
        _, fitted = self.counted(make_dataset, tmp_path, monkeypatch)
        assert fitted == []

    def test_a_broken_file_is_made_again(self, make_dataset, tmp_path, monkeypatch):
        whole, folds = self.train(make_dataset, tmp_path)
        kept = sorted(tmp_path.glob("*.npy"))
        assert len(kept) == folds
        kept[0].write_bytes(kept[0].read_bytes()[:40])
        kept[1].write_bytes(b"")
        np.save(kept[2], np.zeros(3))
        result, fitted = self.counted(make_dataset, tmp_path, monkeypatch)
        assert len(fitted) == 3
        assert result.oof.tobytes() == whole.oof.tobytes()
