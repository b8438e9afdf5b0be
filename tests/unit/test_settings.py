from __future__ import annotations

import os
from pathlib import Path

import pytest

from appcat.errors import AppcatError
from appcat.settings import Settings, runtime_directory, templates_directory


def load(**environ: str) -> Settings:
    return Settings.load(environ)


def test_appcat_home_moves_everything(tmp_path: Path) -> None:
    settings = load(APPCAT_HOME=str(tmp_path / "my home"))
    assert settings.home == tmp_path / "my home"
    assert settings.cache == tmp_path / "my home" / "cache"


def test_cache_may_be_shared_between_homes(tmp_path: Path) -> None:
    one, other = (load(APPCAT_HOME=f"/{name}", APPCAT_CACHE=str(tmp_path)) for name in "ab")
    assert one.cache == other.cache == tmp_path
    assert one.runtime != other.runtime


def test_defaults_are_where_the_system_keeps_such_things(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    settings = load(APPCAT_HOME="", APPCAT_CACHE="", APPCAT_ACCELERATOR="")
    assert settings == load()
    assert (settings.home, settings.cache) == (tmp_path / "data" / "appcat", tmp_path / "cache" / "appcat")
    assert settings.accelerator is None


def test_accelerator_is_passed_on() -> None:
    assert load(APPCAT_HOME="/x", APPCAT_ACCELERATOR="tcg").accelerator == "tcg"


def test_relative_home_and_tilde_are_made_absolute(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert load(APPCAT_HOME="here").home == load(APPCAT_HOME="~/here").home == tmp_path / "here"


def test_home_of_a_user_who_does_not_exist_is_refused() -> None:
    with pytest.raises(AppcatError):
        load(APPCAT_HOME="~no-such-user-here/vms")


def test_one_home_has_one_runtime_directory_however_it_is_spelled(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "link").symlink_to("home")
    spellings = ["home", "home/", "./home", "home/../home", "link"]
    assert len({load(APPCAT_HOME=f"{tmp_path}/{spelling}").runtime for spelling in spellings}) == 1


@pytest.mark.parametrize("home", ["/a", "/" + "long/" * 800, "/with spaces, and commas", "/ünïcode", "/\udcff"])
def test_runtime_directory_is_short_and_this_users_own(home: str) -> None:
    directory = runtime_directory(Path(home))
    assert len(os.fsencode(directory)) <= len("/tmp/appcat-4294967295/01234567")
    assert directory.parent == Path(f"/tmp/appcat-{os.getuid()}")
    assert directory == runtime_directory(Path(home))


def test_homes_do_not_meet() -> None:
    assert runtime_directory(Path("/a")) != runtime_directory(Path("/b"))


def test_looking_at_settings_touches_no_file(tmp_path: Path) -> None:
    settings = load(APPCAT_HOME=str(tmp_path / "home"))
    assert not settings.home.exists()
    assert not settings.runtime.exists()


def test_templates_travel_with_the_package() -> None:
    assert (templates_directory() / "pico" / "template.toml").is_file()
