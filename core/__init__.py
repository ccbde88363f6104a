"""The ground floor: errors, atomic files, registries. Imports nothing of the project."""

import os

from core.numerics import configure

if os.path.expanduser("~") == "~":
    # A container's user may have no home: MLflow and DVC would not start, and numba would make a folder called "~".
    # This is the home of Debian's users who have none.
    os.environ["HOME"] = "/nonexistent"

configure()
