from __future__ import annotations

import io
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from appcat.errors import Busy, InvalidInput, QemuError, WrongState
from appcat.services import console as service
from appcat.services.console import Ending, Ends, NobodyReads, Session, console, parse_detach_key
from appcat.services.context import Context
from appcat.store import locks
from tests.cat import wait_until
from tests.unit.support.vms import add_vm


@pytest.mark.parametrize(
    ("text", "byte"),
    [("ctrl-]", 0x1D), ("Ctrl-A", 1), ("CTRL-z", 26), ("ctrl-@", 0), ("ctrl-[", 27), ("ctrl-\\", 28), ("ctrl-_", 31)],
)
def test_keys(text: str, byte: int) -> None:
    assert parse_detach_key(text) == bytes([byte])


@pytest.mark.parametrize("text", ["", "]", "ctrl-", "ctrl-]]", "ctrl-1", "ctrl-é", "alt-a", "ctrl-\u0131"])
def test_keys_that_are_none(text: str) -> None:
    with pytest.raises(InvalidInput):
        parse_detach_key(text)


class Rig:
    """A console session in a thread, with a guest and a keyboard to play."""

    def __init__(self, detach: bytes | None) -> None:
        self.guest, line = socket.socketpair()
        line.setblocking(False)
        reader, self.keyboard = os.pipe()
        self.shown = io.BytesIO()
        self.stdin = os.fdopen(reader, "rb")
        self.ending: Ending | None = None
        self.session = Session(line, Ends(self.stdin, self.shown, detach))
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        self.ending = self.session.run()

    def type(self, data: bytes) -> None:
        os.write(self.keyboard, data)

    def hear(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            data += self.guest.recv(size - len(data))
        return data

    def end(self) -> Ending | None:
        self.thread.join(20)
        return self.ending


@pytest.fixture
def rig() -> Iterator[Rig]:
    rig = Rig(b"\x1d")
    yield rig
    rig.guest.close()
    os.close(rig.keyboard)
    rig.end()


def test_both_ways_until_the_key(rig: Rig) -> None:
    rig.type(b"ls\r")
    assert rig.hear(3) == b"ls\r"
    rig.guest.sendall(b"file\r\n")
    wait_until(lambda: rig.shown.getvalue() == b"file\r\n")
    rig.type(b"exit\x1dnever")
    assert rig.end() is Ending.DETACHED
    assert rig.hear(4) == b"exit"


def test_end_of_the_vm(rig: Rig) -> None:
    rig.guest.sendall(b"Power down\r\n")
    rig.guest.close()
    assert rig.end() is Ending.VM_ENDED
    assert rig.shown.getvalue() == b"Power down\r\n"


def test_slow_guest_and_much_input_and_output_at_once() -> None:
    rig, size = Rig(None), 1 << 20
    writer = threading.Thread(target=lambda: (rig.type(b"\x1d" * size), os.close(rig.keyboard)), daemon=True)
    writer.start()
    rig.guest.sendall(b"y" * size)
    assert rig.hear(size) == b"\x1d" * size
    rig.guest.close()
    assert rig.end() is Ending.VM_ENDED
    assert rig.shown.getvalue() == b"y" * size


def test_end_of_piped_input_waits_for_the_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "SILENCE", 0.5)
    rig = Rig(None)
    rig.type(b"date\n")
    os.close(rig.keyboard)
    rig.hear(5)
    rig.guest.sendall(b"Tuesday\n")
    assert rig.end() is Ending.INPUT_ENDED
    assert rig.shown.getvalue() == b"Tuesday\n"
    rig.guest.close()


class Closed(io.BytesIO):
    def write(self, _data: object) -> int:
        raise BrokenPipeError


def test_nobody_reads() -> None:
    guest, line = socket.socketpair()
    guest.sendall(b"x")
    with guest, line, pytest.raises(NobodyReads):
        Session(line, Ends(None, Closed())).run()


def test_stopped_vm(ctx: Context) -> None:
    with pytest.raises(WrongState), console(ctx, add_vm(ctx).name):
        pass


def test_second_client_is_told_of_the_first(ctx: Context, monkeypatch: pytest.MonkeyPatch, short: Path) -> None:
    vm = add_vm(ctx)
    path = ctx.layout.runtime(vm.uuid).console
    path.parent.mkdir(parents=True)
    seen = type("Seen", (), {"vm": vm, "status": "running"})()
    monkeypatch.setattr(service, "show", lambda _ctx, _name: seen)
    with pytest.raises(QemuError), console(ctx, vm.name):
        pass
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        with console(ctx, vm.name):
            assert locks.is_held(ctx.layout.vm(vm.name).console_lock)
            with pytest.raises(Busy, match=f"console.*{os.getpid()}"), console(ctx, vm.name):
                pass
    assert not locks.is_held(ctx.layout.vm(vm.name).console_lock)
