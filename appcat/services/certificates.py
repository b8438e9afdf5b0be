"""The authority of a home: it certifies guests whose template wants that, and this user to them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from appcat.errors import from_os_error
from appcat.guest.certificate import Pair, Role, certificate_statements, issue, new_authority
from appcat.model.image import Image
from appcat.model.port import LOOPBACK
from appcat.model.vm import Vm
from appcat.services.context import Context
from appcat.store import locks
from appcat.store.files import make_private_directory, write_atomic

AUTHORITY = "ca.pem"
AUTHORITY_KEY = "ca-key.pem"
CERTIFICATE = "cert.pem"
KEY = "key.pem"


@dataclass(frozen=True)
class Credentials:
    """What shows this user to guests: ``ca.pem``, ``cert.pem`` and ``key.pem`` in ``directory``, PEM each.

    They have the names that the docker CLI looks for (its ``DOCKER_CERT_PATH``).
    """

    directory: Path
    authority: bytes
    own: Pair


def statements_for(ctx: Context, vm: Vm, image: Image) -> Sequence[str]:
    """What gives a guest a new certificate, for its name and its address; nothing where its template wants none."""
    names = dict.fromkeys([vm.name, "localhost", LOOPBACK, *([vm.address] if vm.address else [])])
    return _statements(ctx, image, vm.name, names)


def statements_for_nobody(ctx: Context, image: Image) -> Sequence[str]:
    """The same for a warm template: what serves TLS in it runs, and nobody believes it before it has another."""
    return _statements(ctx, image, "nobody", [])


def _statements(ctx: Context, image: Image, name: str, names: Iterable[str]) -> Sequence[str]:
    if not image.certificate:
        return []
    authority = _authority(ctx)
    return certificate_statements(image.certificate, authority.certificate, issue(authority, name, Role.SERVER, names))


def authority_of(ctx: Context) -> bytes:
    """The certificate of the home's authority, made at first need; raises Broken, Unavailable."""
    return _authority(ctx).certificate


def credentials(ctx: Context) -> Credentials:
    """This user's, made at first need and again before they run out; raises Broken, Unavailable."""
    authority = _authority(ctx)
    directory = ctx.layout.tls / "client"
    if _read(directory / AUTHORITY) != authority.certificate:  # another signed what is there
        make_private_directory(directory)
        (directory / CERTIFICATE).unlink(missing_ok=True)
        write_atomic(directory / AUTHORITY, authority.certificate, 0o644)
    own = _kept(ctx, directory, CERTIFICATE, KEY, lambda: issue(authority, "appcat user", Role.CLIENT))
    return Credentials(directory, authority.certificate, own)


def _authority(ctx: Context) -> Pair:
    return _kept(ctx, ctx.layout.tls, AUTHORITY, AUTHORITY_KEY, lambda: new_authority("appcat home"))


def _kept(ctx: Context, directory: Path, certificate: str, key: str, make: Callable[[], Pair]) -> Pair:
    """What is in these two files, made by ``make`` where there is nothing that will do."""
    pair = Pair(_read(directory / certificate), _read(directory / key))
    if pair.is_fresh:
        return pair
    make_private_directory(directory)
    with locks.hold(directory / ".lock", "make a certificate", wait=10.0, check=ctx.check):
        pair = Pair(_read(directory / certificate), _read(directory / key))
        if pair.is_fresh:
            return pair
        pair = make()
        # The key first: cut off in between, the two do not fit, and are made again.
        write_atomic(directory / key, pair.key)
        write_atomic(directory / certificate, pair.certificate, 0o644)
        return pair


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""
    except OSError as error:
        raise from_os_error(error, f"reading {path}") from error
