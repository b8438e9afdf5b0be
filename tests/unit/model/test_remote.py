from __future__ import annotations

import pytest

from appcat.errors import InvalidInput
from appcat.model.remote import Address, Remote, check_token, is_loopback, parse_fingerprint, parse_url

DIGEST = "0123456789abcdef" * 4


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("unix://", Address("unix")),
        ("unix:///run/a b.sock".replace(" ", "%20"), Address("unix", path="/run/a b.sock")),
        ("https://lab.example.org", Address("https", "lab.example.org", 443)),
        ("https://lab:8443/", Address("https", "lab", 8443)),
        ("https://[fd00::1]:8443", Address("https", "fd00::1", 8443)),
        ("http://127.0.0.1:8080", Address("http", "127.0.0.1", 8080)),
        ("http://localhost:1", Address("http", "localhost", 1)),
        ("http://[::1]:8080", Address("http", "::1", 8080)),
        ("ssh://build", Address("ssh", "build")),
        ("ssh://me@build.example.org:2222", Address("ssh", "build.example.org", 2222, "me")),
    ],
)
def test_urls(url: str, address: Address) -> None:
    assert parse_url(url) == address


@pytest.mark.parametrize(
    "url",
    [
        "",
        "lab",
        "lab:8443",
        "ftp://lab",
        "tcp://lab:2375",
        "unix://relative/path",
        "unix:relative",
        "https://",
        "https://lab:port",
        "https://lab:99999",
        "https://lab/v1",
        "https://lab?x=1",
        "https://lab#x",
        "https://me@lab",
        "https://me:secret@lab",
        "ssh://me:secret@lab",
        "ssh://-oProxyCommand=x",
        "ssh://-l@lab",
        "ssh://la$b",
        "ssh://lab\n",
        "http://lab:8080",
        "http://192.168.0.1:8080",
        "http://127.0.0.1.example.org",
    ],
)
def test_urls_that_are_none(url: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse_url(url)
    assert caught.value.code == "invalid-url"
    assert caught.value.hint
    assert "secret" not in caught.value.hint


def test_the_clear_is_only_for_this_computer() -> None:
    with pytest.raises(InvalidInput, match="in the clear"):
        parse_url("http://lab:8080")
    assert is_loopback("127.8.8.8")
    assert not is_loopback("localhost.example.org")


def test_an_authority_is_what_the_host_header_says() -> None:
    assert parse_url("https://[::1]:8443").authority == "[::1]:8443"
    assert parse_url("https://lab").authority == "lab:443"


@pytest.mark.parametrize(
    "text",
    [DIGEST, DIGEST.upper(), f"sha256:{DIGEST}", ":".join(DIGEST[at : at + 2] for at in range(0, 64, 2)).upper()],
)
def test_fingerprints_as_programs_print_them(text: str) -> None:
    assert parse_fingerprint(text) == DIGEST


@pytest.mark.parametrize("text", ["", "sha1:abc", DIGEST[:-1], DIGEST + "0", "x" * 64])
def test_fingerprints_that_are_none(text: str) -> None:
    with pytest.raises(InvalidInput):
        parse_fingerprint(text)


@pytest.mark.parametrize("text", ["", "sec ret", "secret\n", "sécret"])
def test_a_token_that_no_header_carries_is_refused_and_not_shown(text: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        check_token(text)
    assert "ret" not in caught.value.message


def test_a_remote_does_not_show_its_token() -> None:
    assert "secret" not in repr(Remote("https://lab", "secret"))
