from __future__ import annotations

import json
from pathlib import Path

import pytest

from appcat.errors import AlreadyExists, Broken, InvalidInput, NotFound
from appcat.model.remote import Remote
from appcat.services import contexts
from appcat.services.context import Context
from appcat.store.layout import Layout

DIGEST = "0123456789abcdef" * 4
LAB = Remote("https://lab:8443", fingerprint=DIGEST)
BUILD = Remote("ssh://me@build")


@pytest.fixture
def layout(ctx: Context) -> Layout:
    contexts.add(ctx.layout, "lab", LAB)
    contexts.add(ctx.layout, "build", BUILD)
    return ctx.layout


def test_what_was_added_is_there(layout: Layout) -> None:
    assert contexts.find(layout, "lab") == LAB
    assert list(contexts.read(layout).remotes) == ["lab", "build"]
    assert layout.contexts.stat().st_mode & 0o777 == 0o600


def test_a_home_without_contexts_is_local(ctx: Context) -> None:
    assert contexts.chosen(ctx.layout, {}) == ("local", None)
    assert not ctx.layout.contexts.exists()


# --- which one


@pytest.mark.parametrize(
    ("environ", "name", "url"),
    [
        ({}, "build", BUILD.url),
        ({"APPCAT_CONTEXT": "lab"}, "lab", LAB.url),
        ({"APPCAT_CONTEXT": "local"}, "local", None),
        ({"APPCAT_CONTEXT": ""}, "build", BUILD.url),
        ({"APPCAT_HOST": "https://x:1"}, "", "https://x:1"),
        ({"APPCAT_HOST": "https://x:1", "APPCAT_CONTEXT": "lab"}, "", "https://x:1"),
        ({"APPCAT_HOST": "", "APPCAT_CONTEXT": "lab"}, "lab", LAB.url),
    ],
)
def test_what_goes_before_what(layout: Layout, environ: dict[str, str], name: str, url: str | None) -> None:
    contexts.use(layout, "build")
    found, remote = contexts.chosen(layout, environ)
    assert (found, remote.url if remote else None) == (name, url)


def test_tokens_of_the_environment_are_for_its_url_alone(layout: Layout) -> None:
    environ = {"APPCAT_TOKEN": "secret", "APPCAT_TOKEN_FILE": "/x", "APPCAT_FINGERPRINT": f"sha256:{DIGEST}"}
    assert contexts.chosen(layout, {**environ, "APPCAT_CONTEXT": "lab"})[1] == LAB
    _, remote = contexts.chosen(layout, {**environ, "APPCAT_HOST": "https://x:1"})
    assert remote == Remote("https://x:1", token="secret", fingerprint=DIGEST)


def test_a_context_that_is_not_there_is_an_error_and_not_local(layout: Layout) -> None:
    with pytest.raises(NotFound) as caught:
        contexts.chosen(layout, {"APPCAT_CONTEXT": "biuld"})
    assert (caught.value.code, caught.value.hint) == ("context-not-found", "did you mean build?")


def test_a_url_that_is_none_is_an_error_and_not_local(layout: Layout) -> None:
    with pytest.raises(InvalidInput):
        contexts.chosen(layout, {"APPCAT_HOST": "lab"})


def test_the_one_in_use_that_is_removed_leaves_this_computer(layout: Layout) -> None:
    contexts.use(layout, "lab")
    contexts.remove(layout, "lab")
    assert contexts.chosen(layout, {}) == ("local", None)
    with pytest.raises(NotFound):
        contexts.use(layout, "lab")


# --- what is refused


@pytest.mark.parametrize(
    ("name", "remote"),
    [
        ("local", BUILD),
        ("Build", BUILD),
        ("x", Remote("lab")),
        ("x", Remote("ssh://lab", fingerprint=DIGEST)),
        ("x", Remote("https://lab", fingerprint="abc")),
        ("x", Remote("https://lab", fingerprint=DIGEST, ca_file="/etc/hostname")),
        ("x", Remote("https://lab", ca_file="/no/such/file")),
        ("x", Remote("https://lab", token="a b")),
        ("x", Remote("https://lab", token="a", token_file="/etc/hostname")),
        ("x", Remote("https://lab", token_file="/no/such/file")),
    ],
)
def test_what_can_never_work_is_not_remembered(layout: Layout, name: str, remote: Remote) -> None:
    before = layout.contexts.read_bytes()
    with pytest.raises(InvalidInput):
        contexts.add(layout, name, remote)
    assert layout.contexts.read_bytes() == before


def test_a_name_is_given_once(layout: Layout) -> None:
    with pytest.raises(AlreadyExists):
        contexts.add(layout, "lab", BUILD)


def test_the_local_one_cannot_be_removed(layout: Layout) -> None:
    with pytest.raises(InvalidInput):
        contexts.remove(layout, "local")


def test_a_damaged_file_is_named(layout: Layout) -> None:
    layout.contexts.write_text("{")
    with pytest.raises(Broken) as caught:
        contexts.chosen(layout, {})
    assert str(layout.contexts) in caught.value.hint


# --- tokens


def test_a_token_file_is_read_when_it_is_needed(layout: Layout, tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("one\n")
    contexts.add(layout, "x", Remote("https://x", token_file=str(path)))
    assert "one" not in layout.contexts.read_text()
    path.write_text("two\n")
    assert contexts.token_of(contexts.find(layout, "x")) == "two"
    path.unlink()
    with pytest.raises(InvalidInput, match="cannot be read"):
        contexts.token_of(contexts.find(layout, "x"))


def test_a_relative_path_is_kept_whole(layout: Layout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("token").write_text("one")
    contexts.add(layout, "x", Remote("https://x", token_file="token"))
    assert json.loads(layout.contexts.read_text())["remotes"]["x"]["token_file"] == str(tmp_path / "token")
