"""Which backend a host gets, and the words for why."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path

import pytest

from appcat.errors import InvalidInput
from appcat.model.machine import Backend
from appcat.switch import trial, verdict

Sysctl = Callable[..., None]


@pytest.fixture
def sysctl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Sysctl:
    """Sets settings of a kernel that has no others."""
    monkeypatch.setattr(verdict, "SYSCTL", tmp_path / "sys")

    def put(name: str, value: str) -> None:
        (tmp_path / "sys" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "sys" / name).write_text(f"{value}\n", encoding="ascii")

    return put


def test_all_well() -> None:
    assert verdict.explain("", 0) == verdict.Verdict(Backend.BRIDGE, "", "")


@pytest.mark.parametrize("step", trial.STEPS)
def test_every_step_that_fails_leads_to_the_hub_and_says_why(step: str) -> None:
    found = verdict.explain(step, errno.EINVAL)
    assert found.backend is Backend.HUB
    assert found.reason
    assert found.advice


@pytest.mark.parametrize(
    ("setting", "value", "remedy"),
    [
        (verdict.APPARMOR, "1", "sysctl -w kernel.apparmor_restrict_unprivileged_userns=0"),
        (verdict.CLONE, "0", "sysctl -w kernel.unprivileged_userns_clone=1"),
        (verdict.MOST_USER, "0", "sysctl -w user.max_user_namespaces="),
        (verdict.MOST_NET, "0", "sysctl -w user.max_net_namespaces="),
    ],
)
def test_a_setting_that_forbids_is_named_with_its_remedy(setting: str, value: str, remedy: str, sysctl: Sysctl) -> None:
    sysctl(verdict.MOST_USER, "10000")
    sysctl(setting, value)
    for step in ("user", "net", "bridge"):  # with AppArmor the namespace can be made and is of no use
        found = verdict.explain(step, errno.EPERM)
        assert setting.replace("/", ".") in found.reason
        assert remedy in found.advice


def test_the_device(sysctl: Sysctl) -> None:
    sysctl(verdict.APPARMOR, "1")  # the device comes later: the namespaces were all right
    assert "chmod 0666 /dev/net/tun" in verdict.explain("tun", errno.EACCES).advice
    assert "udev" in verdict.explain("tun", errno.EACCES).advice
    assert "modprobe tun" in verdict.explain("tun", errno.ENOENT).advice
    assert "modprobe tun" in verdict.explain("tun", errno.ENODEV).advice


def test_no_bridges_in_the_kernel(sysctl: Sysctl) -> None:
    assert "modprobe bridge" in verdict.explain("bridge", errno.EOPNOTSUPP).advice
    assert "container" in verdict.explain("user", errno.EPERM).advice


def test_it_is_tried_once_and_again_when_something_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sysctl: Sysctl
) -> None:
    tries: list[int] = []

    def attempt() -> tuple[str, int]:
        tries.append(1)
        return "tun", errno.EACCES

    monkeypatch.setattr(verdict, "attempt", attempt)
    cache = tmp_path / "cache" / "switch.json"
    monkeypatch.setattr(verdict, "TUN", tmp_path / "tun")
    for count, change in (
        (1, lambda: None),
        (2, (tmp_path / "tun").touch),
        (3, lambda: (tmp_path / "tun").chmod(0)),
        (4, lambda: sysctl(verdict.APPARMOR, "1")),
        (5, lambda: sysctl(verdict.APPARMOR, "0")),
        (6, lambda: cache.write_text("{")),
        (7, cache.unlink),
    ):
        change()
        first = verdict.verdict(cache)
        if count == 3 and len(tries) == 2:
            continue  # root may open what nobody may
        assert verdict.verdict(cache) == first
        assert first.backend is Backend.HUB
    assert len(tries) in (6, 7)


def test_a_trial_that_came_to_no_end_is_not_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verdict.sys, "executable", "/bin/false")
    cache = tmp_path / "switch.json"
    assert verdict.verdict(cache).backend is Backend.HUB
    assert not cache.exists()


def test_no_bridges_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.platform", "darwin")
    found = verdict.verdict(tmp_path / "switch.json")
    assert found == verdict.Verdict(Backend.HUB, "no kernel bridges for users here", "")


def test_a_bridge_cannot_be_had_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.platform", "darwin")
    with pytest.raises(InvalidInput, match="only Linux"):
        verdict.verdict(tmp_path / "x", "bridge")
    assert verdict.verdict(tmp_path / "x", "hub").backend is Backend.HUB


def test_the_override(tmp_path: Path) -> None:
    assert verdict.verdict(tmp_path / "x", "bridge").backend is Backend.BRIDGE
    assert verdict.verdict(tmp_path / "x", "hub") == verdict.Verdict(Backend.HUB, "set by APPCAT_SWITCH", "")
    with pytest.raises(InvalidInput, match="'vde'"):
        verdict.verdict(tmp_path / "x", "vde")
    assert not (tmp_path / "x").exists()
