"""What people type: refused with the reason, or shown as it can be."""

from __future__ import annotations

import io
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.errors import ConfigError
from core.text import print_anything, require_path, require_text, shown


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            b"gepr\xfcft, in Ordnung".decode("utf-8", "surrogateescape"),
            "the byte 0xfc, which is not UTF-8, as character 5",
        ),
        ("half \ud83d", "half a character (U+D83D), as character 6"),
        ("a\x00b", "the control character U+0000, as character 2"),
        ("\x1b[2J", "the control character U+001B"),
        ("a\x9bb", "the control character U+009B"),
        ("ab" * 11, "has 22 characters, 20 are allowed"),
    ],
)
def test_text_that_cannot_be_recorded_is_refused_with_the_reason(text, words):
    with pytest.raises(ConfigError, match=f"^the comment {re.escape(words) if 'has' in words else 'holds'}") as raised:
        require_text(text, "the comment", 20 if "has" in words else 100)
    assert words in str(raised.value)
    str(raised.value).encode()


@pytest.mark.parametrize("text", ["geprüft", "検証済み 👩‍🔬", "a\tb\n c", "  Ž  "])
def test_any_other_text_is_taken(text):
    assert require_text(text, "the comment", 100) == " ".join(text.split())


@given(st.text(st.characters(exclude_categories=())))
def test_what_is_shown_can_be_written_and_moves_no_cursor(text):
    escaped = shown(text)
    escaped.encode()
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", escaped)
    if not re.search(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]", text):
        assert escaped == text


@pytest.mark.parametrize("encoding", ["ascii", "utf-8", "latin-1"])
def test_standard_output_escapes_what_it_lacks(monkeypatch, encoding):
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors="strict")
    monkeypatch.setattr("sys.stdout", stream)
    print_anything()
    print("検 \udcfc")
    stream.flush()
    assert b"\\udcfc" in stream.buffer.getvalue()


def test_a_path_that_is_not_utf8_is_refused(tmp_path):
    assert require_path(tmp_path / "geprüft $(x)") == tmp_path / "geprüft $(x)"
    with pytest.raises(ConfigError, match=r"the path .*dat\\udcfc holds the byte 0xfc"):
        require_path(tmp_path / "dat\udcfc")
