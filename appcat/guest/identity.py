"""What makes a guest itself, and the document that tells it so.

The document's language is that of ``templates/guest/appcat-guest.c``: one statement a line, checked as a whole before
the first is applied. Which file a key goes to and in which format is decided here, so that the guest program need not
know.
"""

from __future__ import annotations

import base64
import struct
from collections.abc import Sequence
from dataclasses import dataclass

from cryptography.hazmat.primitives import serialization as ser
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from appcat.errors import Broken
from appcat.model.image import SshServer
from appcat.model.machine import USER_DNS, USER_GUEST, USER_HOST, USER_NETWORK

PROTOCOL = 1
KEY_TYPE = b"ssh-ed25519"
HOST_NAME_INSIDE = "host.appcat.internal"
HOST_LINE = f"{USER_HOST} {HOST_NAME_INSIDE}"
DROPBEAR_KEY = "/etc/dropbear/dropbear_ed25519_host_key"
OPENSSH_KEY = "/etc/ssh/ssh_host_ed25519_key"


@dataclass(frozen=True)
class SshKey:
    """An ed25519 key pair; ``seed`` and ``public`` are the 32 raw bytes of RFC 8032."""

    seed: bytes
    public: bytes

    @classmethod
    def generate(cls) -> SshKey:
        """A new key."""
        return cls._of(Ed25519PrivateKey.generate())

    @classmethod
    def from_openssh(cls, text: bytes) -> SshKey:
        """The key in an OpenSSH private key file; raises Broken."""
        try:
            key = ser.load_ssh_private_key(text, password=None)
        except (ValueError, TypeError) as error:
            raise Broken(f"an SSH key cannot be read: {error}") from error
        if not isinstance(key, Ed25519PrivateKey):
            raise Broken("an SSH key is not of type ed25519")
        return cls._of(key)

    @classmethod
    def _of(cls, key: Ed25519PrivateKey) -> SshKey:
        seed = key.private_bytes(ser.Encoding.Raw, ser.PrivateFormat.Raw, ser.NoEncryption())
        return cls(seed, key.public_key().public_bytes(ser.Encoding.Raw, ser.PublicFormat.Raw))

    @property
    def openssh(self) -> bytes:
        """The private key as ``ssh-keygen`` writes it."""
        key = Ed25519PrivateKey.from_private_bytes(self.seed)
        return key.private_bytes(ser.Encoding.PEM, ser.PrivateFormat.OpenSSH, ser.NoEncryption())

    @property
    def dropbear(self) -> bytes:
        """The private key as dropbear keeps it: its type, then seed and public key as one string."""
        return _string(KEY_TYPE) + _string(self.seed + self.public)

    @property
    def public_line(self) -> str:
        """The public key as ``known_hosts`` and ``authorized_keys`` have it, without host or comment."""
        blob = _string(KEY_TYPE) + _string(self.public)
        return f"{KEY_TYPE.decode()} {base64.b64encode(blob).decode()}"


@dataclass(frozen=True)
class Identity:
    """All that is a guest's own. ``authorized_key`` logs in as ``login``, whose home is ``home``."""

    hostname: str
    machine_id: str
    mac: str
    host_key: SshKey
    authorized_key: str
    ssh: SshServer
    home: str
    entropy: bytes


def statements(identity: Identity) -> list[str]:
    """The statements that give a guest this identity, the address last: from then on it can be reached.

    What it is on private networks, and ``/etc/hosts``, come after them (``services.neighbours``).
    """
    prefix = USER_NETWORK.partition("/")[2]
    return [
        f"hostname {identity.hostname}",
        f"machine-id {identity.machine_id}",
        entropy_statement(identity.entropy),
        host_key_statement(identity.host_key, identity.ssh),
        _keys_statement(identity),
        file_statement(0o644, "/etc/hostname", f"{identity.hostname}\n"),
        file_statement(0o644, "/etc/resolv.conf", f"nameserver {USER_DNS}\n"),
        f"mac eth0 {identity.mac}",
        f"address eth0 {USER_GUEST}/{prefix} {USER_HOST}",
    ]


def _keys_statement(identity: Identity) -> str:
    """The guest program writes as root: a file of another account has to be readable for that."""
    mode = 0o600 if identity.home == "/root" else 0o644
    return file_statement(mode, f"{identity.home}/.ssh/authorized_keys", f"{identity.authorized_key}\n")


def document(identifier: str, lines: Sequence[str]) -> str:
    """A whole document; ``identifier`` comes back in the answer."""
    return "\n".join([f"appcat-guest {PROTOCOL} {identifier}", *lines, "end", ""])


def hosts(hostname: str, neighbours: Sequence[str] = ()) -> str:
    """What ``/etc/hosts`` says: the guest itself, the computer it runs on, then lines of ``neighbours``, its own first.

    A guest that has none calls 127.0.0.1 by its name.
    """
    own = "" if neighbours else f" {hostname}"
    return "".join(f"{line}\n" for line in (f"127.0.0.1 localhost{own}", "::1 localhost", HOST_LINE, *neighbours))


def link_statements(interface: str, mac: str, address: str) -> list[str]:
    """A card on a private network gets its MAC and its address, written ``A.B.C.D/PREFIX``.

    ``interface`` may be ``@SLOT.FUNCTION``: what sits behind the root port at that PCI address.
    """
    return [f"mac {interface} {mac}", f"address {interface} {address}"]


def hosts_statement(text: str) -> str:
    """The part of the guest's ``/etc/hosts`` that is appcat's; what else is in it stays."""
    return section_statement(0o644, "/etc/hosts", text)


def host_key_statement(key: SshKey, server: SshServer) -> str:
    """Where the SSH server looks for its host key, in its own format."""
    if server is SshServer.DROPBEAR:
        return file_statement(0o600, DROPBEAR_KEY, key.dropbear)
    return file_statement(0o600, OPENSSH_KEY, key.openssh)


def file_statement(mode: int, path: str, content: str | bytes) -> str:
    """Write a file in the guest."""
    data = content.encode() if isinstance(content, str) else content
    return f"file {mode:04o} {path} {base64.b64encode(data).decode()}"


def section_statement(mode: int, path: str, content: str) -> str:
    """Replace what stands between appcat's marks in a file of the guest; without ``content`` the marks go as well."""
    return f"section {mode:04o} {path} {base64.b64encode(content.encode()).decode()}".rstrip()


def entropy_statement(data: bytes) -> str:
    """Credit random bytes, and seed the kernel's generator anew."""
    return f"entropy {base64.b64encode(data).decode()}"


def clock_statement(seconds: float) -> str:
    """Set the guest's wall clock to ``seconds`` since the epoch."""
    return f"clock {seconds:.9f}"


def _string(data: bytes) -> bytes:
    """A string of RFC 4251: length and bytes."""
    return struct.pack(">I", len(data)) + data
