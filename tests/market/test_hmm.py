from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import logsumexp
from scipy.stats import norm

from core.errors import ConfigError, DataError
from market import hmm
from market.hmm import GaussianHMM, filtered, filtered_window, fit_hmm, log_likelihood, predicted, smoothed

MODEL = GaussianHMM(
    np.array([0.6, 0.4]), np.array([[0.95, 0.05], [0.1, 0.9]]), np.array([0.001, -0.002]), np.array([0.008, 0.022])
)
X = np.array([0.004, -0.003, -0.031, 0.018, -0.012, 0.002])

returns = st.lists(st.one_of(st.floats(-0.2, 0.2), st.just(np.nan)), min_size=1, max_size=7)


def _random_model(seed, states):
    rng = np.random.default_rng(seed)
    return GaussianHMM(
        rng.dirichlet(np.ones(states)),
        rng.dirichlet(np.ones(states), size=states),
        rng.normal(0, 0.01, states),
        np.sort(rng.uniform(0.005, 0.05, states)),
    )


def _every_path(model, x):
    """All paths of the states, and the log of each one's joint density with the observations."""
    paths = np.array(list(product(range(len(model.start)), repeat=len(x))))
    with np.errstate(divide="ignore"):
        weight = np.log(model.start)[paths[:, 0]]
        for t in range(1, len(x)):
            weight = weight + np.log(model.transition)[paths[:, t - 1], paths[:, t]]
    for t, value in enumerate(x):
        if np.isfinite(value):
            weight = weight + norm.logpdf(value, model.mean, model.deviation)[paths[:, t]]
    return paths, weight


def _enumerated(model, x):
    """Smoothed probabilities and log-likelihood, by adding up every path."""
    paths, weight = _every_path(model, x)
    total = logsumexp(weight)
    states = range(len(model.start))
    return np.array([[np.exp(weight - total)[p == k].sum() for k in states] for p in paths.T]), total


def _simulated(seed, count, model):
    rng = np.random.default_rng(seed)
    states = np.empty(count, dtype=int)
    state = 0
    for t in range(count):
        state = rng.choice(len(model.start), p=model.transition[state])
        states[t] = state
    return rng.normal(model.mean[states], model.deviation[states]), states


TRUE = GaussianHMM(
    np.array([2 / 3, 1 / 3]), np.array([[0.98, 0.02], [0.04, 0.96]]), np.array([0.001, -0.002]), np.array([0.006, 0.02])
)


def test_check_values():
    f = filtered(MODEL, X)
    assert f[:, 1] == pytest.approx([0.200376, 0.104197, 0.986512, 0.948282, 0.879551, 0.586899], abs=1e-6)
    assert smoothed(MODEL, X)[:, 1] == pytest.approx(
        [0.556832, 0.669918, 0.989702, 0.916472, 0.762001, 0.586899], abs=1e-6
    )
    assert predicted(MODEL, f)[:, 1] == pytest.approx(
        [0.220320, 0.138567, 0.888535, 0.856040, 0.797619, 0.548864], abs=1e-6
    )
    assert log_likelihood(MODEL, X) == pytest.approx(15.638415, abs=1e-6)


@settings(deadline=None, max_examples=60)
@given(returns, st.integers(1, 3), st.integers(0, 1000))
def test_equals_the_sum_over_every_path(x, states, seed):
    model = _random_model(seed, states)
    posterior, likelihood = _enumerated(model, x)
    assert smoothed(model, x) == pytest.approx(posterior, abs=1e-9)
    assert log_likelihood(model, x) == pytest.approx(likelihood, abs=1e-8)
    # The filter at t is what the smoother says of the last row when the series ends at t.
    cut = [_enumerated(model, x[: t + 1])[0][-1] for t in range(len(x))]
    assert filtered(model, x) == pytest.approx(np.array(cut), abs=1e-9)
    assert predicted(model, filtered(model, x)) == pytest.approx(np.array(cut) @ model.transition, abs=1e-9)


@settings(deadline=None, max_examples=60)
@given(returns, returns)
def test_the_future_changes_no_filtered_bit(past, future):
    whole, alone = filtered(MODEL, past + future), filtered(MODEL, past)
    assert (whole[: len(past)] == alone).all()
    windows = filtered_window(MODEL, past + future, 4)[: len(past)]
    assert (windows == filtered_window(MODEL, past, 4)).all()


def test_the_filter_is_not_the_smoother():
    f, s = filtered(MODEL, X), smoothed(MODEL, X)
    assert (np.abs(f - s).max(axis=1)[:-1] > 0.001).all()
    assert f[-1] == pytest.approx(s[-1], abs=1e-12)
    # Only the smoother hears of a crash before it happens.
    crash = np.append(X[:-1], -0.1)
    assert (filtered(MODEL, crash)[:-1] == f[:-1]).all()
    assert smoothed(MODEL, crash)[-2, 1] > s[-2, 1] + 0.1


@settings(deadline=None, max_examples=60)
@given(st.lists(st.one_of(st.floats(-0.2, 0.2), st.just(np.nan)), min_size=1, max_size=40), st.integers(1, 12))
def test_a_window_has_the_bits_of_a_filter_on_it_alone(x, window):
    got = filtered_window(MODEL, x, window)
    alone = [filtered(MODEL, x[max(0, t - window + 1) : t + 1])[-1] for t in range(len(x))]
    assert (got == np.array(alone)).all()


def test_a_window_forgets_what_lies_before_it():
    x = np.random.default_rng(0).normal(0, 0.01, 30)
    other = np.append(np.full(20, 0.3), x[20:])
    assert (filtered_window(MODEL, x, 10)[29] == filtered_window(MODEL, other, 10)[29]).all()
    assert (filtered_window(MODEL, x, 11)[29] != filtered_window(MODEL, other, 11)[29]).any()


def test_unobserved_sessions_let_time_pass_and_no_more():
    f = filtered(MODEL, [0.004, np.nan, np.inf])
    assert f[1] == pytest.approx(f[0] @ MODEL.transition, abs=1e-15)
    assert f[2] == pytest.approx(f[1] @ MODEL.transition, abs=1e-15)
    assert log_likelihood(MODEL, [np.nan, np.nan]) == pytest.approx(0.0, abs=1e-15)
    assert filtered(MODEL, []).shape == (0, 2)


def test_far_in_the_tails():
    f = filtered(MODEL, [-5.0, 40.0, -1e6])
    assert f[:, 1] == pytest.approx([1.0, 1.0, 1.0])
    # Where the likely state cannot be reached, the only possible one is certain.
    stuck = GaussianHMM(np.array([1.0, 0.0]), np.eye(2), MODEL.mean, MODEL.deviation)
    assert filtered(stuck, [-5.0, 40.0])[:, 0].tolist() == [1.0, 1.0]
    assert np.isfinite(smoothed(stuck, [-5.0, 40.0])).all()
    assert log_likelihood(stuck, [-5.0]) == pytest.approx(norm.logpdf(-5.0, 0.001, 0.008))


def test_fit_recovers_a_simulated_chain():
    x, states = _simulated(1, 6000, TRUE)
    model = fit_hmm(x)
    assert model.deviation == pytest.approx(TRUE.deviation, rel=0.05)
    assert model.mean == pytest.approx(TRUE.mean, abs=0.001)
    assert model.transition == pytest.approx(TRUE.transition, abs=0.01)
    assert model.start[1] == pytest.approx(states.mean(), abs=0.03)
    assert log_likelihood(model, x) > log_likelihood(TRUE, x)
    told = filtered(model, x)[:, 1] > 0.5
    assert (told == states).mean() > 0.93


def test_fit_orders_states_by_deviation_and_draws_no_random_number():
    # Stress first, calm later: the order of time must not decide the order of states.
    rng = np.random.default_rng(3)
    x = np.concatenate([rng.normal(0, 0.03, 300), rng.normal(0, 0.005, 300)])
    model = fit_hmm(x)
    assert model.deviation == pytest.approx([0.005, 0.03], rel=0.15)
    assert filtered(model, x)[:250, 1].mean() > 0.95
    assert filtered(model, x)[350:, 1].mean() < 0.05
    again = fit_hmm(x)
    assert all((getattr(again, name) == value).all() for name, value in vars(model).items())


def _slow_step(model, x):
    """One step of expectation maximisation with plain forward and backward sums in logs."""
    density = np.where(np.isfinite(x)[:, None], norm.logpdf(x[:, None], model.mean, model.deviation), 0.0)
    log_a = np.log(model.transition)
    alpha, beta = [np.log(model.start) + density[0]], [np.zeros(len(model.start))]
    for row in density[1:]:
        alpha.append(logsumexp(alpha[-1][:, None] + log_a, axis=0) + row)
    for row in density[:0:-1]:
        beta.insert(0, logsumexp(log_a + row + beta[0], axis=1))
    alpha, beta = np.array(alpha), np.array(beta)
    total = logsumexp(alpha[-1])
    weight = np.exp(alpha + beta - total)
    pairs = np.exp(alpha[:-1, :, None] + log_a + (density + beta)[1:, None, :] - total).sum(axis=0)
    seen = np.isfinite(x)
    mean = (weight[seen] * x[seen, None]).sum(axis=0) / weight[seen].sum(axis=0)
    variance = (weight[seen] * (x[seen, None] - mean) ** 2).sum(axis=0) / weight[seen].sum(axis=0)
    return pairs / pairs.sum(axis=1, keepdims=True), mean, np.sqrt(variance)


def test_fit_is_a_fixed_point_of_a_slow_step():
    x, _ = _simulated(2, 1500, TRUE)
    x[400:450] = np.nan
    model = fit_hmm(x, tolerance=1e-13)
    transition, mean, deviation = _slow_step(model, x)
    # Not exact: the fitted start is the share of the states, which touches the first rows.
    assert transition == pytest.approx(model.transition, abs=2e-4)
    assert mean == pytest.approx(model.mean, abs=2e-5)
    assert deviation == pytest.approx(model.deviation, abs=2e-5)


def test_more_iterations_never_lower_the_likelihood():
    x, _ = _simulated(4, 800, TRUE)
    likelihoods = [log_likelihood(fit_hmm(x, iterations=n), x) for n in (1, 2, 4, 8, 16, 400)]
    # The replaced start moves the first row alone, by less than the steps gain.
    assert (np.diff(likelihoods) > -0.05).all()
    assert likelihoods[-1] > likelihoods[0] + 0.5


@pytest.mark.parametrize(("seed", "better"), [(261, 1), (105, 21)])
def test_the_better_of_two_starts_is_kept(seed, better, monkeypatch):
    x = 0.01 * np.random.default_rng(seed).standard_t(5, 200)
    both = fit_hmm(x)
    runs = {}
    for span in hmm.SPANS:
        monkeypatch.setattr(hmm, "SPANS", (span,))
        runs[span] = fit_hmm(x)
    (other,) = set(runs) - {better}
    assert both.to_dict() == runs[better].to_dict()
    assert log_likelihood(runs[better], x) > log_likelihood(runs[other], x) + 1


def test_fit_skips_unobserved_sessions():
    x, _ = _simulated(5, 3000, TRUE)
    gaps = x.copy()
    gaps[np.random.default_rng(0).random(3000) < 0.1] = np.nan
    model = fit_hmm(np.concatenate([np.full(200, np.nan), gaps]))
    assert model.deviation == pytest.approx(TRUE.deviation, rel=0.08)
    assert model.transition == pytest.approx(TRUE.transition, abs=0.02)


def test_one_state_is_a_plain_normal():
    x = np.random.default_rng(6).normal(0.01, 0.02, 500)
    model = fit_hmm(x, states=1)
    assert (model.mean[0], model.deviation[0]) == pytest.approx((x.mean(), x.std()))
    assert log_likelihood(model, x) == pytest.approx(norm.logpdf(x, x.mean(), x.std()).sum())


def test_a_state_never_collapses_on_one_day():
    x = np.append(np.random.default_rng(7).normal(0, 1, 300), np.zeros(200))
    model = fit_hmm(x, floor=0.05)
    assert model.deviation[0] == pytest.approx(0.05 * x.std())


def test_refusals():
    with pytest.raises(DataError, match=r"99 finite observations, 2 states need 100: give a longer history"):
        fit_hmm(np.append(np.arange(99.0), [np.nan] * 500))
    with pytest.raises(DataError, match="observations are the same"):
        fit_hmm(np.full(500, 0.1))
    with pytest.raises(DataError, match="give one series"):
        filtered(MODEL, np.zeros((3, 2)))
    with pytest.raises(ConfigError, match="choose at least 1"):
        filtered_window(MODEL, X, 0)
    with pytest.raises(ConfigError, match="floor 0"):
        fit_hmm(X, floor=0.0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"start": np.ones(3) / 3}, "give one number a state"),
        ({"start": np.array([0.6, 0.6])}, "normalise them"),
        ({"transition": np.array([[1.1, -0.1], [0.5, 0.5]])}, "normalise them"),
        ({"deviation": np.array([0.0, 0.1])}, "deviations positive"),
        ({"mean": np.array([0.0, np.nan])}, "means must be finite"),
        ({"deviation": np.array([0.2, 0.1])}, "deviations must ascend"),
    ],
)
def test_a_model_that_is_none(change, message):
    with pytest.raises(DataError, match=message):
        GaussianHMM(**{**vars(MODEL), **change})


def test_round_trip():
    again = GaussianHMM.from_dict(MODEL.to_dict())
    assert all((getattr(again, name) == value).all() for name, value in vars(MODEL).items())
    with pytest.raises(DataError, match="cannot be read"):
        GaussianHMM.from_dict({"start": [1.0]})
