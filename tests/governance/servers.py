"""A server process as `signals ui` starts it."""

import contextlib
import socket
import subprocess
import time
import urllib.error
import urllib.request

import pytest

from governance.store import tracking_uri
from pipelines.ui import server_command, server_environment

START = 240.0


@contextlib.contextmanager
def started(root, team=False, **environment):
    """The server on a free port; its address and its log."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = server_command(tracking_uri(root), "127.0.0.1", port, team)
    address = f"http://127.0.0.1:{port}"
    log = root / "server.log"
    with log.open("w") as out:
        process = subprocess.Popen(
            command, cwd=root, env={**server_environment(root), **environment}, stdout=out, stderr=out
        )
        try:
            wait_for(f"{address}/health", process, log)
            yield address, log
        finally:
            process.terminate()
            process.wait(30)


def wait_for(url, process, log):
    end = time.monotonic() + START
    while time.monotonic() < end:
        if process.poll() is not None:
            pytest.fail(f"the server ended: {log.read_text()}")
        with contextlib.suppress(urllib.error.URLError, ConnectionError):
            urllib.request.urlopen(url, timeout=5)
            return
        time.sleep(0.5)
    pytest.fail(f"the server did not start in {START:.0f} s: {log.read_text()}")
