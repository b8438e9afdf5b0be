from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appcat.errors import InvalidInput
from appcat.model.size import GIB, KIB, MIB, TIB, format_size, parse_disk, parse_memory, parse_size

UNITS = {"K": KIB, "M": MIB, "G": GIB, "T": TIB}


@given(
    st.integers(0, 10**12 - 1),
    st.sampled_from("KMGTkmgt"),
    st.sampled_from(["", "B", "iB", "ib"]),
)
def test_number_and_unit(number: int, unit: str, suffix: str) -> None:
    assert parse_size(f"{number}{unit}{suffix}") == number * UNITS[unit.upper()]


@given(st.integers(1, 1023), st.sampled_from("KMGT"))
def test_what_is_formatted_parses_to_the_same(number: int, unit: str) -> None:
    size = number * UNITS[unit]
    assert parse_size(format_size(size).replace(" ", "")) == size


@given(st.integers(KIB, 64 * TIB))
def test_formatting_loses_less_than_a_tenth_of_the_unit(size: int) -> None:
    number, unit = format_size(size).split()
    assert abs(float(number) * UNITS[unit[0]] - size) <= 0.051 * UNITS[unit[0]]


def test_small_sizes_are_bytes() -> None:
    assert format_size(0) == "0 B"
    assert format_size(1023) == "1023 B"
    assert format_size(256 * MIB) == "256 MiB"
    assert format_size(3 * GIB // 2) == "1.5 GiB"


@pytest.mark.parametrize(
    "text",
    ["", "512", "M", "-1M", "+1M", "1.5G", "1 G", "0x10M", "1e3M", "1P", "\u0661M", "1M1", "9" * 13 + "M", "5" * 300],
)
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse_size(text)
    assert caught.value.code == "invalid-size"


@pytest.mark.parametrize(
    ("parse", "text"),
    [
        (parse_memory, "0M"),
        (parse_memory, "95M"),
        (parse_memory, "5T"),
        (parse_memory, "999999999999T"),
        (parse_disk, "0G"),
        (parse_disk, "15M"),
        (parse_disk, "65T"),
    ],
)
def test_zero_and_absurd_sizes_are_out_of_range(parse: object, text: str) -> None:
    with pytest.raises(InvalidInput, match="out of range") as caught:
        parse(text)  # type: ignore[operator]
    assert "give between" in caught.value.hint


def test_the_bounds_themselves_are_fine() -> None:
    assert parse_memory("112M") == 112 * MIB
    assert parse_memory("4T") == 4 * TIB
    assert parse_disk("16M") == 16 * MIB
    assert parse_disk("2T") == 2 * TIB


def test_memory_is_a_whole_number_of_mib() -> None:
    assert parse_memory("131072K") == 128 * MIB
    with pytest.raises(InvalidInput, match="whole number of MiB"):
        parse_memory("131073K")
