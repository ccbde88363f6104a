import contextlib
import logging
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import lightning
import numpy as np
import pytest
import torch

from core.errors import ConfigError, DataError
from models.folds import Fold
from models.layers.base import require_machine
from models.layers.sequence import SequenceLayer
from models.networks.base import NETWORKS
from models.scoring import rank_ic
from models.sequence import training
from models.sequence.params import SequenceParams
from models.sequence.scoring import Batch, Days, integrated_gradients, make_network, seeded, steady
from models.sequence.training import Chunks, day_loss, fit_network, make_trainer
from models.sequence.windows import make_windows
from models.training import fit_predict, make_layer

SMALL = {"channels": ["x*"], "lookback": 4, "hidden": 8, "epochs": 2, "every": 2, "seeds": 2, "learning_rate": 0.01}


def fitted(data, valid=None, seed=3, **params):
    return make_layer("sequence", {**SMALL, **params}).fit(data, valid, seed)


def tensors(*values):
    return [torch.tensor(value, dtype=torch.float32) for value in values]


@pytest.fixture(scope="module")
def delayed(make_dataset):
    """A dataset whose label follows what the first feature was three sessions before."""
    data = make_dataset(sessions=150, ic=0.0, missing=0.0)
    value = dict(zip(zip(data.session.tolist(), data.symbol.tolist(), strict=True), data.X[:, 0], strict=True))
    before = [value.get((t - 3, i), 0.0) for t, i in zip(data.session.tolist(), data.symbol.tolist(), strict=True)]
    noise = np.random.default_rng(1).standard_normal(len(data))
    label = np.where(data.known, 0.5 * np.array(before) + np.sqrt(0.75) * noise, np.nan).astype(np.float32)
    return replace(data, label=label, forward=label, labels={data.horizon: label})


class TestLoss:
    def test_by_hand(self):
        prediction, label, weight = tensors([1, 2, 4, 9], [0, 1, 2, 5], [1, 1, 1, 0])
        # means 7/3 and 1 of the three that count; sums of products 3, 14/3 and 2
        correlation = 3 / np.sqrt(14 / 3 * 2)
        assert day_loss(prediction, label, weight, 0.0).item() == pytest.approx(-correlation, abs=1e-6)
        assert day_loss(prediction, label, weight, 0.5).item() == pytest.approx(0.5 * 6 / 3 - correlation, abs=1e-6)

    def test_the_correlation_knows_no_scale(self):
        prediction, label, weight = tensors([1, 2, 4], [0, 1, 5], [1, 1, 1])
        one, other = (day_loss(scores, label, weight, 0.0) for scores in (prediction, 7 * prediction - 3))
        assert one.item() == pytest.approx(other.item(), abs=1e-5)

    def test_equal_predictions_have_a_finite_gradient(self):
        prediction = torch.ones(3, requires_grad=True)
        day_loss(prediction, *tensors([0, 1, 5], [1, 1, 1]), 0.1).backward()
        assert torch.isfinite(prediction.grad).all()


class TestLearning:
    @pytest.mark.parametrize("network", NETWORKS.names())
    def test_finds_what_was_three_sessions_ago(self, network, delayed):
        layer = fitted(delayed.between(0, 110), network=network, seeds=1, epochs=4, every=1, learning_rate=0.02)
        later = delayed.between(111, 146)
        scores = layer.predict(delayed, 111)[: len(later)]
        assert rank_ic(scores, later.label, later.session).mean() > 0.25
        assert max(layer.importance(), key=layer.importance().__getitem__) == "x0"

    def test_finds_nothing_in_shuffled_labels(self, delayed):
        label, known = delayed.label.copy(), delayed.known
        label[known] = np.random.default_rng(2).permutation(label[known])
        shuffled = replace(delayed, label=label)
        layer = fitted(shuffled.between(0, 110), network="tcn", seeds=1, epochs=4, every=1, learning_rate=0.02)
        later = shuffled.between(111, 146)
        # 1,951 rows: a standard error of .023
        assert abs(rank_ic(layer.predict(shuffled, 111)[: len(later)], later.label, later.session).mean()) < 0.07

    @pytest.mark.parametrize("network", NETWORKS.names())
    def test_the_trainer_does_what_a_bare_loop_does(self, network, make_dataset):
        data = make_dataset(sessions=50, symbols=30)
        params = SequenceParams(**{**SMALL, "network": network, "dropout": 0.2})
        days = [Days(make_windows(data, 4), data.label, np.arange(3, 40), 1) for _ in range(2)]
        found = fit_network(params, days[0], None, 5).network
        with steady(1), seeded(5):
            expected = make_network(params, 6)
            descent = torch.optim.AdamW(expected.parameters(), lr=0.01, weight_decay=0.01, fused=True)
            for _ in range(2):
                for day in days[1]:
                    descent.zero_grad()
                    day_loss(expected(day.x, day.mask), day.label, day.weight, 0.1).backward()
                    torch.nn.utils.clip_grad_norm_(expected.parameters(), 1.0)
                    descent.step()
        for name, weight in expected.state_dict().items():
            assert torch.equal(weight, found.state_dict()[name]), name

    def test_the_best_epoch_is_kept(self, make_dataset):
        data = make_dataset(sessions=120)
        params = SequenceParams(**{**SMALL, "network": "dlinear", "epochs": 12, "patience": 3, "learning_rate": 0.05})
        windows = make_windows(data, 4)
        train, valid = (Days(windows, data.label, days, 1) for days in (np.arange(3, 60), np.arange(70, 110)))
        found = fit_network(params, train, valid, 5)
        best = int(np.argmax(found.history))
        assert found.best == found.history[best]
        # three more without a better one, then no further
        assert len(found.history) == best + 4 < 12
        # the weights are those of the best epoch: training for just so long ends with the same ones
        fresh = Days(windows, data.label, np.arange(3, 60), 1)
        again = fit_network(params.model_copy(update={"epochs": best + 1}), fresh, None, 5)
        for name, weight in again.network.state_dict().items():
            assert torch.equal(weight, found.network.state_dict()[name]), name

    def test_validation_days_are_told(self, make_dataset):
        data = make_dataset(sessions=120)
        layer = fitted(data.between(0, 80), data.between(90, 110))
        assert len(layer.seed_scores) == 2
        assert fitted(data.between(0, 80)).seed_scores == []

    def test_the_future_changes_nothing_before(self, make_dataset):
        data = make_dataset(sessions=140)
        fold = Fold(0, (0, 70), (80, 95), (100, 110))
        after = data.session > 105
        X, label = data.X.copy(), data.label.copy()
        X[after] = 1e6 * np.random.default_rng(0).standard_normal(X[after].shape)
        label[data.session > 95] = 99.0
        poisoned = replace(data, X=X, label=label)
        (rows, clean), (_, other) = (fit_predict("sequence", SMALL, each, fold, 7) for each in (data, poisoned))
        early = data.session[rows] <= 105
        assert clean[early].tobytes() == other[early].tobytes()
        assert clean[~early].tobytes() != other[~early].tobytes()

    def test_days_with_too_few_outcomes_teach_nothing(self, make_dataset):
        data = make_dataset(sessions=60)
        with pytest.raises(DataError, match="no training day has 61 known outcomes"):
            fitted(data, min_names=61)

    def test_divergence_is_told(self, make_dataset):
        data = make_dataset(sessions=40)
        data.X[:, 0] = np.arange(len(data))
        with pytest.raises(DataError, match="lower learning_rate"):
            fitted(data, learning_rate=1.0, weight_decay=10.0, epochs=1, mse_weight=1e38, network="dlinear")


class TestSameBits:
    @pytest.mark.parametrize("network", NETWORKS.names())
    def test_a_seed_decides_the_files_and_they_hold_all(self, network, make_dataset, tmp_path):
        data = make_dataset(sessions=40, symbols=30, features=3)
        for part in ("a", "b"):
            (tmp_path / part).mkdir()
            layer = fitted(data, data.between(25, 37), network=network, dropout=0.2, epochs=1)
            layer.save(tmp_path / part)
        files = sorted(file.name for file in (tmp_path / "a").iterdir())
        assert files == ["sequence.json", "weights_0.safetensors", "weights_1.safetensors"]
        for file in files:
            assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()
        again = SequenceLayer.load(tmp_path / "a")
        assert again.predict(data).tobytes() == layer.predict(data).tobytes()
        assert again.contributions(data, 39).tobytes() == layer.contributions(data, 39).tobytes()
        assert again.seed_scores == layer.seed_scores
        assert again.importance() == layer.importance()

    def test_the_state_outside_decides_nothing(self, make_dataset):
        data = make_dataset(sessions=40, symbols=30)
        scores = []
        for state in (1, 2):
            with torch.random.fork_rng():
                torch.manual_seed(state)
                scores.append(fitted(data, epochs=1, dropout=0.2, seeds=1).predict(data))
        assert scores[0].tobytes() == scores[1].tobytes()

    def test_another_seed_gives_others(self, make_dataset):
        data = make_dataset(sessions=60)
        one, other = (fitted(data, seed=seed, network="dlinear").predict(data) for seed in (3, 4))
        assert np.abs(one - other).max() > 1e-3

    @pytest.mark.parametrize("network", NETWORKS.names())
    def test_a_day_with_its_context_alone(self, network, make_dataset):
        data = make_dataset(sessions=40, symbols=30)
        layer = fitted(data, network=network, epochs=1, seeds=1)
        scores = layer.predict(data)
        for day in (3, 30, 39):
            context = data.between(day - layer.lookback + 1, day)
            assert layer.predict(context, day).tobytes() == scores[data.rows(day, day)].tobytes()
        # a session less of context is not enough
        short = data.between(30 - layer.lookback + 2, 30)
        assert layer.predict(short, 30).tobytes() != scores[data.rows(30, 30)].tobytes()

    def test_nothing_outside_is_changed(self, make_dataset):
        threads, level = torch.get_num_threads(), logging.getLogger("lightning.pytorch").level
        state = torch.get_rng_state()
        fitted(make_dataset(sessions=60), epochs=1, seeds=1)
        assert torch.equal(torch.get_rng_state(), state)
        assert torch.get_num_threads() == threads
        assert not torch.are_deterministic_algorithms_enabled()
        assert logging.getLogger("lightning.pytorch").level == level

    def test_settings_come_back_after_an_error(self):
        threads = torch.get_num_threads()
        with contextlib.suppress(RuntimeError), steady(threads + 1):
            raise RuntimeError
        assert torch.get_num_threads() == threads


class TestExplanations:
    @pytest.mark.parametrize("network", NETWORKS.names())
    def test_parts_add_up_to_the_score_but_for_a_constant_of_the_day(self, network, make_dataset):
        data = make_dataset(sessions=40, symbols=30, features=3)
        layer = fitted(data, network=network, epochs=1)
        parts = layer.contributions(data, 38)
        day = data.since(38).session
        rest = layer.predict(data, 38) - parts.sum(axis=1)
        for session in np.unique(day):
            assert np.ptp(rest[day == session]) < 1e-6

    @pytest.mark.parametrize("network", ["cross", "tcn"])
    def test_a_channel_counts_wherever_it_enters(self, network):
        """Against the outputs' own differences along each channel of all stocks at once."""
        rng = np.random.default_rng(0)
        with seeded(1):
            trained = make_network(SequenceParams(**{**SMALL, "network": network}), 3).double().eval()
        x = torch.from_numpy(rng.standard_normal((7, 4, 3)))
        batch = Batch(x, torch.ones(7, 4), torch.zeros(7), torch.zeros(7))
        expected = np.zeros((7, 3))
        with torch.no_grad():
            for point in (0.125, 0.375, 0.625, 0.875):
                for channel in range(3):
                    step = torch.zeros_like(x)
                    step[..., channel] = 1e-6 * x[..., channel]
                    ahead, behind = (trained(point * x + sign * step, batch.mask) for sign in (1, -1))
                    expected[:, channel] += (ahead - behind).numpy() / 2e-6 / 4
            gained = (trained(x, batch.mask) - trained(0 * x, batch.mask)).numpy()
        size = np.abs(expected)
        expected += size / size.sum(axis=1, keepdims=True) * (gained - expected.sum(axis=1))[:, None]
        np.testing.assert_allclose(integrated_gradients(trained, batch, 4), expected, atol=1e-7)

    def test_a_feature_that_is_no_channel_adds_nothing(self, make_dataset):
        data = make_dataset(sessions=60)
        layer = fitted(data, channels=["x4", "x1", "unheard_of"], network="dlinear")
        assert layer.channels == ("x1", "x4")
        parts = layer.contributions(data, 58)
        assert (np.abs(parts).sum(axis=0) > 0).tolist() == [False, True, False, False, True, False]
        assert [name for name, share in layer.importance().items() if share > 0] == ["x1", "x4"]

    def test_a_linear_network_is_explained_by_its_weights(self, make_dataset):
        """With the perceptron silent, a channel's part is its weights times its window."""
        data = make_dataset(sessions=60)
        layer = fitted(data, network="dlinear", seeds=1)
        network = layer.networks[0]
        with torch.no_grad():
            network.head.weight.zero_()
            network.head.bias.zero_()
            scores = layer.predict(data, 59)
            # the last day's windows, one channel at a time, all others at the middle
            x, mask = make_windows(data, 4).day(59)
            raw = network(torch.from_numpy(x.copy()), torch.from_numpy(mask.copy())).numpy()
            alone = []
            for channel in range(6):
                only = np.zeros_like(x)
                only[..., channel] = x[..., channel]
                alone.append(network(torch.from_numpy(only), torch.from_numpy(mask.copy())).numpy())
        np.testing.assert_allclose(layer.contributions(data, 59), np.stack(alone, axis=1) / raw.std(), atol=1e-5)
        np.testing.assert_allclose(scores, (raw - raw.mean()) / raw.std(), atol=1e-5)


class TestDevices:
    def days(self, make_dataset, seed, count=10):
        data = make_dataset(sessions=30)
        return Days(make_windows(data, 2), data.label, np.arange(5, 5 + count), seed)

    @pytest.mark.parametrize("seed", [None, 4])
    @pytest.mark.parametrize(("count", "world"), [(10, 1), (10, 2), (10, 3), (3, 4), (1, 3)])
    def test_shares_are_equally_long_and_cover_each_pass(self, make_dataset, seed, count, world):
        whole, parts = self.days(make_dataset, seed, count), []
        for rank in range(world):
            parts.append(self.days(make_dataset, seed, count).share(rank, world))
        for _ in range(2):
            order = [batch.x for batch in whole]
            dealt = [list(part) for part in parts]
            for rank, batches in enumerate(dealt):
                assert len(batches) == len(parts[rank]) == -(-count // world)
                for step, batch in enumerate(batches):
                    assert torch.equal(batch.x, order[(step * world + rank) % count])

    def test_a_pass_has_an_order_of_its_own(self, make_dataset):
        days = self.days(make_dataset, 4)
        first, second = ([float(batch.x.sum()) for batch in days] for _ in range(2))
        assert sorted(first) == sorted(second)
        assert first != second

    def test_chunks_hold_every_day_once(self, make_dataset):
        days = self.days(make_dataset, None, 20)
        chunks = list(Chunks(days))
        assert len(chunks) == len(Chunks(days)) == 2
        assert torch.equal(
            torch.cat([day.label for chunk in chunks for day in chunk]), torch.cat([d.label for d in days])
        )

    def test_switches_reach_the_trainer(self):
        alone = make_trainer(SequenceParams(), True)
        assert (alone.world_size, type(alone.strategy).__name__) == (1, "SingleDeviceStrategy")
        # one process a device for each fit, never the whole command again
        shared = make_trainer(SequenceParams(devices=2), True)
        assert (shared.world_size, shared.strategy.launcher._start_method) == (2, "spawn")
        assert make_trainer(SequenceParams(precision="bf16-mixed"), True).precision == "bf16-mixed"

    @pytest.mark.parametrize("devices", [0, -1, []])
    def test_no_device_is_refused(self, devices):
        with pytest.raises(ConfigError, match=r"devices is 1 or more"):
            make_layer("sequence", {"devices": devices})

    @pytest.mark.parametrize(
        "switches",
        [
            {"accelerator": "cuda", "devices": 64},
            {"accelerator": "mps", "devices": 64},
            {"accelerator": "gpu", "devices": [63]},
            {"devices": [0]},
            {"accelerator": "cuda", "devices": 64, "precision": "bf16-mixed"},
        ],
        ids=str,
    )
    def test_an_accelerator_that_is_not_there_is_one_line(self, switches):
        with pytest.raises(
            ConfigError, match=r"layers\.sequence: this machine cannot train with .*accelerator: cpu"
        ) as caught:
            require_machine("sequence", SequenceParams(**switches))
        assert "\n" not in str(caught.value)

    def test_a_precision_that_the_device_lacks_is_one_line(self, monkeypatch):
        class Old(lightning.pytorch.accelerators.CUDAAccelerator):
            pass

        monkeypatch.setattr(training, "_trainer", lambda *_: SimpleNamespace(accelerator=Old()))
        monkeypatch.setattr("torch.cuda.is_bf16_supported", lambda: False)
        with pytest.raises(ConfigError, match="does not compute in bfloat16"):
            require_machine("sequence", SequenceParams(accelerator="gpu", precision="bf16-mixed"))

    def test_predicting_asks_for_no_accelerator(self, make_dataset, tmp_path):
        """A bundle that was trained elsewhere serves on a machine with a CPU alone."""
        layer = fitted(make_dataset(sessions=60), network="dlinear", epochs=1)
        expected = layer.predict(make_dataset(sessions=60))
        layer.params = layer.params.model_copy(update={"accelerator": "cuda", "devices": 64})
        layer.save(tmp_path)
        np.testing.assert_array_equal(SequenceLayer.load(tmp_path).predict(make_dataset(sessions=60)), expected)

    def test_half_precision_learns_too(self, make_dataset):
        data = make_dataset(sessions=100, ic=0.4)
        layer = fitted(data, network="dlinear", precision="bf16-mixed", epochs=4)
        known = data.known
        assert np.corrcoef(layer.predict(data)[known], data.label[known])[0, 1] > 0.2


class TestRefusals:
    def test_unknown_network(self):
        with pytest.raises(ConfigError, match=r"layers.sequence.network = 'lstm': .*known: cross, dlinear, gru"):
            make_layer("sequence", {"network": "lstm"})
        # the names are those of the modules, so that no network need be imported to know them
        for name in NETWORKS.names():
            assert NETWORKS[name].__module__ == f"models.networks.{name}"

    def test_heads_that_do_not_fit(self):
        with pytest.raises(ConfigError, match="multiple of 4"):
            make_layer("sequence", {"network": "patch", "hidden": 6})

    def test_no_channel(self, make_dataset):
        with pytest.raises(ConfigError, match="none of y"):
            fitted(make_dataset(sessions=30), channels=["y*"])

    def test_not_fitted(self, make_dataset):
        with pytest.raises(DataError, match="not fitted yet"):
            make_layer("sequence", SMALL).predict(make_dataset(sessions=30))

    def test_files_that_do_not_fit(self, make_dataset, tmp_path):
        fitted(make_dataset(sessions=40), network="dlinear", epochs=1).save(tmp_path)
        file = tmp_path / "weights_1.safetensors"
        other = SequenceParams(**{**SMALL, "network": "tcn"})
        with seeded(0):
            wrong = make_network(other, 6)
        for damage in (
            lambda: file.write_bytes(file.read_bytes()[:-4]),
            lambda: torch.save({"a": 1}, file),
            lambda: save_weights(wrong, file),
            file.unlink,
        ):
            damage()
            with pytest.raises(DataError, match=r"weights_1\.safetensors is missing or not what"):
                SequenceLayer.load(tmp_path)


def save_weights(network, file):
    from safetensors.torch import save_file

    save_file(network.state_dict(), file)


def test_importing_the_layer_imports_no_torch():
    code = (
        "import sys; from models.layers.base import LAYERS; kind = LAYERS['sequence'];"
        "kind(kind.Params()); print({'torch', 'lightning'} & {name.split('.')[0] for name in sys.modules})"
    )
    root = Path(__file__).resolve().parents[2]
    told = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "set()"


def test_nothing_but_lightning_and_torch_is_told(make_dataset, capfd, recwarn):
    fitted(make_dataset(sessions=40), epochs=1, seeds=1)
    told = capfd.readouterr()
    assert told.out == told.err == ""
    assert not recwarn.list


def test_a_prediction_does_not_wait_for_the_compiler_of_torch() -> None:
    """Of torch's two ways to ask for deterministic algorithms one imports it, for two seconds."""
    code = (
        "import sys, torch\n"
        "from models.sequence.scoring import steady\n"
        "with steady(1):\n"
        "    print(torch.get_deterministic_debug_mode(), torch.are_deterministic_algorithms_enabled())\n"
        "print(torch.get_deterministic_debug_mode(), 'torch._dynamo' in sys.modules)"
    )
    root = Path(__file__).parents[2]
    told = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert told.stdout.split() == ["1", "True", "0", "False"]
