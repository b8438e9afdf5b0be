from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from appcat.settings import Settings
from appcat.store.layout import Layout, RuntimePaths

# sun_path of sockaddr_un: 108 bytes on Linux, 104 on macOS, each with the final zero.
LONGEST_SOCKET_PATH = 103


def sockets(runtime: RuntimePaths) -> list[Path]:
    return [runtime.monitor, runtime.status, runtime.events, runtime.agent, runtime.guest, runtime.console]


@given(st.text(st.characters(exclude_characters="\0", codec="utf-8"), min_size=1, max_size=300), st.uuids())
def test_sockets_fit_however_long_home_is(home: str, uuid: object) -> None:
    layout = Layout(Settings.load({"APPCAT_HOME": f"/{home}"}))
    paths = sockets(layout.runtime(str(uuid)))
    assert max(len(str(path)) for path in paths) <= LONGEST_SOCKET_PATH
    assert len(set(paths)) == len(paths)


def test_renaming_a_vm_moves_no_socket(tmp_path: Path) -> None:
    layout = Layout(Settings(tmp_path, tmp_path, tmp_path / "run", tmp_path))
    assert layout.runtime("5f0a1c52-93a1-4f58-8d5c-0d3b1c6f7a10").root == tmp_path / "run" / "5f0a1c5293a1"


def test_vms_share_no_file(tmp_path: Path) -> None:
    layout = Layout(Settings(tmp_path, tmp_path, tmp_path / "run", tmp_path))
    assert layout.vm("a").root.parent == layout.vm("b").root.parent == layout.vms
    assert layout.vm("a").spec != layout.vm("b").spec
