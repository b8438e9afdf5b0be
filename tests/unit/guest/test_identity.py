from __future__ import annotations

import base64
import io
import struct

import paramiko
import pytest

from appcat.errors import Broken
from appcat.guest import identity
from appcat.guest.identity import Identity, SshKey, document, statements
from appcat.model.image import SshServer

# RFC 8032, section 7.1, test 1.
SEED = bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")
PUBLIC = bytes.fromhex("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a")
KEY = SshKey(SEED, PUBLIC)


def strings(data: bytes) -> list[bytes]:
    """The strings of RFC 4251 that ``data`` consists of."""
    found = []
    while data:
        (length,) = struct.unpack_from(">I", data)
        found.append(data[4 : 4 + length])
        data = data[4 + length :]
    return found


def make(server: SshServer = SshServer.DROPBEAR) -> Identity:
    return Identity(
        hostname="web",
        machine_id="0" * 32,
        mac="52:54:00:12:34:56",
        host_key=KEY,
        authorized_key="ssh-ed25519 AAAA me",
        ssh=server,
        home="/root",
        entropy=bytes(64),
    )


def files(lines: list[str]) -> dict[str, tuple[str, bytes]]:
    """Mode and content of each file that statements write."""
    found = {}
    for words in (line.split(" ") for line in lines):
        if words[0] == "file":
            found[words[2]] = (words[1], base64.b64decode(words[3], validate=True))
    return found


def test_dropbear_keeps_seed_and_public_key_in_one_string() -> None:
    assert strings(KEY.dropbear) == [b"ssh-ed25519", SEED + PUBLIC]


def test_openssh_reads_what_was_written() -> None:
    assert SshKey.from_openssh(KEY.openssh) == KEY
    read = paramiko.Ed25519Key.from_private_key(io.StringIO(KEY.openssh.decode()))
    assert f"ssh-ed25519 {read.get_base64()}" == KEY.public_line


def test_new_keys_differ() -> None:
    assert SshKey.generate() != SshKey.generate()


@pytest.mark.parametrize(
    "text", [b"", b"-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----\n"]
)
def test_a_damaged_key(text: bytes) -> None:
    with pytest.raises(Broken):
        SshKey.from_openssh(text)


def test_nobody_reaches_the_guest_before_its_keys_are_there() -> None:
    kinds = [line.split()[0] for line in statements(make())]
    assert kinds[-1] == "address"
    assert kinds.index("mac") < kinds.index("address")


def test_the_host_key_suits_the_server() -> None:
    assert files(statements(make(SshServer.DROPBEAR)))[identity.DROPBEAR_KEY] == ("0600", KEY.dropbear)
    mode, content = files(statements(make(SshServer.OPENSSH)))[identity.OPENSSH_KEY]
    assert (mode, SshKey.from_openssh(content)) == ("0600", KEY)


def test_files() -> None:
    found = files(statements(make()))
    assert found["/root/.ssh/authorized_keys"] == ("0600", b"ssh-ed25519 AAAA me\n")
    assert b"10.0.2.2 host.appcat.internal\n" in found["/etc/hosts"][1]


def test_no_word_of_a_statement_is_empty_and_no_line_has_more_than_the_guest_takes() -> None:
    for line in statements(make()):
        words = line.split(" ")
        assert all(words)
        assert len(words) <= 4


def test_document() -> None:
    assert document("id7", ["hostname web"]).split("\n")[-4:] == ["appcat-guest 1 id7", "hostname web", "end", ""]
