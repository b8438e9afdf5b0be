from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any, cast

import pytest

from appcat.daemon import door as doors
from appcat.daemon.door import Kind, Peer, credentials, may_enter, tcp_door, unix_door
from appcat.errors import AppcatError, Conflict, InvalidInput, PortInUse, Unavailable
from appcat.model.listen import Listen
from tests.unit.daemon.behind import door

APP = cast(Any, None)


@pytest.fixture
def path(short: Path) -> Path:
    return short / "appcat-1" / "run" / "appcat.sock"


def test_socket_is_this_users_alone_and_goes_afterwards(path: Path) -> None:
    with unix_door(path, APP) as opened:
        assert path.stat().st_mode & 0o777 == 0o600
        assert path.parent.stat().st_mode & 0o777 == 0o700
        assert opened.address == f"unix://{path}" and not opened.needs_token
    assert not path.exists()


def test_socket_of_a_dead_daemon_is_replaced(path: Path) -> None:
    path.parent.mkdir(parents=True, mode=0o700)
    path.parent.parent.chmod(0o700)
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    with unix_door(path, APP), socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))


@pytest.mark.parametrize("backlog", [5, 0])
def test_socket_on_which_somebody_listens_is_not_stolen(path: Path, backlog: int) -> None:
    path.parent.mkdir(parents=True, mode=0o700)
    path.parent.parent.chmod(0o700)
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(path))
        other.listen(backlog)
        for _ in range(3):
            with pytest.raises(Conflict) as caught, unix_door(path, APP):
                pass
            assert caught.value.code == "socket-in-use"
        assert path.exists()


def test_file_in_the_way_is_kept(path: Path) -> None:
    path.parent.mkdir(parents=True, mode=0o700)
    path.parent.parent.chmod(0o700)
    path.write_text("precious")
    with pytest.raises(Conflict), unix_door(path, APP):
        pass
    assert path.read_text() == "precious"


def test_successors_socket_is_not_removed(path: Path) -> None:
    with unix_door(path, APP):
        path.unlink()
        path.write_text("another's")
    assert path.exists()


def test_directory_that_others_can_enter_is_refused(path: Path) -> None:
    path.parent.mkdir(parents=True)
    path.parent.chmod(0o755)
    with pytest.raises(Unavailable), unix_door(path, APP):
        pass


def test_long_path_is_refused(short: Path) -> None:
    with pytest.raises(InvalidInput), unix_door(short / ("x" * 100) / "appcat.sock", APP):
        pass


def test_tcp_door_says_where_it_is(path: Path) -> None:
    with tcp_door(Listen("127.0.0.1", 0), APP, None, frozenset({"myhost"})) as opened:
        port = opened.socket.getsockname()[1]
        assert opened.address == f"http://127.0.0.1:{port}" and opened.needs_token
        assert {"myhost", "localhost", "127.0.0.1"} <= opened.names
        with pytest.raises(PortInUse), tcp_door(Listen("127.0.0.1", port), APP, None, frozenset()):
            pass


def test_address_of_another_host_is_refused() -> None:
    with pytest.raises(InvalidInput), tcp_door(Listen("192.0.2.1", 0), APP, None, frozenset()):
        pass


def test_only_this_user_and_root_may_enter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getuid", lambda: 1000)
    entered = {uid: may_enter(Peer(door(Kind.UNIX), "", uid=uid)) for uid in (0, 1000, 1001, None)}
    assert entered == {0: True, 1000: True, 1001: False, None: True}


def test_unix_socket_tells_who_is_there() -> None:
    one, other = socket.socketpair(socket.AF_UNIX)
    with one, other:
        assert credentials(one) == (os.getuid(), os.getpid())
        assert doors.peer_of(door(Kind.UNIX), one, lambda: None).who == f"uid:{os.getuid()}"


def test_errors_of_binding_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    for number, kind in ((13, PortInUse), (12, AppcatError)):
        assert isinstance(doors._cannot_bind(Listen("127.0.0.1", 80), OSError(number, "x")), kind)
