"""The ground floor: errors, atomic files, registries, numerics. Imports nothing of the project."""

import os

from core.numerics import configure

NO_HOME = "/nonexistent"
"""Home of a user who has none, as Debian's list of users writes it."""

if os.path.expanduser("~") == "~":
    # A container's user may have no home: MLflow and DVC would not start, and numba would make a folder called "~".
    os.environ["HOME"] = NO_HOME

configure()
