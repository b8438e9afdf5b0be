from __future__ import annotations

import json
import os
import types
from pathlib import Path
from typing import Any

import pytest

from appcat.app import App
from appcat.errors import AppcatError, Broken, InvalidInput
from appcat.model.config import KEYS, Key
from appcat.model.image import Image, ImageFile, SshServer
from appcat.model.size import MIB
from appcat.model.status import Status
from appcat.model.vm import Arch, RestartPolicy, Vm
from appcat.services import config, create
from appcat.services.context import Context
from appcat.services.create import CreateRequest, with_defaults
from appcat.services.observe import list_vms
from appcat.services.patience import READY_DEADLINE, STOP_DEADLINE, start_wait, stop_wait
from tests.unit.support.listing import names_in
from tests.unit.support.vms import add_vm

GOOD = {
    "accelerator": "tcg",
    "ca-certificates": str(Path(__file__).parents[1] / "support" / "authority.pem"),
    "cpus": "2",
    "frozen-memory": "4G",
    "memory": "512M",
    "network": "default,lab",
    "no-proxy": "registry.lan,.example.org",
    "prebuilt": f"https://images.example/appcat-images.json#sha256={'0' * 64}",
    "proxy": "http://proxy.example.org:3128",
    "restart": "always",
    "start-timeout": "7.5",
    "stop-timeout": "9",
    "template": "pico",
}
BAD = {
    "accelerator": "warp",
    "ca-certificates": __file__,
    "cpus": "none",
    "frozen-memory": "-1",
    "memory": "much",
    "network": "none,lab",
    "no-proxy": "a;b",
    "prebuilt": "https://images.example/appcat-images.json",
    "proxy": "proxy.example.org:3128",
    "restart": "never",
    "start-timeout": "soon",
    "stop-timeout": "0",
    "template": "No Such",
}
DAMAGED = ["", "{", "[]", '{"values": {}}', '{"schema": 99, "values": {}}', '{"schema": 1, "values": {"cpus": 2}}']


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in KEYS:
        monkeypatch.delenv(Key.variable(name), raising=False)


def write(ctx: Context, text: str) -> None:
    ctx.layout.config.parent.mkdir(parents=True, exist_ok=True)
    ctx.layout.config.write_text(text)


def put(ctx: Context, **values: str) -> None:
    """Into the file, past all checks: as an editor would."""
    named = {name.replace("_", "-"): value for name, value in values.items()}
    write(ctx, json.dumps({"schema": 1, "values": named}))


def test_every_key_is_tried_here() -> None:
    assert set(GOOD) == set(BAD) == set(KEYS)


@pytest.mark.parametrize(("key", "value"), GOOD.items())
def test_what_is_set_is_there_until_it_is_unset(ctx: Context, key: str, value: str) -> None:
    assert config.get(ctx, key).value is None
    config.set_(ctx, key, value)
    found = config.get(ctx, key)
    assert (found.value, found.source) == (value, "config.json")
    config.unset(ctx, key)
    assert config.get(ctx, key).value is None


def test_other_settings_stay_when_one_changes(ctx: Context) -> None:
    for key, value in GOOD.items():
        config.set_(ctx, key, value)
    config.unset(ctx, "memory")
    config.set_(ctx, "cpus", "3")
    expected = {**GOOD, "cpus": "3", "memory": None}
    assert {one.key: one.value for one in config.list_settings(ctx)} == expected


def test_the_file_is_for_its_owner_alone(ctx: Context) -> None:
    config.set_(ctx, "cpus", "2")
    assert ctx.layout.config.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(("key", "value"), BAD.items())
def test_a_value_that_can_never_work_is_refused_and_nothing_is_written(ctx: Context, key: str, value: str) -> None:
    config.set_(ctx, key, GOOD[key])
    before = ctx.layout.config.read_bytes()
    with pytest.raises(InvalidInput) as caught:
        config.set_(ctx, key, value)
    assert caught.value.hint
    assert ctx.layout.config.read_bytes() == before


@pytest.mark.parametrize(
    ("wrong", "meant"),
    [("memroy", "memory"), ("cpu", "cpus"), ("start_timeout", "start-timeout"), ("Template", "template")],
)
def test_a_key_that_is_nearly_right_is_suggested(ctx: Context, wrong: str, meant: str) -> None:
    for attempt in (
        lambda: config.get(ctx, wrong),
        lambda: config.set_(ctx, wrong, GOOD[meant]),
        lambda: config.unset(ctx, wrong),
    ):
        with pytest.raises(InvalidInput) as caught:
            attempt()
        assert caught.value.code == "unknown-setting"
        assert "did you mean" in caught.value.hint
        assert meant in caught.value.hint
    assert not ctx.layout.config.exists()


def test_a_key_like_no_other_is_answered_with_all_keys(ctx: Context) -> None:
    with pytest.raises(InvalidInput) as caught:
        config.get(ctx, "zzz\x1b[2J")
    assert all(key in caught.value.hint for key in KEYS)
    assert caught.value.message.isprintable()


def test_a_password_is_told_to_who_asks_for_the_setting_alone(ctx: Context) -> None:
    secret = "http://me:hunter2@proxy.example.org:3128"
    config.set_(ctx, "proxy", secret)
    assert config.get(ctx, "proxy").value == secret
    app = App(ctx)
    assert app.get_setting("proxy")["value"] == secret
    shown = [one["value"] for one in app.list_settings() if one["key"] == "proxy"]
    assert shown == [app.set_setting("proxy", secret)["value"]] == ["http://***@proxy.example.org:3128"]
    app.unset_setting("proxy")
    assert [event["detail"] for event in app.list_events()] == [
        {"key": "proxy", "value": "http://***@proxy.example.org:3128"},
        {"key": "proxy", "value": "http://***@proxy.example.org:3128"},
        {"key": "proxy", "value": None},
    ]
    assert "hunter2" not in ctx.layout.events.read_text()


@pytest.mark.parametrize("wrong", ["ca.pem", "~/ca.pem", "/no/such/file.pem", "/etc"])
def test_authorities_come_from_a_file_that_can_be_read(ctx: Context, wrong: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        config.set_(ctx, "ca-certificates", wrong)
    assert caught.value.hint


# --- precedence: option, environment, file, template


def sample_image() -> Image:
    file = ImageFile("x", 1, "0" * 64)
    return Image(
        "pico", "ab" * 32, Arch.X86_64, file, file, file, file, "", "root", SshServer.DROPBEAR, 3, 192 * MIB, ()
    )


@pytest.fixture
def make(ctx: Context, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Creates a vm from a template that asks for 3 processors and 192 MiB; building it is left out."""
    asked: list[str] = []

    def ensure(_ctx: Context, name: str) -> Any:
        asked.append(name)
        return types.SimpleNamespace(image=sample_image())

    monkeypatch.setattr(create.templates, "ensure", ensure)
    monkeypatch.setattr(create.templates, "find", lambda _ctx, _name: None)
    monkeypatch.setattr(create, "check_total_memory", lambda _name, _memory: None)

    def create_vm(**options: Any) -> tuple[Vm, str]:
        return create.create(ctx, CreateRequest(f"vm{len(asked)}", **options)), asked[-1]

    return create_vm


def test_template_then_file_then_environment_then_option(
    ctx: Context, make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def made(**options: Any) -> tuple[int, int, RestartPolicy, str]:
        vm, template = make(**options)
        assert ctx.store.load(vm.name) == vm
        return vm.cpus, vm.memory, vm.restart, template

    assert made() == (3, 192 * MIB, RestartPolicy.NO, "pico")
    put(ctx, cpus="2", memory="128M", restart="always", template="big")
    assert made() == (2, 128 * MIB, RestartPolicy.ALWAYS, "big")
    monkeypatch.setenv("APPCAT_CPUS", "4")
    monkeypatch.setenv("APPCAT_MEMORY", "160M")
    monkeypatch.setenv("APPCAT_RESTART", "on-failure")
    monkeypatch.setenv("APPCAT_TEMPLATE", "other")
    assert made() == (4, 160 * MIB, RestartPolicy.ON_FAILURE, "other")
    options = {"cpus": 1, "memory": 112 * MIB, "restart": RestartPolicy.NO, "template": "given"}
    assert made(**options) == (1, 112 * MIB, RestartPolicy.NO, "given")


def test_an_empty_variable_is_as_none(ctx: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    put(ctx, cpus="2")
    monkeypatch.setenv("APPCAT_CPUS", "")
    assert config.get(ctx, "cpus").source == "config.json"


@pytest.mark.parametrize(
    ("wait", "variable", "key", "fallback"),
    [
        (start_wait, "APPCAT_START_TIMEOUT", "start_timeout", READY_DEADLINE),
        (stop_wait, "APPCAT_STOP_TIMEOUT", "stop_timeout", STOP_DEADLINE),
    ],
)
def test_patience_follows_the_same_order(
    ctx: Context, monkeypatch: pytest.MonkeyPatch, wait: Any, variable: str, key: str, fallback: float
) -> None:
    assert wait(ctx, None) == fallback
    put(ctx, **{key: "11"})
    assert wait(ctx, None) == 11
    monkeypatch.setenv(variable, "12.5")
    assert wait(ctx, None) == 12.5
    assert wait(ctx, 13) == 13


@pytest.mark.parametrize("key", ["cpus", "memory", "network", "restart", "template"])
@pytest.mark.parametrize("source", ["file", "environment"])
def test_a_bad_value_says_where_it_comes_from_and_nothing_is_made(
    ctx: Context, make: Any, monkeypatch: pytest.MonkeyPatch, key: str, source: str
) -> None:
    if source == "file":
        put(ctx, **{key: BAD[key]})
        where = "config.json"
    else:
        put(ctx, **{key: GOOD[key]})
        where = Key.variable(key)
        monkeypatch.setenv(where, BAD[key])
    with pytest.raises(InvalidInput) as caught:
        make()
    assert caught.value.message.startswith(f"{where}: ")
    assert caught.value.hint
    assert names_in(ctx.layout.vms) == []


@pytest.mark.parametrize("key", ["cpus", "memory", "restart", "template"])
def test_an_option_spares_a_bad_value(ctx: Context, key: str) -> None:
    put(ctx, **{key: BAD[key]})
    given = {"cpus": 1, "memory": 112 * MIB, "restart": RestartPolicy.NO, "template": "pico"}
    assert getattr(with_defaults(ctx, CreateRequest("web", **given)), key) == given[key]  # type: ignore[arg-type]


def test_the_accelerator_of_the_file_is_checked_too(ctx: Context) -> None:
    put(ctx, accelerator="warp")
    with pytest.raises(InvalidInput, match=r"^config\.json: 'warp' is not an accelerator"):
        _ = ctx.host


# --- a damaged file


@pytest.mark.parametrize("text", DAMAGED)
def test_a_damaged_file_is_broken_with_what_to_do(ctx: Context, text: str) -> None:
    write(ctx, text)
    before = ctx.layout.config.read_bytes()
    for attempt in (
        lambda: config.get(ctx, "cpus"),
        lambda: config.list_settings(ctx),
        lambda: config.set_(ctx, "cpus", "2"),
        lambda: config.unset(ctx, "cpus"),
        lambda: with_defaults(ctx, CreateRequest("web")),
        lambda: start_wait(ctx, None),
    ):
        with pytest.raises(Broken) as caught:
            attempt()
        assert "config.json" in caught.value.message
        assert caught.value.hint
    assert ctx.layout.config.read_bytes() == before


def test_a_file_that_is_not_text_is_broken(ctx: Context) -> None:
    write(ctx, "")
    ctx.layout.config.write_bytes(b"\xff\xfe\0")
    with pytest.raises(Broken, match=r"config\.json"):
        config.get(ctx, "cpus")


def test_a_directory_in_the_files_place_is_broken(ctx: Context) -> None:
    ctx.layout.config.mkdir(parents=True)
    with pytest.raises(Broken, match=r"config\.json"):
        config.get(ctx, "cpus")


@pytest.mark.parametrize("text", DAMAGED)
def test_a_damaged_file_does_not_keep_vms_from_being_seen(ctx: Context, text: str) -> None:
    add_vm(ctx)
    write(ctx, text)
    assert [(seen.name, seen.status) for seen in list_vms(ctx)] == [("web", Status.STOPPED)]


def test_the_environment_works_while_the_file_is_damaged(ctx: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    write(ctx, "{")
    monkeypatch.setenv("APPCAT_CPUS", "2")
    assert config.get(ctx, "cpus").value == "2"


def test_settings_of_a_newer_version_survive_a_change(ctx: Context) -> None:
    write(ctx, json.dumps({"schema": 1, "values": {"shine": "bright"}}))
    config.set_(ctx, "cpus", "2")
    assert json.loads(ctx.layout.config.read_text())["values"] == {"shine": "bright", "cpus": "2"}


def test_a_file_that_may_not_be_written_is_told(ctx: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    config.set_(ctx, "cpus", "2")

    def full(*_: Any, **__: Any) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(AppcatError) as caught:
            config.set_(ctx, "cpus", "3")
    assert caught.value.code == "no-space"
    assert config.get(ctx, "cpus").value == "2"
    leftovers = [path for path in Path(ctx.layout.home).iterdir() if path.suffix == ".tmp"]
    assert leftovers == []
