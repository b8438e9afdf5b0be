from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appcat.errors import InvalidInput
from appcat.model.name import LONGEST_LABEL_VALUE, check_name, parse_label, shorten

NAMES = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", fullmatch=True)
KEYS = st.from_regex(r"[A-Za-z0-9]([A-Za-z0-9._/-]{0,126}[A-Za-z0-9])?", fullmatch=True)
PRINTABLE = st.text(max_size=LONGEST_LABEL_VALUE).filter(str.isprintable)


@given(NAMES)
def test_rfc_1123_labels_are_names(name: str) -> None:
    assert check_name(name) == name


@pytest.mark.parametrize(
    "name",
    [
        "",
        " ",
        ".",
        "..",
        "../x",
        "a/b",
        "/etc",
        "a.b",
        "a_b",
        "-web",
        "web-",
        "-",
        "Web",
        "web\n",
        "web\0",
        "a" * 64,
        "a" * 300,
        "wеb",  # a Cyrillic letter # noqa: RUF001
        "web２",  # a full-width digit # noqa: RUF001
        "straße",
        "ａｂｃ",  # full-width letters # noqa: RUF001
        "k\u200bube",  # a zero-width space
    ],
)
def test_everything_else_is_refused(name: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        check_name(name)
    assert caught.value.code == "invalid-name"
    assert caught.value.exit_code == 2


@given(st.text())
def test_a_name_is_safe_as_path_host_name_and_message(text: str) -> None:
    try:
        name = check_name(text)
    except InvalidInput as error:
        assert error.message.isascii()
        assert error.message.isprintable()
        assert len(error.message) < 600
    else:
        assert name.isascii()
        assert not set(name) & set("/.\0 ")
        assert 1 <= len(name) <= 63


@given(KEYS, PRINTABLE)
def test_labels_are_split_at_the_first_equals_sign(key: str, value: str) -> None:
    assert parse_label(f"{key}={value}") == (key, value)


@pytest.mark.parametrize(
    "text",
    ["", "key", "=value", "k y=v", "-k=v", "k-=v", "k=a\nb", "k=\x1b[31m", "k=" + "v" * 257, "k" * 129 + "=v", "ké=v"],
)
def test_what_is_no_label_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse_label(text)
    assert caught.value.code == "invalid-label"


def test_look_alikes_and_control_characters_show_in_messages() -> None:
    assert shorten("wеb") == "'w\\u0435b'"  # noqa: RUF001
    assert shorten("\x1b[2J") == "'\\x1b[2J'"
    assert shorten("x" * 300) == "'" + "x" * 40 + "...'"
