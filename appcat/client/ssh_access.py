"""Plain ``ssh`` to a guest behind a daemon: through ``appcat vm tunnel``, with the home's key kept here.

No port of the other computer is used; what reaches it is what reaches its daemon.
"""

from __future__ import annotations

import hashlib
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from appcat.errors import AppcatError
from appcat.guest import ssh
from appcat.model.remote import Remote
from appcat.services import contexts
from appcat.store.files import make_private_directory, write_atomic
from appcat.store.layout import Layout


def access(layout: Layout, context: str, remote: Remote, name: str, answer: Any) -> ssh.Way:
    """From the daemon's ``answer`` (``GET /v1/vms/NAME/ssh``), with the files written for this user alone."""
    try:
        user, host_key, private_key, port = (answer[key] for key in ("user", "host_key", "private_key", "port"))
    except (KeyError, TypeError) as error:
        raise AppcatError(
            "the daemon's answer tells no SSH key", hint="is it as new as this appcat?", code="bad-answer"
        ) from error
    directory = layout.remotes / digest(remote.url)
    make_private_directory(directory)
    files = {"id_ed25519": str(private_key), f"{name}.known_hosts": f"{name} {host_key}\n"}
    for file, content in files.items():
        write_atomic(directory / file, content, durable=False)
    proxy = shlex.join([*this_appcat(context, remote, directory), "vm", "tunnel", name, str(port)])
    target = ssh.Target(name, name, int(port), str(user))
    return ssh.Way(target, directory / "id_ed25519", directory / f"{name}.known_hosts", proxy)


def digest(url: str) -> str:
    """A remote's directory name."""
    return hashlib.sha256(url.encode()).hexdigest()[:16]


def this_appcat(context: str, remote: Remote, directory: Path) -> list[str]:
    """The words that run this very appcat for ``remote``, from wherever; secrets are in files, not among them."""
    program = [sys.executable, "-P", "-m", "appcat"]
    env = {"APPCAT_HOME": os.environ["APPCAT_HOME"]} if os.environ.get("APPCAT_HOME") else {}
    if context:
        return [*_env(env), *program, "--context", context]
    token_file = remote.token_file
    if remote.token:
        token_file = str(directory / "token")
        write_atomic(Path(token_file), f"{remote.token}\n", durable=False)
    told = {
        contexts.TOKEN_FILE: token_file,
        contexts.FINGERPRINT: remote.fingerprint,
        contexts.CA_FILE: remote.ca_file,
    }
    return [*_env({**env, **{key: value for key, value in told.items() if value}}), *program, "--host", remote.url]


def _env(variables: dict[str, str]) -> Sequence[str]:
    return ["env", *(f"{key}={value}" for key, value in variables.items())] if variables else []
