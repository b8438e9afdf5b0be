from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appcat.errors import NotFound
from appcat.services.context import Context
from appcat.services.keep import bound_log
from appcat.services.logs import Log, Source, last_lines, lines, logs
from tests.unit.support.vms import add_vm, alive


def joined(pieces: Iterator[bytes]) -> bytes:
    return b"".join(pieces)


def append(path: Path, data: bytes) -> None:
    with path.open("ab") as file:
        file.write(data)


@given(st.lists(st.binary(max_size=20)), st.integers(0, 10))
def test_last_lines_however_they_are_cut(pieces: list[bytes], count: int) -> None:
    expected = b"".join(b"".join(pieces).splitlines(keepends=True)[-count:] if count else [])
    if b"\r" not in b"".join(pieces) and not set(b"".join(pieces)) & set(b"\v\f\x1c\x1d\x1e\x85"):
        assert joined(last_lines(iter(pieces), count)) == expected


@given(st.lists(st.binary(max_size=20)))
def test_lines_lose_nothing(pieces: list[bytes]) -> None:
    found = list(lines(iter(pieces)))
    assert b"".join(found) == b"".join(pieces)
    assert all(line.count(b"\n") == 1 and line.endswith(b"\n") for line in found[:-1])


def test_both_files_in_order_and_tail_over_both(ctx: Context) -> None:
    paths = ctx.layout.vm(add_vm(ctx).name)
    name = paths.root.name
    assert joined(logs(ctx, name)) == b""
    paths.console_log.with_name("console.log.1").write_bytes(b"one\ntwo\n")
    paths.console_log.write_bytes(b"three\nfour")
    assert joined(logs(ctx, name)) == b"one\ntwo\nthree\nfour"
    assert joined(logs(ctx, name, tail=3)) == b"two\nthree\nfour"
    assert joined(logs(ctx, name, tail=0)) == b""
    assert joined(logs(ctx, name, tail=1, follow=True)) == b"four"


def test_large_logs_come_whole(ctx: Context) -> None:
    paths = ctx.layout.vm(add_vm(ctx).name)
    data = b"".join(b"%d\n" % number for number in range(100_000))
    paths.console_log.write_bytes(data)
    assert joined(logs(ctx, paths.root.name)) == data


def test_keeper_speaks_of_all_but_one_is_asked_about(ctx: Context) -> None:
    name = add_vm(ctx).name
    ctx.layout.keeper_log.write_text(
        f"x INFO {name} ended: why\nx INFO {name}-2 ended\nx INFO other\nrestarting {name}\n"
    )
    assert joined(logs(ctx, name, Source.KEEPER)).decode().splitlines() == [
        f"x INFO {name} ended: why",
        f"restarting {name}",
    ]


def test_unknown_vm(ctx: Context) -> None:
    with pytest.raises(NotFound):
        joined(logs(ctx, "nobody"))


def test_cut_loses_nothing_that_the_copy_has(tmp_path: Path) -> None:
    path = tmp_path / "console.log"
    path.write_bytes(b"a1\n")
    log = Log(path)
    assert joined(log.begin()) == b"a1\n"
    append(path, b"a2\na3\n")
    bound_log(path, 1)
    append(path, b"b1\n")
    assert joined(log.more()) == b"a2\na3\nb1\n"


def test_cut_file_that_has_grown_beyond_its_old_size(tmp_path: Path) -> None:
    path = tmp_path / "console.log"
    path.write_bytes(b"a1\n")
    log = Log(path)
    assert joined(log.begin()) == b"a1\n"
    append(path, b"a2\n")
    bound_log(path, 1)
    append(path, b"b" * 1000)
    assert joined(log.more()) == b"a2\n" + b"b" * 1000


def test_what_was_read_between_copy_and_cut_is_not_read_again(tmp_path: Path) -> None:
    path = tmp_path / "console.log"
    path.write_bytes(b"a1\n")
    log = Log(path)
    path.with_name("console.log.1").write_bytes(path.read_bytes())
    append(path, b"late\n")
    assert joined(log.more()) == b"a1\nlate\n"
    path.write_bytes(b"")
    assert joined(log.more()) == b""
    append(path, b"b1\n")
    assert joined(log.more()) == b"b1\n"


def test_cut_before_anything_was_read(tmp_path: Path) -> None:
    path = tmp_path / "console.log"
    log = Log(path)
    assert joined(log.begin()) == b""
    for text in (b"a\n", b"b\n"):
        append(path, text)
        bound_log(path, 1)
        assert joined(log.more()) == text


def test_two_cuts_between_looks_are_told(tmp_path: Path) -> None:
    path, told = tmp_path / "console.log", []
    path.write_bytes(b"first generation\n")
    log = Log(path, lambda: told.append(True))
    assert joined(log.begin()) == b"first generation\n"
    for text in (b"second, which nobody saw\n", b"third, which is longer than the first\n"):
        bound_log(path, 1)
        append(path, text)
    bound_log(path, 1)
    append(path, b"fourth\n")
    assert joined(log.more()) == b"third, which is longer than the first\nfourth\n"
    assert told


def test_following_over_many_cuts_while_somebody_writes(ctx: Context) -> None:
    """The writer appends as QEMU does; the keeper's cut happens between two of its lines."""
    got: list[bytes] = []
    with alive(ctx) as vm:
        path = ctx.layout.vm(vm.name).console_log
        reader = threading.Thread(target=lambda: got.extend(logs(ctx, vm.name, follow=True)))
        reader.start()
        for number in range(3000):
            append(path, b"line %d\n" % number)
            if number % 250 == 249:
                bound_log(path, 1000)
            if number % 250 in (100, 249):
                time.sleep(0.15)
    reader.join(20)
    assert not reader.is_alive()
    found = b"".join(got).decode().splitlines()
    assert found == [f"line {number}" for number in range(3000)]


def test_following_ends_with_the_vm_and_has_its_last_words(ctx: Context) -> None:
    got: list[bytes] = []
    with alive(ctx) as vm:
        reader = threading.Thread(target=lambda: got.extend(logs(ctx, vm.name, follow=True)))
        reader.start()
        time.sleep(0.3)
        append(ctx.layout.vm(vm.name).console_log, b"last words")
    reader.join(20)
    assert not reader.is_alive()
    assert b"".join(got) == b"last words"
