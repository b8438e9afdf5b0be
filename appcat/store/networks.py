"""Private networks: one file each, and nothing else that remembers them. Who is on one, the vms' own files say."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from appcat.errors import AlreadyExists, AppcatError, Broken, InvalidInput, NotFound, from_os_error
from appcat.model import codec, network
from appcat.model.name import check_name, shorten, suggestion
from appcat.model.network import DEFAULT_NETWORK, NO_NETWORK, Network, parse_subnet
from appcat.store.files import make_private_directory, sync_directory, write_atomic
from appcat.store.layout import Layout


@dataclass(frozen=True)
class NetworkStore:
    """Reads and writes the files of networks. Whoever changes one holds ``home.lock``."""

    layout: Layout

    def names(self) -> list[str]:
        """Names of all networks, broken ones included, sorted."""
        try:
            return sorted(path.stem for path in self.layout.networks.iterdir() if _is_network(path))
        except FileNotFoundError:
            return []
        except OSError as error:
            raise from_os_error(error, "listing the networks") from error

    def exists(self, name: str) -> bool:
        """Whether there is a network called ``name`` (a checked name), broken or not."""
        return self.layout.network(name).exists()

    def load(self, name: str) -> Network:
        """The network called ``name``; raises InvalidInput, NotFound, or Broken when its file cannot be read."""
        path = self.layout.network(check_name(name))
        try:
            found = codec.loads(Network, path.read_text(encoding="utf-8"), kind_of(name))
            return _check_sense(found, name)
        except FileNotFoundError as error:
            raise not_found(name, self.names()) from error
        except (OSError, UnicodeDecodeError) as error:
            raise Broken(f"{path.name} cannot be read: {error}", hint=f"mend or remove {path}") from error
        except Broken as error:
            error.hint = error.hint or f"mend or remove {path}"
            raise

    def all(self) -> dict[str, Network | Broken]:
        """Every network by name; in the place of a damaged one, what is wrong with it."""
        found: dict[str, Network | Broken] = {}
        for name in self.names():
            try:
                found[name] = self.load(name)
            except Broken as error:
                found[name] = error
            except NotFound:  # deleted meanwhile
                continue
        return found

    def save(self, new: Network) -> None:
        """Write a network that is not there yet; raises AlreadyExists, InsufficientSpace, Unavailable."""
        if self.exists(new.name):
            raise already_exists(new.name)
        make_private_directory(self.layout.networks)
        write_atomic(self.layout.network(new.name), codec.dumps(new, kind_of(new.name)))

    def remove(self, name: str) -> None:
        """Remove a network's file; raises NotFound, Unavailable."""
        path = self.layout.network(check_name(name))
        try:
            path.unlink()
            sync_directory(path.parent)
        except FileNotFoundError as error:
            raise not_found(name, self.names()) from error
        except OSError as error:
            raise from_os_error(error, f"deleting the network {name}") from error


def kind_of(name: str) -> codec.Kind:
    """The document that the network ``name`` is kept in."""
    return codec.Kind(f"{name}.json", network.SCHEMA)


def not_found(name: str, names: Iterable[str] = ()) -> NotFound:
    """The error for a network (a checked name) that is not there; ``names`` are those that are."""
    known = {*names, DEFAULT_NETWORK}
    hint = suggestion(name, known)
    if name == NO_NETWORK:
        hint = f"{NO_NETWORK} stands for no network; see 'appcat network list'"
    hint = hint or f"make it: appcat network create {name}"
    return NotFound(f"there is no network {name}", hint=hint, code="network-not-found")


def already_exists(name: str) -> AlreadyExists:
    """The error for a name that is taken."""
    hint = f"put vms on it (--network {name}), choose another name, or delete it (appcat network delete {name})"
    return AlreadyExists(f"a network called {name} exists already", hint=hint, code="network-exists")


def _is_network(path: Path) -> bool:
    try:
        return path.suffix == ".json" and path.stem == check_name(path.stem)
    except InvalidInput:
        return False


def _check_sense(found: Network, name: str) -> Network:
    """A file may have been edited by hand, or copied to another name."""
    if found.name != name:
        raise Broken(f"{name}.json is of {shorten(found.name)}, not of {name}")
    try:
        if found.twin:
            check_name(found.twin)
        if parse_subnet(found.subnet) == found.subnet:
            return found
    except AppcatError as error:
        raise Broken(f"{name}.json: {error.message}") from error
    raise Broken(f"{name}.json: {shorten(found.subnet)} is not written as a subnet is")
