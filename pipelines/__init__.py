"""One thin module a DVC stage or command: read files, call one room, write files."""

from core.numerics import configure

configure()
