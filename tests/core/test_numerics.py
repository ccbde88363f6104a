"""Every process of the project computes on one instruction set, whatever the processor and the environment offer."""

import ast
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from core import numerics
from core.errors import ConfigError

PACKAGES = (
    "core", "sources", "market", "features", "models",
    "portfolio", "reporting", "governance", "monitoring", "pipelines",
)  # fmt: skip
OTHERWISE = {
    "NPY_DISABLE_CPU_FEATURES": "X86_V3 X86_V4 AVX512_ICL AVX512_SPR",
    "OPENBLAS_CORETYPE": "Prescott",
    "OPENBLAS_NUM_THREADS": "2",
    "OMP_NUM_THREADS": "2",
    "MKL_CBWR": "AVX2",
    "ATEN_CPU_CAPABILITY": "default",
    "ARROW_USER_SIMD_LEVEL": "NONE",
    "NUMBA_CPU_NAME": "generic",
}
"""Settings under which each library would choose other kernels."""

only_promised = pytest.mark.skipif(not numerics.is_promised(), reason="the same bytes are promised on x86-64-v3 Linux")


def clean_environment(**others: str) -> dict[str, str]:
    """The environment of a user's shell: without what this process has set for itself."""
    ours = {*numerics.INSTRUCTION_SET, *numerics.ONE_THREAD, *numerics.WAITING, "SIGNALS_NUMERICS"}
    return {name: value for name, value in os.environ.items() if name not in ours} | others


def described(root: Path, first: str, **others: str) -> dict:
    """What a new process says of itself that imports one package first."""
    code = (
        f"import {first}, json; from core import numerics; numerics.require(); print(json.dumps(numerics.describe()))"
    )
    environment = clean_environment(**others, PYTHONPATH=os.pathsep.join(sys.path))
    done = subprocess.run([sys.executable, "-c", code], cwd=root, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@only_promised
def test_the_settings_replace_those_of_the_environment(repository: Path) -> None:
    here = described(repository, "pipelines", **OTHERWISE)
    assert here["dispatch"] == {
        "numpy": "X86_V2 X86_V3",
        "openblas": "Haswell",
        "numba": "x86-64-v3",
        "arrow": "avx2",
        "mkl": "COMPATIBLE",
        "torch": "avx2",
        "onednn": "AVX2",
    }
    assert here["promised"]


@pytest.mark.parametrize("size", ["1024", "2048"])
def test_a_large_eigenproblem_is_solved_whatever_the_cache(repository: Path, size: str) -> None:
    code = (
        "import core, numpy as np; a = np.random.default_rng(0).normal(size=(600, 600)); a = a @ a.T; "
        "w, v = np.linalg.eigh(a); assert abs(v * w @ v.T - a).max() < 1e-9"
    )
    environment = clean_environment(OPENBLAS_L2_SIZE=size, PYTHONPATH=os.pathsep.join(sys.path))
    done = subprocess.run([sys.executable, "-c", code], cwd=repository, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("package", PACKAGES)
def test_every_package_makes_the_settings_first(repository: Path, package: str) -> None:
    code = f"import {package}, os, sys; assert 'numpy' not in sys.modules; print(os.environ['OPENBLAS_NUM_THREADS'])"
    environment = clean_environment(OPENBLAS_NUM_THREADS="2", PYTHONPATH=os.pathsep.join(sys.path))
    done = subprocess.run([sys.executable, "-c", code], cwd=repository, env=environment, capture_output=True, text=True)
    assert done.stdout.strip() == "1", done.stderr


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "dvc.yaml").touch()
    monkeypatch.setenv("SIGNALS_ROOT", str(tmp_path))
    return tmp_path


@only_promised
def test_native_takes_back_what_a_portable_parent_set(checkout: Path) -> None:
    (checkout / "params.yaml").write_text("numerics: native  # all of it\n")
    inherited = {**numerics.INSTRUCTION_SET, "SIGNALS_NUMERICS": "portable", "SIGNALS_ROOT": str(checkout)}
    here = described(checkout, "core", **inherited)
    assert (here["mode"], here["promised"], here["dispatch"]["mkl"]) == ("native", False, "host")
    kept = described(checkout, "core", OPENBLAS_CORETYPE="Nehalem", SIGNALS_ROOT=str(checkout))
    assert kept["dispatch"]["openblas"] == "Nehalem"


@pytest.mark.parametrize(
    ("text", "mode"),
    [("seed: 1\n", "portable"), ("numerics: portable\n", "portable"), ("a: 1\nnumerics: native\n", "native")],
)
def test_the_mode_is_that_of_the_parameters(checkout: Path, text: str, mode: numerics.Mode) -> None:
    (checkout / "params.yaml").write_text(text)
    assert numerics.chosen() == mode
    numerics.require(mode)


def test_an_unusual_spelling_is_refused(checkout: Path) -> None:
    (checkout / "params.yaml").write_text("{seed: 1, numerics: native}\n")
    with pytest.raises(ConfigError, match="a line of its own"):
        numerics.require("native")


def test_settings_that_came_too_late_are_refused(repository: Path) -> None:
    code = "import numpy; from core import numerics; numerics.require()"
    environment = clean_environment(PYTHONPATH=os.pathsep.join(sys.path))
    done = subprocess.run([sys.executable, "-c", code], cwd=repository, env=environment, capture_output=True, text=True)
    assert "numpy was imported before this project" in done.stderr


def test_settings_that_were_changed_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "8")
    with pytest.raises(ConfigError, match="OPENBLAS_NUM_THREADS was changed to '8'"):
        numerics.require()


def test_the_user_decides_how_threads_wait(repository: Path) -> None:
    code = "import core, os; print(os.environ['GOMP_SPINCOUNT'])"
    for others, wanted in (({}, "1000"), ({"GOMP_SPINCOUNT": "7"}, "7")):
        environment = clean_environment(**others, PYTHONPATH=os.pathsep.join(sys.path))
        done = subprocess.run([sys.executable, "-c", code], cwd=repository, env=environment, capture_output=True)
        assert done.stdout.decode().strip() == wanted


APPROXIMATE = {"sqrt", "log", "log2", "log10", "acos", "asin", "atan"}
"""Functions of a tensor that MKL's vector library computes from the processor's own approximations."""


def test_networks_use_no_function_that_follows_the_processor(repository: Path) -> None:
    found = []
    for file in [*(repository / "models/networks").glob("*.py"), *(repository / "models/sequence").glob("*.py")]:
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Attribute) and node.attr.rstrip("_") in APPROXIMATE:
                exact = isinstance(node.value, ast.Name) and node.value.id in ("math", "np")
                found += [] if exact else [f"{file.name}:{node.lineno} {node.attr}"]
    assert found == []


TRAIN = """
import hashlib, torch
from models.networks.base import NETWORKS
from models.sequence.params import SequenceParams
from models.sequence.training import day_loss, optimizer

torch.set_num_threads(1)
digest = hashlib.sha256()
for name in NETWORKS.names():
    torch.manual_seed(0)
    network = NETWORKS[name](6, 10, hidden=16, depth=1, dropout=0.1)
    descent, x, y = optimizer(network, SequenceParams()), torch.randn(64, 10, 6), torch.randn(64)
    for _ in range(3):
        descent.zero_grad()
        day_loss(network(x, torch.ones(64, 10)), y, torch.ones(64), 0.1).backward()
        descent.step()
    for weights in network.state_dict().values():
        digest.update(weights.numpy().tobytes())
print(digest.hexdigest())
"""


@pytest.mark.long
@only_promised
@pytest.mark.parametrize("processor", ["Haswell", "EPYC-Rome"])
def test_an_emulated_processor_trains_the_same_networks(repository: Path, processor: str) -> None:
    emulator = shutil.which("qemu-x86_64")
    if emulator is None:
        pytest.skip("no qemu-x86_64: install qemu-user to emulate another make of processor")
    environment = clean_environment(PYTHONPATH=os.pathsep.join(sys.path))
    digests = {
        subprocess.run(
            [*command, os.path.realpath(sys.executable), "-c", TRAIN],
            cwd=repository, env=environment, capture_output=True, text=True, check=True,
        ).stdout
        for command in ([], [emulator, "-cpu", processor])
    }  # fmt: skip
    assert len(digests) == 1
