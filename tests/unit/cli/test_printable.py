from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appcat.cli.printable import Printable


def shown(data: bytes) -> str:
    return Printable().feed(data, final=True)


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"plain\ttext\r\n", "plain\ttext\n"),
        ("grün".encode(), "grün"),
        (b"\033[31mred\033[0m", "\033[31mred\033[0m"),
        (b"\033[1;38:5:3mx", "\033[1;38:5:3mx\033[0m"),
        (b"a\033[2Jb\033[6nc\033[?25ld", "abcd"),
        (b"a\033]0;title\ab\033]52;c;secret\033\\c", "abc"),
        (b"a\033Pq#1\033\\b\033_x\033\\c\033^y\033\\d", "abcd"),
        (b"a\0337b\0338c\033(Bd\033=e\033cf", "abcdef"),
        (b"a\b\b\x7fb\a\x0e", "ab"),
        ("a\x9b31mb\x9d0;t\x9cc".encode(), "a\033[31mbc\033[0m"),
        (b"a\xffb", "a�b"),
        (b"\033[31\nnext", "\nnext"),
        (b"\033]0;never ended\nnext", "\nnext"),
        (b"\033\033[2Jx", "x"),
        (b"\033", ""),
    ],
)
def test_what_is_shown(data: bytes, text: str) -> None:
    assert shown(data) == text


@given(st.binary(), st.integers(0, 50))
def test_nothing_but_colours_controls_the_terminal(data: bytes, cut: int) -> None:
    printable = Printable()
    text = printable.feed(data[:cut]) + printable.feed(data[cut:], final=True)
    assert text == shown(data)
    rest = text
    while "\033" in rest:
        _, _, rest = rest.partition("\033")
        assert rest.startswith("[")
        assert rest[1:].lstrip("0123456789;:").startswith("m")
    assert not [character for character in text if character < " " and character not in "\n\t\033"]


def test_endless_sequence_does_not_swallow_everything() -> None:
    assert shown(b"\033[" + b"1" * 1000 + b"m after").endswith(" after")
