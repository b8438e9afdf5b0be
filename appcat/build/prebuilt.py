"""Images that somebody else built: for hosts that cannot build any, and for those that need not.

What makes them trustworthy is one checksum, that of the index (``model.prebuilt.Pin``): the index has those of the
files. Each file is whole and checked before the cache sees anything of it.
"""

from __future__ import annotations

import hashlib
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, cast

from appcat.build.bundle import complete, extract, read_manifest
from appcat.build.workshop import Progress
from appcat.checks import Check, unchecked
from appcat.errors import Broken, BuildError, Unavailable, from_os_error
from appcat.model.prebuilt import Index, Pin, PrebuiltImage, index_from_json
from appcat.store.files import make_private_directory
from appcat.store.images import ImageStore, StoredImage

LARGEST_INDEX = 1 << 20
# To reach the server, and between two pieces, in seconds.
PATIENCE = 30.0
_PIECE = 1 << 20


def fetch_prebuilt(
    pin: Pin, fingerprint: str, store: ImageStore, progress: Progress, check: Check = unchecked
) -> StoredImage | None:
    """The image of the recipe with ``fingerprint``, put into the store; None when the set has none.

    Raises Unavailable when the set cannot be had, BuildError when it is not what its checksum says, InsufficientSpace.
    """
    with store.building(fingerprint, check) as staging:
        if found := store.find(fingerprint):
            return found
        entry = _index(pin).find(fingerprint)
        if entry is None:
            return None
        try:
            return _take(pin, entry, staging, store, progress, check)
        except (tarfile.TarError, EOFError, Broken) as error:
            raise _damaged(pin.beside(entry.file), str(error)) from error
        except OSError as error:
            raise from_os_error(error, f"fetching template {entry.template}") from error


def _take(
    pin: Pin, entry: PrebuiltImage, staging: Path, store: ImageStore, progress: Progress, check: Check
) -> StoredImage:
    file, output = staging / "bundle", staging / "image"
    _download(pin, entry, file, progress, check)
    progress("unpacking", 0, 1)
    make_private_directory(output)
    with file.open("rb") as opened, tarfile.open(fileobj=opened, mode="r|") as tar:
        image = read_manifest(tar)
        if (image.template, image.arch) != (entry.template, entry.arch):
            raise Broken(f"it is {image.template} for {image.arch}")
        extract(tar, image, output, check)
    file.unlink()
    complete(output, image)
    stored = store.publish(image, output, entry.fingerprint)
    progress("done", 1, 1)
    return stored


def _download(pin: Pin, entry: PrebuiltImage, target: Path, progress: Progress, check: Check) -> None:
    place, digest, done = pin.beside(entry.file), hashlib.sha256(), 0
    step = f"fetching template {entry.template}"
    with _opened(pin, place) as source, target.open("xb") as file:
        progress(step, 0, entry.size)
        while piece := _read(source, place):
            check()
            done += len(piece)
            if done > entry.size:
                break
            digest.update(piece)
            file.write(piece)
            progress(step, done, entry.size)
    if done != entry.size:
        raise _damaged(place, f"it has not the {entry.size} bytes that its index says")
    if digest.hexdigest() != entry.sha256:
        raise _damaged(place, "it is not what the checksum in its index says")


def _index(pin: Pin) -> Index:
    data = b""
    with _opened(pin, pin.place) as source:
        while (piece := _read(source, pin.place)) and len(data) <= LARGEST_INDEX:
            data += piece
    if hashlib.sha256(data).hexdigest() != pin.sha256:
        raise _damaged(pin.place, "it is not what the pinned checksum says")
    try:
        return index_from_json(data)
    except Broken as error:
        raise _damaged(pin.place, error.message) from error


@contextmanager
def _opened(pin: Pin, place: str) -> Iterator[IO[bytes]]:
    if not pin.is_url:
        try:
            with Path(place).open("rb") as file:
                yield file
        except FileNotFoundError as error:
            raise _unreachable(place, "there is no such file") from error
        return
    import requests

    try:
        with requests.get(place, stream=True, timeout=PATIENCE) as response:
            response.raise_for_status()
            yield cast("IO[bytes]", response.raw)
    except requests.RequestException as error:
        raise _unreachable(place, str(error)) from error


def _read(source: IO[bytes], place: str) -> bytes:
    from urllib3.exceptions import HTTPError

    try:
        return source.read(_PIECE)
    except HTTPError as error:  # urllib3's own, from below requests
        raise _unreachable(place, str(error)) from error


def _unreachable(place: str, why: str) -> Unavailable:
    return Unavailable(
        f"{place} cannot be had: {why}",
        hint="try again, or go without: appcat config unset prebuilt",
        code="prebuilt-unreachable",
    )


def _damaged(place: str, why: str) -> BuildError:
    return BuildError(
        f"{place} is not to be trusted: {why}",
        hint="ask whoever keeps it; the cache is as it was",
        code="prebuilt-damaged",
    )
