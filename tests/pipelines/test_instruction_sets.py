"""Stages of a small project give the same bytes in processes that offer their libraries other instruction sets."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from core import numerics
from tests.pipelines.conftest import Project

pytestmark = pytest.mark.skipif(not numerics.is_promised(), reason="the same bytes are promised on x86-64-v3 Linux")

TINY: dict[str, Any] = {
    "data": {
        "source": "simulated",
        "path": "data/files",
        "simulated": {"symbols": 40, "start": "2012-01-03", "end": "2016-12-30", "planted_ic": 0.2},
    },
    "universe": {"min_dollar_volume": 0.0},
    "features": {"families": ["market"]},
    "folds": {"train_sessions": 630, "test_sessions": 189, "holdout_sessions": 126, "valid_sessions": 20},
    "tuning": {"trials": 1},
    "layers": {
        "names": ["linear", "sequence"],
        "sequence": {"network": "tcn", "lookback": 10, "every": 5, "epochs": 1, "seeds": 1, "num_threads": 1},
    },
}
STAGES = """
from pathlib import Path
from core import numerics
from pipelines import clean, dataset, features, ingest, tune
from pipelines.params import load_settings

settings = load_settings(Path("params.yaml"))
numerics.require(settings.numerics)
ingest.ingest(settings)
"""
ALL_STAGES = f"""{STAGES}
clean.main(settings)
features.main(settings, "market")
dataset.main(settings)
tune.main(settings, "linear")
tune.main(settings, "sequence")
"""
"""In one process, since imports are most of what a stage of so small a project takes."""

OFFERED: dict[str, dict[str, str]] = {
    "all of this processor": {},
    "AVX2": {
        "NPY_DISABLE_CPU_FEATURES": "X86_V4 AVX512_ICL AVX512_SPR",
        "OPENBLAS_CORETYPE": "Zen",
        "MKL_CBWR": "AVX2",
        "ATEN_CPU_CAPABILITY": "avx2",
        "ARROW_USER_SIMD_LEVEL": "AVX2",
    },
    "baseline": {
        "NPY_DISABLE_CPU_FEATURES": "X86_V3 X86_V4 AVX512_ICL AVX512_SPR",
        "OPENBLAS_CORETYPE": "Prescott",
        "OPENBLAS_NUM_THREADS": "2",
        "ATEN_CPU_CAPABILITY": "default",
        "ARROW_USER_SIMD_LEVEL": "NONE",
        "NUMBA_CPU_NAME": "x86-64-v2",
        "NUMBA_CPU_FEATURES": "+sse4.2",
    },
}


def outputs(project: Project, offered: dict[str, str], stages: str) -> dict[str, bytes]:
    """What the stages write in a process that was started with other settings."""
    ours = {*numerics.INSTRUCTION_SET, *numerics.ONE_THREAD, "SIGNALS_NUMERICS"}
    environment = {name: value for name, value in project.env.items() if name not in ours} | offered
    done = subprocess.run(
        [sys.executable, "-c", stages], cwd=project.root, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return project.outputs()


@pytest.mark.slow
def test_the_same_bytes_on_every_instruction_set(fresh: Callable[..., Project], tmp_path: Path) -> None:
    project = fresh(TINY)
    written = [outputs(project.copy(tmp_path / name), offered, ALL_STAGES) for name, offered in OFFERED.items()]
    assert len(written[0]) > 20
    for others in written[1:]:
        assert others.keys() == written[0].keys()
        assert [name for name, content in others.items() if content != written[0][name]] == []


@pytest.mark.slow
def test_other_bytes_without_the_settings(fresh: Callable[..., Project], tmp_path: Path) -> None:
    """The instruction sets offered above would decide the bytes, were it not for `core.numerics`."""
    project = fresh({**TINY, "numerics": "native"})
    both = [outputs(project.copy(tmp_path / name), OFFERED[name], STAGES) for name in ("AVX2", "baseline")]
    assert both[0] != both[1]
