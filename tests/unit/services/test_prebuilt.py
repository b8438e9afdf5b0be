"""Sets of images that were built elsewhere: written by one home, taken by another that could build none."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from appcat.errors import AppcatError, BuildError, InvalidInput, NotFound, Unavailable
from appcat.model.prebuilt import INDEX, Pin, parse_pin
from appcat.services import config, template_files, template_publish, templates
from appcat.services.context import Context
from tests.unit.support.listing import names_in
from tests.unit.support.qemu import needs_qemu
from tests.unit.support.templates import add_image, add_template

pytestmark = needs_qemu


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def served(directory: Path) -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(directory))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


@pytest.fixture
def place(ctx: Context, tmp_path: Path) -> Path:
    """A directory with the image of template ``full``."""
    add_template(ctx)
    add_image(ctx)
    (tmp_path / "set").mkdir()
    template_publish.publish(ctx, tmp_path / "set")
    return tmp_path / "set"


@pytest.fixture
def other(ctx: Context, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Context:
    """Another home with an empty cache, on a host that has no apt."""
    monkeypatch.setenv("PATH", "/nowhere")
    settings = dataclasses.replace(ctx.settings, home=tmp_path / "other", cache=tmp_path / "other-cache")
    return Context(settings)


def pin(place: Path, at: str = "") -> str:
    digest = hashlib.sha256((place / INDEX).read_bytes()).hexdigest()
    return f"{at or place}/{INDEX}#sha256={digest}"


def test_a_host_without_apt_takes_what_another_built(ctx: Context, other: Context, place: Path) -> None:
    with pytest.raises(AppcatError) as caught:
        templates.ensure(other, "full")
    assert caught.value.code == "missing-tool"
    config.set_(other, "prebuilt", pin(place))
    stored = templates.ensure(other, "full")
    assert stored.image == templates.ensure(ctx, "full").image
    templates.images(other).verify(stored.image.digest)
    assert templates.ensure(other, "full") == stored
    assert names_in(other.layout.images / "staging") == []


def test_from_a_web_server(ctx: Context, other: Context, place: Path) -> None:
    with served(place) as url:
        config.set_(other, "prebuilt", pin(place, url))
        assert templates.ensure(other, "full").image == templates.ensure(ctx, "full").image


def test_what_is_published_again_is_for_this_host_alone(ctx: Context, place: Path) -> None:
    """Entries of other architectures stay, those of earlier recipes go."""
    index = json.loads((place / INDEX).read_text())
    (own,) = index["images"]
    foreign = {**own, "arch": "aarch64", "fingerprint": "elsewhere", "file": "x.appcat"}
    former = {**own, "fingerprint": "former"}
    (place / INDEX).write_text(json.dumps({**index, "images": [own, foreign, former]}))
    done = template_publish.publish(ctx, place, ["full"])
    assert [(image.arch, image.fingerprint) for image in done.images] == [
        ("aarch64", "elsewhere"),
        (own["arch"], own["fingerprint"]),
    ]
    assert str(done.pin) == pin(place)


def test_a_template_that_the_set_has_not_is_built(other: Context, place: Path) -> None:
    config.set_(other, "prebuilt", pin(place))
    add_template(other, "more")
    with pytest.raises(AppcatError) as caught:
        templates.ensure(other, "more")
    assert caught.value.code == "missing-tool"


def bundle(place: Path) -> Path:
    (found,) = place.glob("*.appcat")
    return found


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def declare(place: Path, **changes: object) -> None:
    """An index that says something else, with a pin that fits."""
    index = json.loads((place / INDEX).read_text())
    index["images"][0].update(changes)
    (place / INDEX).write_text(json.dumps(index))


def fit(place: Path) -> None:
    data = bundle(place).read_bytes()
    declare(place, size=len(data), sha256=hashlib.sha256(data).hexdigest())


def nonsense(place: Path) -> None:
    bundle(place).write_bytes(b"nonsense" * 999)
    fit(place)


def flipped_and_declared(place: Path) -> None:
    flip(bundle(place))
    fit(place)


SPOILED: dict[str, Callable[[Path], object]] = {
    "a byte": lambda place: flip(bundle(place)),
    "cut off": lambda place: bundle(place).write_bytes(bundle(place).read_bytes()[:1000]),
    "longer": lambda place: bundle(place).write_bytes(bundle(place).read_bytes() + b"x"),
    "another template": lambda place: declare(place, template="other"),
    "a path that leads out": lambda place: declare(place, file="../x"),
    "nonsense that was declared": nonsense,
    "a byte that was declared": flipped_and_declared,
    "an index that is none": lambda place: (place / INDEX).write_text("{}"),
}


@pytest.mark.parametrize("how", SPOILED)
def test_what_is_not_to_be_trusted_is_refused_and_leaves_nothing(other: Context, place: Path, how: str) -> None:
    SPOILED[how](place)
    config.set_(other, "prebuilt", pin(place))
    with pytest.raises(BuildError) as caught:
        templates.ensure(other, "full")
    assert caught.value.code == "prebuilt-damaged"
    assert templates.images(other).all() == []
    assert names_in(other.layout.images / "staging") == []


def test_an_index_that_was_exchanged(other: Context, place: Path) -> None:
    config.set_(other, "prebuilt", pin(place))
    declare(place, size=1)
    with pytest.raises(BuildError, match="pinned checksum"):
        templates.ensure(other, "full")


def test_a_server_that_is_not_there(other: Context, place: Path) -> None:
    with served(place) as url:
        config.set_(other, "prebuilt", pin(place, url))
        bundle(place).unlink()
        with pytest.raises(Unavailable, match="404") as caught:
            templates.ensure(other, "full")
        assert caught.value.code == "prebuilt-unreachable"
    with pytest.raises(Unavailable, match="cannot be had"):
        templates.ensure(other, "full")
    config.set_(other, "prebuilt", pin(place, "/not/there"))
    with pytest.raises(Unavailable, match="no such file"):
        templates.ensure(other, "full")


def test_what_cannot_be_published(ctx: Context, place: Path, tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        template_publish.publish(ctx, tmp_path / "nowhere")
    with pytest.raises(NotFound):
        template_publish.publish(ctx, place, ["nobody"])
    template_files.import_template(ctx, bundle(place), "mine")
    with pytest.raises(InvalidInput) as caught:
        template_publish.publish(ctx, place, ["mine"])
    assert caught.value.code == "no-recipe"
    (place / INDEX).write_text("nonsense")
    with pytest.raises(InvalidInput, match="cannot be read"):
        template_publish.publish(ctx, place)


@pytest.mark.parametrize("text", ["", "/x", "/x#sha256=12", f"x#sha256={'0' * 64}", f"ftp://x/y#sha256={'0' * 64}",
                                  f"https://#sha256={'0' * 64}", f"https://[x#sha256={'0' * 64}",
                                  f"/x#sha256={'G' * 64}", f"/a\nb#sha256={'0' * 64}"])  # fmt: skip
def test_what_is_no_pin(text: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse_pin(text)
    assert caught.value.code == "invalid-prebuilt"


def test_a_pin() -> None:
    text = f"https://host/a/{INDEX}#sha256={'0' * 64}"
    assert parse_pin(text) == Pin(f"https://host/a/{INDEX}", "0" * 64)
    assert str(parse_pin(text)) == text
    assert parse_pin(text).beside("x") == "https://host/a/x"
