"""Numerics: the instruction set that every library may use, fixed before the first of them is imported.

NumPy, OpenBLAS, MKL, PyTorch, Arrow and numba choose their kernels by the processor they find, and another kernel adds
in another order or rounds another way. `configure` restricts them all to x86-64-v3 (AVX2 and FMA), which AMD and Intel
have had since 2013 to 2015, so that the same inputs give the same bytes on either. Each package calls it in its
`__init__`, before any of its modules can import a library; processes started from here inherit it.

`numerics: native` in params.yaml gives every library the whole processor and gives up the promise.

PyTorch's `sqrt`, `exp`, `log` and their like go to MKL's vector library, which starts from the processor's own
approximations (RSQRTPS differs between AMD and Intel) whatever MKL is set to: the networks use none of them where
results may differ (`torch.rsqrt` is exact), and tests/core/test_numerics.py holds that.
"""

from __future__ import annotations

import functools
import os
import platform
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from core.checkout import PARAMS, checkout
from core.errors import ConfigError

Mode = Literal["portable", "native"]

INSTRUCTION_SET: Mapping[str, str] = {
    "NPY_ENABLE_CPU_FEATURES": "X86_V3",
    "OPENBLAS_CORETYPE": "Haswell",
    # KiB, Haswell's own. From the size that OpenBLAS finds it lays out its buffers: with one of 1 MiB (Zen 4, Skylake's
    # servers) these kernels crash in eigh of 450 rows in OpenBLAS 0.3.34, that of NumPy 2.5.5.
    "OPENBLAS_L2_SIZE": "256",
    # Intel promises equal results on other makes of processor for this branch alone.
    "MKL_CBWR": "COMPATIBLE",
    "ATEN_CPU_CAPABILITY": "avx2",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "ARROW_USER_SIMD_LEVEL": "AVX2",
    "NUMBA_CPU_NAME": "x86-64-v3",
    # Named as well, since numba adds the host's features to a processor that comes without any.
    "NUMBA_CPU_FEATURES": "+avx2,+bmi,+bmi2,+f16c,+fma,+lzcnt,+movbe,+popcnt",
}
"""Environment variables that restrict each library to x86-64-v3."""

ONE_THREAD: Mapping[str, str] = {"OPENBLAS_NUM_THREADS": "1", "VECLIB_MAXIMUM_THREADS": "1"}
"""A product of matrices that is split among threads is added in an order that depends on their number."""

WAITING: Mapping[str, str] = {"GOMP_SPINCOUNT": "1000", "KMP_BLOCKTIME": "1"}
"""OpenMP threads that wait by spinning slow every other busy process by a factor of up to ten; results do not change.

Set in either mode, unless the user has set them.
"""

_MARK = "SIGNALS_NUMERICS"
"""Set for child processes, so that a native one can tell our settings from its user's."""

_LIBRARIES = ("numpy", "scipy", "torch", "numba", "pyarrow", "lightgbm")
_V3 = {"avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "abm", "movbe", "xsave"}
_V4 = {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"}

_too_late: list[str] = []
"""Libraries that this process had imported before the settings were made."""


def configure() -> None:
    """Make the settings of the mode that params.yaml names; calls after the first change nothing.

    In portable mode the settings replace what the environment says, since any other value would break the promise.
    """
    for name, value in WAITING.items():
        os.environ.setdefault(name, value)
    settings = {**ONE_THREAD, **(INSTRUCTION_SET if is_promised() else {})}
    if chosen() == "native":
        if os.environ.pop(_MARK, None):
            for name, value in settings.items():
                if os.environ.get(name) == value:
                    del os.environ[name]
        return
    if any(os.environ.get(name) != value for name, value in settings.items()):
        _too_late.extend(name for name in _LIBRARIES if name in sys.modules)
    if is_promised():
        # NumPy takes one of the two.
        os.environ.pop("NPY_DISABLE_CPU_FEATURES", None)
    os.environ.update(settings)
    os.environ[_MARK] = "portable"


def chosen() -> Mode:
    """The mode that the checkout's params.yaml names: read as text, since no library may be imported yet."""
    if (root := checkout()) is None:
        return "portable"
    text = (root / PARAMS).read_text(encoding="utf-8", errors="replace")
    return "native" if re.search(r"^numerics:[ ]*native[ ]*(#|$)", text, re.MULTILINE) else "portable"


def require(mode: Mode | None = None) -> None:
    """Check that this process runs in a mode; without one, in that of params.yaml as `configure` read it.

    Raises
    ------
    ConfigError
        The settings came too late, were changed since, or params.yaml spells the key in an unusual way.
    """
    if mode is None:
        mode = chosen()
    elif mode != chosen():
        raise ConfigError(f"numerics = {mode!r}: write it as a line of its own, `numerics: {mode}`, in params.yaml")
    if mode == "native":
        return
    if _too_late:
        raise ConfigError(
            f"numerics: {', '.join(_too_late)} was imported before this project, with other settings: import one of "
            "its packages first, or start the command as a process of its own"
        )
    wanted = {**ONE_THREAD, **(INSTRUCTION_SET if is_promised() else {})}
    for name, value in wanted.items():
        if os.environ.get(name) != value:
            raise ConfigError(f"numerics: {name} was changed to {os.environ.get(name)!r}: leave it unset")


@functools.cache
def _cpu() -> tuple[str, frozenset[str]]:
    """Name and flags of the processor, from /proc/cpuinfo where there is one."""
    info = Path("/proc/cpuinfo")
    text = info.read_text(encoding="utf-8", errors="replace") if info.is_file() else ""
    model = re.search(r"^model name\s*:\s*(.*)$", text, re.MULTILINE)
    flags = re.search(r"^flags\s*:\s*(.*)$", text, re.MULTILINE)
    name = model[1].strip() if model else platform.processor() or platform.machine()
    return name, frozenset(flags[1].split() if flags else ())


def instruction_set() -> str:
    """The processor's own: `x86-64-v2`, `x86-64-v3`, `x86-64-v4`, or the machine's name on other architectures."""
    machine = platform.machine()
    if machine not in ("x86_64", "AMD64"):
        return machine
    _, flags = _cpu()
    if not flags >= _V3:
        return "x86-64-v2"
    return "x86-64-v4" if flags >= _V4 else "x86-64-v3"


def is_promised() -> bool:
    """Whether portable mode gives the same bytes here: Linux on x86-64-v3 or better."""
    return sys.platform == "linux" and instruction_set() in ("x86-64-v3", "x86-64-v4")


def describe() -> dict[str, Any]:
    """Processor, instruction set and what each library may use of it, for the lineage.

    Returns
    -------
    dict
        `mode` (of params.yaml), `promised` (whether its bytes hold on other processors), `processor`,
        `instruction_set`, and `dispatch`: by library, what it was restricted to or has chosen.
    """
    import numba
    import numpy as np
    import pyarrow as pa
    import scipy.linalg  # noqa: F401  a BLAS of its own
    from threadpoolctl import threadpool_info

    mode = chosen()
    features = np.show_config(mode="dicts")["SIMD Extensions"]
    blas = sorted({str(pool.get("architecture", "")) for pool in threadpool_info() if pool["user_api"] == "blas"})
    return {
        "mode": mode,
        "promised": mode == "portable" and is_promised(),
        "processor": _cpu()[0],
        "instruction_set": instruction_set(),
        "dispatch": {
            "numpy": " ".join([*features["baseline"], *features.get("found", ())]),
            "openblas": " ".join(blas),
            "numba": getattr(numba.config, "CPU_NAME", None) or "host",
            "arrow": pa.runtime_info().simd_level,
            "mkl": os.environ.get("MKL_CBWR", "host"),
            "torch": os.environ.get("ATEN_CPU_CAPABILITY", "host"),
            "onednn": os.environ.get("ONEDNN_MAX_CPU_ISA", "host"),
        },
    }
