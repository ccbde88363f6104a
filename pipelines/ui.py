"""`signals ui`: MLflow's own pages on this machine, light and without telemetry."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

from core.errors import ConfigError
from governance.places import SCHEME
from governance.store import ensure_store
from pipelines.console import Printer
from pipelines.policy import load_policy


def server_command(uri: str, model: str, host: str, port: int) -> list[str]:
    """Command line of the MLflow server."""
    return [
        *(sys.executable, "-m", "mlflow", "server"),
        *("--host", host, "--port", str(port), "--workers", "1"),
        *("--backend-store-uri", uri, "--default-artifact-root", f"{SCHEME}:/{model}"),
    ]


def server_environment(root: Path) -> dict[str, str]:
    """Environment of the MLflow server: the project root, no telemetry, no job runners."""
    return {
        **os.environ,
        "SIGNALS_ROOT": str(root),
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }


def serve_ui(root: Path, host: str, port: int) -> None:
    """Turn this process into the MLflow server.

    Raises
    ------
    ConfigError
        The port is taken.
    """
    model = load_policy(root).model
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise ConfigError(f"{host}:{port} cannot be used ({error.strerror}): choose another with --port") from None
    command = server_command(ensure_store(root), model, host, port)
    printer = Printer()
    printer.line(f"model     http://{host}:{port}/#/models/{model}")
    printer.line(f"runs      http://{host}:{port}/#/experiments")
    printer.line("starting, about ten seconds; Ctrl-C ends it")
    sys.stdout.flush()
    os.chdir(root)
    os.execve(sys.executable, command, server_environment(root))
