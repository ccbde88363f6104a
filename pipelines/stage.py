"""How a stage runs as a process: parameters checked first, an expected error is one line and an exit code."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from pydantic import BaseModel

from core import numerics
from core.checkout import PARAMS, find_root
from core.errors import ConfigError, SignalsError
from core.text import print_anything
from pipelines.params import Settings, load_settings


def run_stage(body: Callable[..., None], *arguments: str) -> None:
    """Run a stage's body in the checkout's root with validated settings, then exit.

    Parameters
    ----------
    body
        Called with the settings and the arguments; reads and writes relative to the root.
    """
    print_anything()
    try:
        root = find_root()
        os.chdir(root)
        settings = load_settings(root / PARAMS)
        numerics.require(settings.numerics)
        body(settings, *arguments)
    except SignalsError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)


def one_argument(what: str) -> str:
    """The stage's single command line argument.

    Raises
    ------
    SystemExit
        With a usage line, when it is missing.
    """
    if len(sys.argv) != 2:
        sys.exit(f"usage: python -m pipelines.{Path(sys.argv[0]).stem} {what.upper()}")
    return sys.argv[1]


def block_of(blocks: Mapping[str, BaseModel], name: str, where: str) -> BaseModel:
    """The parameters of the layer or family that the command line names.

    Parameters
    ----------
    where
        Key of params.yaml that lists those of the run.

    Raises
    ------
    ConfigError
        It is not one of them.
    """
    if name not in blocks:
        raise ConfigError(
            f"{name} is not part of the run ({where}: {', '.join(sorted(blocks))}): add it to params.yaml"
        )
    return blocks[name]


__all__ = ["Settings", "block_of", "one_argument", "run_stage"]
