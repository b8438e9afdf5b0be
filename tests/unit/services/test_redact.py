from __future__ import annotations

import json
import time

import pytest

from appcat.services.redact import Redactor, private_values

REDACTOR = Redactor(
    users=frozenset({"alice", "Alice Liddell"}),
    hosts=frozenset({"wonder", "wonder.example.org"}),
    places={"/home/alice": "<home>", "/srv/cats": "<appcat-home>"},
    values=frozenset({"blue-team", "two words"}),
    public=frozenset({"0123456789abcdef" * 4}),
)
KEY = "b3BlbnNzaC1rZXktdjEAAAAABG5vbmUAAAAEbm9uZQAAAAAAAAABAAAAMwAAAAtz"


@pytest.mark.parametrize(
    "text",
    [
        "password=hunter2",
        "password = hunter2 and hunter2 more",
        "PASSWORD: hunter2",
        "db_password='x hunter2'",
        'password="a\\"hunter2"',
        'said {\\"password\\": \\"hunter2\\"}',
        'said {\\"password\\": \\"a\\\\\\"hunter2\\"}',
        "the token for the registry: hunter2",
        "the password is hunter2",
        "Authorization: Bearer hunter2",
        "authorization: hunter2",
        "> Proxy-Authorization: Basic hunter2=",
        "curl -H 'X-Api-Key: hunter2'",
        "Set-Cookie: id=hunter2; Path=/",
        "https://bob:hunter2@example.org/x",
        "http://hunter2@example.org",
        "export http_proxy=http://bob:p@hunter2@10.0.2.2:3128",
        "qemu --password hunter2 -x",
        "machine x login y password hunter2",
        "<password>hunter2</password>",
        "password:\n  hunter2\nrest",
        "tokens:\n- hunter2\n- other",
        "password: |\n  one\n  hunter2\n",
        "pass\x1b[1mword\x1b[0m=hunter2",
        "p\0a\0s\0s\0w\0o\0r\0d\0=\0h\0u\0n\0t\0e\0r\x002\0",
        "-----BEGIN OPENSSH PRIVATE KEY-----\nhunter2\n-----END OPENSSH PRIVATE KEY-----\n",
        "-----BEGIN PRIVATE KEY-----\r\nhunter2\r\n",
        "hunter2\n-----END PRIVATE KEY-----\n",
        "root:$6$salt$hunter2:1:",
        "ghp_hunter2hunter2",
        "sk-hunter2hunter2",
        "eyJhbGciOiJIUzI1NiJ9.eyJodW50ZXIyIjoxfQ.hunter2",
        "ssh-ed25519 AAAAC3hunter2 x",
    ],
)
def test_secrets_are_gone(text: str) -> None:
    assert "hunter2" not in REDACTOR.text(text)


@pytest.mark.parametrize("text", [KEY, KEY.lower(), f"x {KEY[:20]}/{KEY[20:]} y", "0f" * 16, f"key,{'a1B2' * 9}"])
def test_what_looks_like_a_key_is_gone(text: str) -> None:
    assert REDACTOR.text(text).replace("key,", "").strip("xy ") == "<key>"


@pytest.mark.parametrize(
    "text",
    [
        "5f0a1c52-93a1-4f58-8d5c-0d3b1c6f7a10",
        "0123456789abcdef" * 4,
        "/var/cache/images/" + "0123456789abcdef" * 4 + "/vmlinux",
        "virtio-mem-pci-non-transitional-x86_64",
        "[    0.000000] Linux version 6.1.0-37-cloud-amd64 (gcc-12) #1 SMP PREEMPT_DYNAMIC",
        "qemu-system-x86_64: -netdev user,id=n0: Could not set up host forwarding rule 'tcp:127.0.0.1:8080-:80'",
        "Command line: console=ttyS0 root=/dev/vda",
        "malice dalice",
    ],
)
def test_what_helps_stays(text: str) -> None:
    assert REDACTOR.text(text) == text


def test_persons_and_places_become_the_same_names_everywhere() -> None:
    said = REDACTOR.text(
        "alice in /home/alice/x and /srv/cats/vms, ALICE@Wonder, alice-vm, Alice Liddell, a.l@example.org, "
        "/tmp/appcat-1000/ab /run/user/1000/x /home/bob/y blue-team /home/alice2"
    )
    assert said == (
        "<user> in <home>/x and <appcat-home>/vms, <user>@<host>, <user>-vm, <user>, <email>, "
        "/tmp/appcat-<uid>/ab /run/user/<uid>/x /home/<user>/y <redacted> /home/<user>"
    )


def test_root_is_no_persons_name() -> None:
    assert Redactor(users=frozenset({"root"})).text("root=/dev/vda") == "root=/dev/vda"


def test_data_keeps_its_shape() -> None:
    data = {
        "labels": {"team": "x", "deep": {"a": [1, "b"]}},
        "metadata": "y",
        "owner": "alice",
        "password": ["hunter2"],
        "has_token": False,
        "argv": ["--token", "hunter2", "--cpus", "2"],
        "alice": 1,
    }
    assert REDACTOR.data(data) == {
        "labels": {"team": "<redacted>", "deep": {"a": ["<redacted>", "<redacted>"]}},
        "metadata": "<redacted>",
        "owner": "<user>",
        "password": "<secret>",
        "has_token": False,
        "argv": ["--token", "<secret>", "--cpus", "2"],
        "<user>": 1,
    }


def test_of_a_broken_document_nothing_from_its_labels_on_is_told() -> None:
    broken = '{"name": "web", "labels": {"team": "reds"}, "metadata": {"x": "y'
    assert REDACTOR.json(broken) == '{"name": "web", "<redacted>\n'
    assert "reds" in set(private_values(broken))


def test_values_to_hide_elsewhere() -> None:
    text = json.dumps({"labels": {"a": "reds", "b": "x"}, "metadata": {"c": [{"d": "one\ntwo words"}, 12345, True]}})
    assert set(private_values(text)) == {"reds", "one\ntwo words", "two words", "12345"}
    assert set(private_values("[1]")) == set()


def test_deep_nesting_is_no_trap() -> None:
    assert REDACTOR.json('{"a":' * 100_000 + '"b"')
    assert REDACTOR.json('{"a":' * 900 + '"b"' + "}" * 900)


HOSTILE = [
    *(
        "x",
        "-",
        "a-",
        "@",
        "a@",
        "<",
        "<secret",
        "/",
        "://",
        "\x1b[",
        "\x1b]",
        "\\",
        '"',
        "password",
        "password ",
        "a.",
    ),
    *("A1", "-----BEGIN ", "-----END ", "eyJ", "a@b.", "token\\", "\n ", "secret:\n ", "--token", "alice ", "/a"),
]


@pytest.mark.parametrize("piece", HOSTILE)
def test_no_text_takes_long(piece: str) -> None:
    text = piece * (256 * 1024 // len(piece))
    before = time.process_time()
    Redactor(**{**vars(REDACTOR), "values": frozenset(f"value-{number}" for number in range(3000))}).text(text)
    assert time.process_time() - before < 10
