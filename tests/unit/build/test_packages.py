"""The apt client against a fake apt: what is asked of it, and what comes of its answers."""

from __future__ import annotations

import hashlib
import os
import stat
import time
from pathlib import Path

import pytest

from appcat.build import packages
from appcat.build.packages import Apt
from appcat.errors import BuildError, MissingTool
from appcat.model.vm import Arch

ARCHIVE = b"archive of a package"
SHA256 = hashlib.sha256(ARCHIVE).hexdigest()

STANZAS = {
    "qemu-guest-agent": "Pre-Depends: init-system-helpers\nDepends: libc6 (>= 2.34), libglib2.0-0 | libglib3",
    "libglib2.0-0": "Depends: libc6, zlib1g (>= 1:1.1.4), perl:any",
    "libc6": "Depends: libgcc-s1",
    "libgcc-s1": "Depends: libc6 (>= 2.35), gcc-12-base (= 12.2.0-14)",
    "zlib1g": "Description: compression\n Depends: libnonsense",
    "linux-image-amd64": "Depends: linux-image-6.1.0-56-amd64 (= 6.1.192-2)",
    "linux-image-6.1.0-56-amd64": "Depends: kmod, linux-base (>= 4.3~)",
}

FAKE = """#!/bin/sh
echo "$@" >> "$FAKE/calls"
for word; do case $word in show | update | download | install | indextargets) verb=$word ;; esac; done
[ -e "$FAKE/fail-$verb" ] && { cat "$FAKE/fail-$verb" >&2; exit 100; }
case $verb in
show) for word; do [ -e "$FAKE/stanzas/$word" ] && cat "$FAKE/stanzas/$word"; done ;;
download) for word; do case $word in *::*) ;; *=*) cp "$FAKE/archive" "${word%%=*}_1_all.deb" ;; esac; done ;;
install) case $word in "?and"*) cat "$FAKE/essential" ;; *) cat "$FAKE/everything" ;; esac ;;
indextargets) cat "$FAKE/targets" ;;
esac
exit 0
"""


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with apt-get and apt-cache on the PATH; its files steer them."""
    (tmp_path / "stanzas").mkdir()
    for name, depends in STANZAS.items():
        text = f"Package: {name}\nVersion: 1:1-1\nSHA256: {SHA256}\n{depends}\n\n"
        (tmp_path / "stanzas" / name).write_text(text)
    (tmp_path / "archive").write_bytes(ARCHIVE)
    for program in ("apt-get", "apt-cache"):
        (tmp_path / program).write_text(FAKE)
        (tmp_path / program).chmod(stat.S_IRWXU)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("FAKE", str(tmp_path))
    return tmp_path


@pytest.fixture
def apt(fake: Path) -> Apt:
    apt = Apt(fake / "cache with spaces", Arch.X86_64)
    apt.refresh()
    return apt


def calls(fake: Path, verb: str) -> int:
    return sum(verb in line.split() for line in (fake / "calls").read_text().splitlines())


def names(apt: Apt, *wanted: str) -> list[str]:
    return [candidate.name for candidate in apt.closure(wanted)]


def test_libraries_are_followed_and_nothing_else(apt: Apt) -> None:
    assert names(apt, "qemu-guest-agent") == ["libc6", "libgcc-s1", "libglib2.0-0", "qemu-guest-agent", "zlib1g"]


def test_the_real_kernel_package_is_found(apt: Apt) -> None:
    assert names(apt, "linux-image-amd64") == ["linux-image-6.1.0-56-amd64", "linux-image-amd64"]


def test_an_unknown_package_is_named(apt: Apt) -> None:
    with pytest.raises(BuildError, match="no package busyboxx"):
        apt.candidates(["libc6", "busyboxx"])


def test_lists_are_fetched_once_a_day(fake: Path, apt: Apt) -> None:
    Apt(fake / "cache with spaces", Arch.X86_64).refresh()
    assert calls(fake, "update") == 1
    two_days_ago = time.time() - 2 * 24 * 3600
    os.utime(fake / "cache with spaces" / "updated", (two_days_ago, two_days_ago))
    apt.refresh()
    assert calls(fake, "update") == 2
    apt.refresh(force=True)
    assert calls(fake, "update") == 3


def test_no_network_is_the_reason_when_a_package_is_missing(fake: Path) -> None:
    (fake / "fail-update").write_text("E: Failed to fetch http://mirror.example/: no route to host\n")
    apt = Apt(fake / "cache", Arch.X86_64)
    apt.refresh()
    assert names(apt, "libc6") == ["libc6", "libgcc-s1"]
    with pytest.raises(BuildError, match="no route to host"):
        apt.candidates(["nothing"])


def test_archives_are_kept(fake: Path, apt: Apt) -> None:
    reports: list[tuple[int, int]] = []
    wanted = apt.closure(["libc6"])
    first = apt.fetch(wanted, lambda done, total: reports.append((done, total)))
    assert [path.read_bytes() for path in first] == [ARCHIVE, ARCHIVE]
    assert reports == [(0, 2), (2, 2)]
    assert apt.fetch(wanted, lambda done, total: None) == first
    assert calls(fake, "download") == 1  # for both


def test_a_damaged_archive_is_fetched_again(fake: Path, apt: Apt) -> None:
    (candidate,) = apt.candidates(["libc6"]).values()
    (path,) = apt.fetch([candidate], lambda done, total: None)
    path.write_bytes(b"damaged")
    apt.fetch([candidate], lambda done, total: None)
    assert path.read_bytes() == ARCHIVE
    assert calls(fake, "download") == 2


def test_what_the_lists_do_not_promise_is_refused(fake: Path, apt: Apt) -> None:
    (fake / "archive").write_bytes(b"something else")
    with pytest.raises(BuildError, match="not what the lists promise"):
        apt.fetch(apt.closure(["libc6"]), lambda done, total: None)


def test_a_download_that_fails(fake: Path, apt: Apt) -> None:
    (fake / "fail-download").write_text("E: Failed to fetch: 404\n")
    with pytest.raises(BuildError, match="could not be fetched") as caught:
        apt.fetch(apt.closure(["libc6"]), lambda done, total: None)
    assert "404" in caught.value.details


def test_without_apt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingTool, match="apt-get"):
        Apt(tmp_path / "cache", Arch.X86_64).refresh()


def test_many_archives_are_fetched_a_batch_at_a_time(fake: Path, apt: Apt, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages, "BATCH", 2)
    wanted = [item for item in apt.closure(STANZAS) if item.name != "linux-image-amd64"]
    reports: list[tuple[int, int]] = []
    apt.fetch(wanted, lambda done, total: reports.append((done, total)))
    assert reports == [(0, 6), (2, 6), (4, 6), (6, 6)]
    assert calls(fake, "download") == 3


def simulate(fake: Path, essential: str, everything: str) -> None:
    (fake / "essential").write_text(essential)
    (fake / "everything").write_text(everything)


def test_a_whole_system(fake: Path, apt: Apt) -> None:
    simulate(fake, "Inst libc6 (1 x)\nConf libc6 (1 x)\n", "Inst libc6 (1 x)\nInst zlib1g (1 x) []\nConf libc6\n")
    found = apt.installation(["zlib1g"])
    assert [item.name for item in found.essential] == ["libc6"]
    assert [item.name for item in found.rest] == ["zlib1g"]


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("E: Unable to locate package nginy\n", "no package nginy"),
        ("E: Package 'vim-nox' has no installation candidate\n", "no package vim-nox"),
        ("E: Unable to correct problems, you have held broken packages.\n", "cannot be installed together"),
    ],
)
def test_a_system_that_cannot_be(fake: Path, apt: Apt, said: str, told: str) -> None:
    (fake / "fail-install").write_text(said)
    with pytest.raises(BuildError, match=told):
        apt.installation(["zlib1g"])


def test_the_sources_of_the_distribution_are_for_guests_too(fake: Path, apt: Apt) -> None:
    lists = fake / "lists"
    lists.mkdir()
    names = [
        "m_dists_stable_InRelease",
        "m_dists_stable_main_Packages.lz4",
        "n_dists_any_InRelease",
        "n_dists_any_main",
    ]
    for name in names:
        (lists / name).write_text(name)
    (fake / "targets").write_text(
        f"Debian|http://mirror.example/debian|stable|main|{lists / names[1]}\n"
        f"Debian|http://mirror.example/debian|stable|contrib|{lists / 'm_dists_stable_contrib_Packages.lz4'}\n"
        f"Debian|http://mirror.example/debian|stable|main|{lists / names[1]}\n"
        f"Debian|file:/srv/mirror|stable|main|{lists / 'x'}\n"
        f"Somebody|https://elsewhere.example|any|main|{lists / names[3]}\n"
    )
    mirrors = apt.mirrors()
    assert mirrors.sources == "deb http://mirror.example/debian stable main contrib\n"
    assert [path.name for path in mirrors.lists] == [names[1], names[0]]
