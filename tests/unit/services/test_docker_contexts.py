from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from appcat.errors import Conflict, WrongState
from appcat.model.docker import url_of
from appcat.model.port import own_forward
from appcat.services import docker_contexts
from appcat.services.certificates import credentials
from appcat.services.context import Context
from tests.unit.support.samples import sample_vm

HOST = dataclasses.replace(sample_vm("host"), ports=(own_forward(2376),), address="127.77.1.2")


@pytest.fixture(autouse=True)
def config(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    return tmp_path / "docker"


def metas(config: Path) -> dict[str, str]:
    found = [json.loads(path.read_text()) for path in config.glob("contexts/meta/*/meta.json")]
    return {meta["Name"]: meta["Endpoints"]["docker"]["Host"] for meta in found}


def test_a_context_comes_follows_and_goes(ctx: Context, config: Path) -> None:
    docker_contexts.write(ctx, HOST, credentials(ctx))
    assert metas(config) == {"host": "tcp://127.77.1.2:2376"}
    assert docker_contexts.exists(HOST)
    moved = dataclasses.replace(HOST, name="other", address="127.77.1.3")
    docker_contexts.follow(ctx, HOST, moved)
    assert metas(config) == {"other": "tcp://127.77.1.3:2376"}
    assert docker_contexts.remove("other", HOST.uuid)
    assert metas(config) == {}
    assert list((config / "contexts" / "tls").iterdir()) == []


def test_what_is_somebody_elses_stays(ctx: Context, config: Path) -> None:
    docker_contexts.write(ctx, HOST, credentials(ctx))
    (path,) = config.glob("contexts/meta/*/meta.json")
    data = json.loads(path.read_text())
    del data["Metadata"][docker_contexts.MARK], data["Metadata"][docker_contexts.HOME_MARK]
    path.write_text(json.dumps(data))
    before = path.read_text()
    with pytest.raises(Conflict, match="docker context host already"):
        docker_contexts.write(ctx, HOST, credentials(ctx))
    assert not docker_contexts.remove("host", HOST.uuid)
    assert not docker_contexts.remove("host", "")
    docker_contexts.follow(ctx, HOST, dataclasses.replace(HOST, name="other"))
    assert path.read_text() == before
    assert not docker_contexts.remove("never-was", "")


def test_a_context_that_a_lost_vm_left_behind_is_replaced(ctx: Context, config: Path) -> None:
    docker_contexts.write(ctx, HOST, credentials(ctx))
    again = dataclasses.replace(HOST, uuid="another", address="127.77.9.9")
    docker_contexts.check_free(ctx, "host")
    docker_contexts.write(ctx, again, credentials(ctx))
    assert metas(config) == {"host": "tcp://127.77.9.9:2376"}
    assert docker_contexts.exists(again) and not docker_contexts.exists(HOST)


def test_a_context_of_another_home_stays(ctx: Context, config: Path, tmp_path: Path) -> None:
    other = Context(dataclasses.replace(ctx.settings, home=tmp_path / "other"))
    docker_contexts.write(other, HOST, credentials(other))
    with pytest.raises(Conflict, match="docker context host already"):
        docker_contexts.write(ctx, dataclasses.replace(HOST, uuid="mine", address="127.77.9.9"), credentials(ctx))
    assert metas(config) == {"host": "tcp://127.77.1.2:2376"}


def test_what_cannot_be_removed_keeps_nobody_from_anything(
    ctx: Context, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_path: Path) -> None:
        raise PermissionError(13, "no")

    docker_contexts.write(ctx, HOST, credentials(ctx))
    monkeypatch.setattr(docker_contexts, "remove_tree", refuse)
    assert not docker_contexts.remove("host", HOST.uuid)
    (config / "contexts" / "meta").chmod(0o500)
    docker_contexts.follow(ctx, HOST, dataclasses.replace(HOST, name="other", ports=()))
    (config / "contexts" / "meta").chmod(0o700)


def test_a_user_without_a_home_has_no_contexts(monkeypatch: pytest.MonkeyPatch) -> None:
    def nowhere(_path: Path) -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("DOCKER_CONFIG")
    monkeypatch.setattr(Path, "expanduser", nowhere)
    assert not docker_contexts.exists(HOST)
    assert not docker_contexts.remove("host", HOST.uuid)


def test_where_an_engine_answers() -> None:
    assert url_of(HOST) == "tcp://127.77.1.2:2376"
    (port,) = HOST.ports
    elsewhere = dataclasses.replace(HOST, address="", ports=(dataclasses.replace(port, host=30000),))
    assert url_of(elsewhere) == "tcp://127.0.0.1:30000"
    with pytest.raises(WrongState, match="not published"):
        url_of(dataclasses.replace(HOST, ports=()))
