from __future__ import annotations

import base64
import io
import struct

import paramiko
import pytest

from appcat.errors import Broken
from appcat.guest import identity
from appcat.guest.identity import (
    Identity,
    SshKey,
    document,
    hosts,
    hosts_statement,
    link_statements,
    section_statement,
    statements,
)
from appcat.model.image import GUEST_LEVEL, SshServer
from tests.unit.support.processes import REPOSITORY

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
    assert "/etc/hosts" not in found


def test_a_guest_without_neighbours_calls_itself_by_the_loopback_address() -> None:
    assert hosts("web") == "127.0.0.1 localhost web\n::1 localhost\n10.0.2.2 host.appcat.internal\n"


def test_a_guest_with_neighbours_is_found_where_they_find_it() -> None:
    lines = ["10.77.0.2 web.lab.appcat web", "10.77.0.3 db.lab.appcat db"]
    assert hosts("web", lines).splitlines() == [
        "127.0.0.1 localhost",
        "::1 localhost",
        "10.0.2.2 host.appcat.internal",
        *lines,
    ]


def test_appcats_part_of_a_file() -> None:
    mode, path, data = hosts_statement("10.77.0.2 web\n").split(" ")[1:]
    assert (mode, path, base64.b64decode(data)) == ("0644", "/etc/hosts", b"10.77.0.2 web\n")
    assert section_statement(0o600, "/etc/x", "") == "section 0600 /etc/x"


def test_a_card_gets_its_mac_before_its_address() -> None:
    assert link_statements("@10.7", "52:54:00:00:00:01", "10.77.0.2/24") == [
        "mac @10.7 52:54:00:00:00:01",
        "address @10.7 10.77.0.2/24",
    ]


def test_no_word_of_a_statement_is_empty_and_no_line_has_more_than_the_guest_takes() -> None:
    for line in statements(make()):
        words = line.split(" ")
        assert all(words)
        assert len(words) <= 4


def test_images_say_of_their_guest_program_what_it_is() -> None:
    source = (REPOSITORY / "templates" / "guest" / "appcat-guest.c").read_text()
    assert f'#define LEVEL "{GUEST_LEVEL}"' in source
    assert f'#define VERSION "{identity.PROTOCOL}"' in source


def test_document() -> None:
    assert document("id7", ["hostname web"]).split("\n")[-4:] == ["appcat-guest 1 id7", "hostname web", "end", ""]
