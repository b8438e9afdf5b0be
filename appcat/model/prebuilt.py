"""Prebuilt images: an index of files that ``template export`` wrote, pinned by its checksum."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from appcat.errors import Broken, InvalidInput
from appcat.model.codec import Kind, dumps, loads
from appcat.model.name import shorten
from appcat.model.vm import Arch

INDEX = "appcat-images.json"
INDEX_KIND = Kind(INDEX, schema=1)
_MARK = "#sha256="
_SHA256 = re.compile(r"[0-9a-f]{64}", re.ASCII)
_FILE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*", re.ASCII)


@dataclass(frozen=True)
class Pin:
    """Where an index is (an absolute path or a URL), and the checksum that it must have."""

    place: str
    sha256: str

    def __str__(self) -> str:
        return f"{self.place}{_MARK}{self.sha256}"

    @property
    def is_url(self) -> bool:
        """Whether it is fetched by HTTP."""
        return not self.place.startswith("/")

    def beside(self, file: str) -> str:
        """Where a file of the index is."""
        return f"{self.place.rpartition('/')[0]}/{file}"


@dataclass(frozen=True)
class PrebuiltImage:
    """One image: the file it is in, with its size in bytes and its checksum, and the recipe it was built from."""

    template: str
    arch: Arch
    fingerprint: str
    file: str
    size: int
    sha256: str


@dataclass(frozen=True)
class Index:
    """All that a set holds."""

    images: tuple[PrebuiltImage, ...]

    def find(self, fingerprint: str) -> PrebuiltImage | None:
        """The image of the recipe with this fingerprint, which says the architecture too."""
        return next((image for image in self.images if image.fingerprint == fingerprint), None)


def parse_pin(text: str) -> Pin:
    """Read ``PLACE#sha256=DIGEST``; raises InvalidInput."""
    place, mark, digest = text.rpartition(_MARK)
    if mark and _SHA256.fullmatch(digest) and _is_place(place):
        return Pin(place, digest)
    raise InvalidInput(
        f"{shorten(text)} is not a pinned index",
        hint=f"write its path or URL and its checksum: https://HOST/{INDEX}{_MARK}DIGEST",
        code="invalid-prebuilt",
    )


def _is_place(text: str) -> bool:
    if text.startswith("/"):
        return text.isprintable()
    try:
        url = urlsplit(text)
    except ValueError:
        return False
    return text.isprintable() and url.scheme in ("http", "https") and bool(url.netloc) and not url.query


def index_to_json(index: Index) -> str:
    """The text of the index."""
    return dumps(index, INDEX_KIND)


def index_from_json(text: bytes) -> Index:
    """The index in ``text``; raises Broken."""
    index = loads(Index, text, INDEX_KIND)
    for image in index.images:
        if not _FILE.fullmatch(image.file) or image.size < 0 or not _SHA256.fullmatch(image.sha256):
            raise Broken(f"{INDEX}: {shorten(image.file)} is no file with a size and a checksum")
    return index
