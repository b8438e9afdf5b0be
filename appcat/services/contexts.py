"""``context``: the daemons this home knows by name, and which appcat a command is for.

What is said first in this list counts:

1. ``--host URL`` or ``--context NAME`` on the command line (``cli.main`` puts them into the environment)
2. ``APPCAT_HOST``, a URL
3. ``APPCAT_CONTEXT``, a name; ``local`` is the appcat of this process
4. the context that was chosen with ``context use``
5. the appcat of this process

``APPCAT_TOKEN``, ``APPCAT_TOKEN_FILE``, ``APPCAT_FINGERPRINT`` and ``APPCAT_CA_FILE`` belong to a URL of 1 or 2, never
to a context: no daemon is shown another one's token.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from appcat.errors import AlreadyExists, Broken, InvalidInput, NotFound
from appcat.model import codec
from appcat.model.name import check_name, shorten, suggestion
from appcat.model.remote import LOCAL, SCHEMA, Contexts, Remote, check_token, parse_fingerprint, parse_url
from appcat.store import locks
from appcat.store.files import make_private_directory, write_atomic
from appcat.store.layout import Layout

KIND = codec.Kind("contexts.json", SCHEMA)
HOST, CONTEXT = "APPCAT_HOST", "APPCAT_CONTEXT"
TOKEN, TOKEN_FILE, FINGERPRINT, CA_FILE = "APPCAT_TOKEN", "APPCAT_TOKEN_FILE", "APPCAT_FINGERPRINT", "APPCAT_CA_FILE"


def read(layout: Layout) -> Contexts:
    """All contexts; raises Broken."""
    try:
        return codec.loads(Contexts, layout.contexts.read_text(encoding="utf-8"), KIND)
    except FileNotFoundError:
        return Contexts()
    except (OSError, UnicodeDecodeError) as error:
        raise Broken(f"contexts.json cannot be read: {error}", hint=f"mend or remove {layout.contexts}") from error
    except Broken as error:
        error.hint = error.hint or f"mend or remove {layout.contexts}"
        raise


def chosen(layout: Layout, environ: Mapping[str, str] | None = None) -> tuple[str, Remote | None]:
    """The name of the context that holds now, and its remote: None is the appcat of this process.

    A URL from the environment has no name. Raises InvalidInput, NotFound, Broken.
    """
    env = os.environ if environ is None else environ
    if url := env.get(HOST):
        return "", named_by_environment(url, env)
    name = env.get(CONTEXT) or read(layout).current
    return name, None if name == LOCAL else find(layout, name)


def named_by_environment(url: str, env: Mapping[str, str]) -> Remote:
    """The remote at ``url`` with what the environment says of it; raises InvalidInput."""
    parse_url(url)
    fingerprint = env.get(FINGERPRINT) or ""
    return Remote(
        url,
        token=env.get(TOKEN) or "",
        token_file="" if env.get(TOKEN) else env.get(TOKEN_FILE) or "",
        fingerprint=parse_fingerprint(fingerprint) if fingerprint else "",
        ca_file=env.get(CA_FILE) or "",
    )


def find(layout: Layout, name: str) -> Remote:
    """The remote called ``name``; raises NotFound."""
    remotes = read(layout).remotes
    if name in remotes:
        return remotes[name]
    hint = suggestion(name, remotes) or "see 'appcat context list'"
    raise NotFound(f"there is no context {shorten(name)}", hint=hint, code="context-not-found")


def add(layout: Layout, name: str, remote: Remote) -> None:
    """Remember ``remote`` as ``name``; raises InvalidInput for what can never work, AlreadyExists, Broken."""
    if check_name(name) == LOCAL:
        raise InvalidInput(f"{LOCAL} is the appcat of this computer", hint="give the context another name")
    kept = _checked(remote)

    def change(known: Contexts) -> Contexts:
        if name in known.remotes:
            raise AlreadyExists(
                f"there is a context {name} already", hint=f"remove it first: appcat context remove {name}"
            )
        return replace(known, remotes={**known.remotes, name: kept})

    _change(layout, change)


def use(layout: Layout, name: str) -> None:
    """Make ``name``, or ``local``, the one that holds when nothing else is said; raises NotFound."""
    if name != LOCAL:
        find(layout, name)
    _change(layout, lambda known: replace(known, current=name))


def remove(layout: Layout, name: str) -> None:
    """Forget ``name``; where it was in use, ``local`` is again. Raises NotFound, InvalidInput for ``local``."""
    if name == LOCAL:
        raise InvalidInput(f"{LOCAL} is the appcat of this computer and stays", hint="see 'appcat context list'")
    find(layout, name)
    _change(
        layout,
        lambda known: Contexts(
            current=LOCAL if known.current == name else known.current,
            remotes={key: remote for key, remote in known.remotes.items() if key != name},
        ),
    )


def token_of(remote: Remote) -> str:
    """The token to show, or nothing where there is none; raises InvalidInput when its file cannot be used."""
    if remote.token or not remote.token_file:
        return check_token(remote.token) if remote.token else ""
    path = Path(remote.token_file).expanduser()
    try:
        return check_token(path.read_text(encoding="ascii").strip())
    except OSError as error:
        raise InvalidInput(f"the token file {path} cannot be read: {error.strerror}", hint="is it yours?") from error
    except UnicodeDecodeError:
        raise InvalidInput(f"{path} holds no token", hint="a token is one line of plain text") from None


def _checked(remote: Remote) -> Remote:
    """With absolute paths, and everything tried that can be tried here."""
    address = parse_url(remote.url)
    if (remote.fingerprint or remote.ca_file) and address.scheme != "https":
        raise InvalidInput("only https:// has a certificate to know", hint="leave --fingerprint and --ca-file out")
    if remote.fingerprint and remote.ca_file:
        raise InvalidInput("a certificate is known by its fingerprint or by who signed it", hint="give one of them")
    if remote.token and remote.token_file:
        raise InvalidInput("the token is given twice", hint="give one of --token and --token-file")
    kept = replace(
        remote,
        fingerprint=parse_fingerprint(remote.fingerprint) if remote.fingerprint else "",
        token_file=_absolute(remote.token_file),
        ca_file=_absolute(remote.ca_file),
    )
    token_of(kept)
    if kept.ca_file and not Path(kept.ca_file).is_file():
        raise InvalidInput(f"there is no file {kept.ca_file}", hint="give a PEM file with the authority's certificate")
    return kept


def _absolute(path: str) -> str:
    return str(Path(path).expanduser().absolute()) if path else ""


def _change(layout: Layout, change: Callable[[Contexts], Contexts]) -> None:
    make_private_directory(layout.home)
    with locks.hold(layout.home_lock, "context"):
        write_atomic(layout.contexts, codec.dumps(change(read(layout)), KIND))
