"""A PostgreSQL server of its own, in a temporary folder, reached through a socket file alone."""

import contextlib
import os
import pwd
import shutil
import subprocess
import tempfile
from pathlib import Path

USER, PASSWORD = "signals", "a database password of the test"


def binaries():
    """Folder with `initdb` and `pg_ctl`; None where PostgreSQL is not installed, or nobody can run it."""
    named = shutil.which("initdb")
    found = [Path(named).parent] if named else sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    return found[-1] if found and (os.geteuid() != 0 or _server_user()) else None


@contextlib.contextmanager
def running():
    """Start the server with an empty database; give its SQLAlchemy address."""
    with tempfile.TemporaryDirectory(prefix="pg-") as name:
        folder, secret = Path(name), Path(name) / "secret"
        secret.write_text(PASSWORD)
        user = _server_user() if os.geteuid() == 0 else None
        if user:
            # PostgreSQL refuses to run as root.
            for path in (folder, secret):
                shutil.chown(path, user)

        def command(program, *arguments):
            subprocess.run(
                [binaries() / program, *arguments], user=user, cwd=folder, check=True, stdout=subprocess.DEVNULL
            )

        data = str(folder / "data")
        command("initdb", "-D", data, "-U", USER, "-A", "scram-sha-256", f"--pwfile={secret}", "--no-sync")
        options = f"-c listen_addresses= -c unix_socket_directories={folder} -c fsync=off"
        command("pg_ctl", "-D", data, "-w", "-t", "120", "-l", str(folder / "log"), "-o", options, "start")
        try:
            password = PASSWORD.replace(" ", "%20")
            yield f"postgresql+pg8000://{USER}:{password}@/postgres?unix_sock={folder}/.s.PGSQL.5432"
        finally:
            command("pg_ctl", "-D", data, "-m", "immediate", "stop")


def _server_user():
    with contextlib.suppress(KeyError):
        return pwd.getpwnam("postgres").pw_name
    return None
