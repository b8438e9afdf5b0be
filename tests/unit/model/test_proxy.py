from __future__ import annotations

import pytest

from appcat.errors import InvalidInput
from appcat.model.proxy import (
    Proxies,
    as_guests_see,
    distinct,
    parse_direct,
    parse_proxy,
    parse_proxy_url,
    proxies_of_host,
    without_password,
)


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("none", "none"),
        ("host", "host"),
        ("http://proxy:3128", "http://proxy:3128"),
        ("https://proxy.example.org", "https://proxy.example.org"),
        ("http://proxy.example.org:3128/", "http://proxy.example.org:3128"),
        ("socks5h://10.0.0.1:1080", "socks5h://10.0.0.1:1080"),
        ("http://[fd00::1]:3128", "http://[fd00::1]:3128"),
        ("http://me:p%40ss@proxy:3128", "http://me:p%40ss@proxy:3128"),
    ],
)
def test_a_setting_is_a_word_or_a_url(given: str, meant: str) -> None:
    assert parse_proxy(given) == meant


@pytest.mark.parametrize(
    "wrong",
    [
        "", "proxy:3128", "ftp://proxy", "http://", "http://proxy/path", "http://proxy?x", "http://proxy#x",
        "http://proxy:99999", "http://proxy:0", "http://proxy:x", "http://pro xy", "http://proxy\nexport x=y",
        "http://$(reboot)", "http://`reboot`", "http://'", 'http://"', "http://a;b", "http://@proxy",
        "http://me:p@ss@proxy", "http://me:$(x)@proxy", "http://me:p'@proxy", "http://-proxy", "http://proxy\\",
        f"http://{'x' * 1001}", "HOST", "NONE",
    ],
)  # fmt: skip
def test_what_is_neither_is_refused(wrong: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        parse_proxy(wrong)
    assert refused.value.code == "invalid-url"


@pytest.mark.parametrize(
    "given", ["http://me:hunter2@pro xy", "http://me:hun/ter2@proxy", "http://me:hun@ter2@proxy", "me:hunter2@proxy/x"]
)
def test_a_refused_url_is_not_repeated_with_its_password(given: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        parse_proxy_url(given)
    for part in ("hunter2", "ter2", "hun"):
        assert part not in refused.value.message


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("http://me:secret@proxy:3128", "http://***@proxy:3128"),
        ("http://me@proxy", "http://***@proxy"),
        ("me:secret@proxy:3128", "***@proxy:3128"),
        ("http://proxy:3128", "http://proxy:3128"),
        ("host", "host"),
    ],
)
def test_accounts_are_hidden(given: str, shown: str) -> None:
    assert without_password(given) == shown


@pytest.mark.parametrize(
    ("url", "seen"),
    [
        ("http://127.0.0.1:3128", "http://10.0.2.2:3128"),
        ("http://127.1.2.3", "http://10.0.2.2"),
        ("http://LocalHost:3128", "http://10.0.2.2:3128"),
        ("http://[::1]:3128", "http://10.0.2.2:3128"),
        ("http://me:secret@localhost:3128", "http://me:secret@10.0.2.2:3128"),
        ("http://localhost.example.org:3128", "http://localhost.example.org:3128"),
        ("http://10.1.1.1:3128", "http://10.1.1.1:3128"),
        ("", ""),
    ],
)
def test_the_hosts_loopback_has_another_address_in_a_guest(url: str, seen: str) -> None:
    assert as_guests_see(url) == seen


def test_what_the_environment_says_in_either_case() -> None:
    environ = {
        "http_proxy": "proxy:3128",
        "HTTP_PROXY": "http://other",
        "HTTPS_PROXY": "http://me:x@secure/",
        "NO_PROXY": "localhost, .lan 10.0.0.0/8,<local>,a'b",
    }
    assert proxies_of_host(environ) == Proxies(
        "http://proxy:3128", "http://me:x@secure", ("localhost", ".lan", "10.0.0.0/8")
    )
    assert not proxies_of_host({})
    assert not proxies_of_host({"http_proxy": "", "no_proxy": "x"})


def test_an_environment_that_makes_no_sense_names_its_variable() -> None:
    with pytest.raises(InvalidInput, match="HTTPS_PROXY of the environment"):
        proxies_of_host({"HTTPS_PROXY": "http://a b"})


def test_what_is_reached_directly() -> None:
    assert parse_direct(".lan, registry:5000,10.0.0.0/8 *.example.org") == (
        ".lan", "registry:5000", "10.0.0.0/8", "*.example.org",
    )  # fmt: skip
    assert parse_direct("") == ()
    for wrong in ("a;b", "$(x)", "a'b", "é.org"):
        with pytest.raises(InvalidInput):
            parse_direct(wrong)


def test_each_once_and_in_order() -> None:
    assert distinct(("b", "a"), ("a", "c")) == ("b", "a", "c")
