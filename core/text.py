"""Text that people type: what of it may be recorded, and how any text is shown."""

from __future__ import annotations

import io
import os
import re
import sys
from pathlib import Path

from core.errors import ConfigError

# Surrogates are no characters: Python reads a byte that is not UTF-8 as one of U+DC80 to U+DCFF.
_NO_TEXT = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_NOT_SHOWN = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")


def require_text(text: str, what: str, longest: int) -> str:
    """The text with single blanks between its words.

    Parameters
    ----------
    text : str
        As typed, or as read from elsewhere.
    what : str
        Names it in the message, for example "the comment of a review".
    longest : int
        Characters allowed.

    Raises
    ------
    ConfigError
        It holds a byte that is not UTF-8, a control character or half a character, or it is too long.
    """
    words = " ".join(text.split())
    if found := _NO_TEXT.search(words):
        code = ord(found[0])
        if 0xDC80 <= code <= 0xDCFF:
            wrong, remedy = f"the byte 0x{code - 0xDC00:02x}, which is not UTF-8", "write it as UTF-8"
        elif code >= 0xD800:
            wrong, remedy = f"half a character (U+{code:04X})", "leave it out"
        else:
            wrong, remedy = f"the control character U+{code:04X}", "leave it out"
        raise ConfigError(f"{what} holds {wrong}, as character {found.start() + 1}: {remedy}")
    if len(words) > longest:
        raise ConfigError(f"{what} has {len(words):,} characters, {longest:,} are allowed: shorten it")
    return words


def require_path(path: Path) -> Path:
    """The path, where its name is UTF-8: libraries and params.yaml take no other.

    Raises
    ------
    ConfigError
        It is not.
    """
    require_text(os.fspath(path), f"the path {shown(os.fspath(path))}", sys.maxsize)
    return path


def shown(text: str) -> str:
    """The text, with escapes for control characters and for what is not UTF-8: it neither fails nor moves a cursor."""
    return _NOT_SHOWN.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def print_anything() -> None:
    """Let standard output escape what its encoding lacks: a name in a record must not end a command."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
