"""The faked history, for tests that run as files of their own."""

import importlib.util
import sys
from pathlib import Path

_spec = importlib.util.spec_from_file_location("monitoring_world", Path(__file__).parent / "world.py")
_world = importlib.util.module_from_spec(_spec)
sys.modules["monitoring_world"] = _world
_spec.loader.exec_module(_world)
