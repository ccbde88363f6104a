"""A stage and the daily job sum on one BLAS thread, whatever the process was given."""

from types import SimpleNamespace

import numpy as np
import pytest
import scipy.linalg  # noqa: F401  loads SciPy's BLAS
from threadpoolctl import threadpool_info, threadpool_limits

from pipelines import infer, stage
from pipelines.threads import one_blas_thread


def blas_threads() -> set[int]:
    return {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}


@pytest.fixture
def two_threads():
    with threadpool_limits(limits=2, user_api="blas"):
        # A library built for one thread, which another test has loaded, takes no more.
        assert max(blas_threads()) == 2
        yield


def test_a_stage_runs_on_one_and_leaves_the_process_as_it_was(two_threads, monkeypatch, tmp_path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(stage, "find_root", lambda: tmp_path)
    monkeypatch.setattr(stage, "load_settings", lambda _: None)
    seen: set[int] = set()
    stage.run_stage(lambda _: seen.update(blas_threads()))
    assert seen == {1}
    assert max(blas_threads()) == 2


def test_the_daily_job_does_too(two_threads, monkeypatch) -> None:
    seen: set[int] = set()

    def prepare(*_) -> None:
        seen.update(blas_threads())
        raise KeyboardInterrupt

    monkeypatch.setattr(infer, "prepare_day", prepare)
    with pytest.raises(KeyboardInterrupt):
        infer._write_day(SimpleNamespace(source=None), None, None, None, {}, force=True)
    assert seen == {1}


def test_a_product_is_the_same_bits_for_any_number_of_threads() -> None:
    draw = np.random.default_rng(0)
    left, right = draw.normal(size=(40, 60_000)), draw.normal(size=(60_000, 40))
    found = set()
    for threads in (1, 2, 3):
        with threadpool_limits(limits=threads, user_api="blas"), one_blas_thread():
            found.add((left @ right).tobytes())
    assert len(found) == 1
