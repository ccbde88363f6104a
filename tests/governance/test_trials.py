from datetime import UTC, datetime, timedelta

import pytest

from core.files import read_json, write_json
from governance import promotion
from governance.ledger import Ledger
from governance.places import LEDGER
from governance.state import State
from governance.trials import count_every_trial, trial_digests, trials_ever
from models.overfitting import dsr

LUCK = {"sharpe_daily": 0.1, "days": 1250, "trial_sharpe_variance": 0.002, "skewness": -1.0, "kurtosis": 6.0}


def counted(world) -> int:
    return trials_ever(State(Ledger(world.root / LEDGER).read()), trial_digests(world.training.tune))


def test_trials_of_earlier_versions_count_once(world):
    world.train(trials=2)
    world.register()
    assert counted(world) == 4
    # the same studies behind another bundle are no new trials
    world.train(weight=2.0, trials=2)
    world.register()
    assert counted(world) == 4
    # two studies of three: the two ends of each were tried before, the middle is new
    world.train(weight=3.0, trials=3)
    assert counted(world) == 4 + 2 * 2


def test_every_trial_deflates(world):
    luck = {**LUCK, "trials": 2, "dsr": dsr(0.1, 1250, 2, 0.002, -1.0, 6.0)}
    for weight, trials in ((1.0, 9), (2.0, 2)):
        world.train(weight=weight, trials=trials)
        path = world.training.reports / "metrics.json"
        write_json(path, {**read_json(path), "overfitting": luck})
        world.register()
    told = count_every_trial({"overfitting": luck}, counted(world))["overfitting"]
    assert told["trials_ever"] == 2 * 9 + 2
    assert told["dsr_ever"] == pytest.approx(dsr(0.1, 1250, 20, 0.002, -1.0, 6.0))
    assert told["dsr_ever"] < luck["dsr"]


def test_the_gate_reads_it(world):
    luck = {**LUCK, "trials": 2, "dsr": 0.99}
    gate = {"name": "luck", "metric": "overfitting.dsr_ever", "min": 0.9, "reason": "every trial counts"}
    world.policy = type(world.policy).model_validate({"gates": [gate]})
    world.train(trials=2)
    path = world.training.reports / "metrics.json"
    write_json(path, {**read_json(path), "overfitting": luck})
    assert world.register().verdicts[0].measured == pytest.approx(dsr(0.1, 1250, 4, 0.002, -1.0, 6.0))


def test_without_a_judgement_of_luck_nothing_is_added():
    assert count_every_trial({"test": {}}, 5) == {"test": {}}


def test_a_waiver_leaves_the_figures_of_the_description_as_they_were(world):
    world.train(t=1.0, trials=9)
    path = world.training.reports / "metrics.json"
    write_json(path, {**read_json(path), "overfitting": LUCK})
    world.register()

    def figure():
        (text,) = world.sql("SELECT description FROM model_versions")[0]
        return next(line for line in text.splitlines() if "every trial counted" in line)

    told = figure()
    assert "not measured" not in told
    until = datetime.now(UTC).date() + timedelta(days=30)
    promotion.waive(
        world.root, world.policy, 1, "rank_ic_t", "Rob <rob@example.org>", "on trial with small size", until
    )
    assert figure() == told
