from __future__ import annotations

import pytest

from appcat.errors import InvalidInput
from appcat.model.listen import Listen, check_listen, parse_listen


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        (":8080", "127.0.0.1", 8080),
        ("127.0.0.1:0", "127.0.0.1", 0),
        ("localhost:1", "127.0.0.1", 1),
        ("*:443", "0.0.0.0", 443),
        ("[::1]:8443", "::1", 8443),
        ("[::]:8443", "::", 8443),
        ("192.0.2.1:65535", "192.0.2.1", 65535),
    ],
)
def test_address_is_read_and_written(text: str, host: str, port: int) -> None:
    listen = parse_listen(text)
    assert listen == Listen(host, port)
    assert parse_listen(str(listen)) == listen


@pytest.mark.parametrize(
    "text", ["", "8080", "127.0.0.1", "127.0.0.1:", "example.org:80", ":65536", ":-1", ":٣", "::1:80", "[::1]", "a b:1"]
)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse_listen(text)
    assert caught.value.code == "invalid-address"


def test_what_others_can_reach_has_to_be_encrypted() -> None:
    near, far = [parse_listen(":1"), parse_listen("[::1]:1")], [parse_listen("*:1"), parse_listen("[::]:1")]
    check_listen(near, tls=False)
    check_listen([*near, *far], tls=True)
    for listen in [*far, parse_listen("192.0.2.1:1")]:
        with pytest.raises(InvalidInput) as caught:
            check_listen([*near, listen], tls=False)
        assert caught.value.code == "tls-required"


def test_one_address_is_listened_at_once() -> None:
    with pytest.raises(InvalidInput):
        check_listen([parse_listen(":1"), parse_listen("localhost:1")], tls=False)
    check_listen([parse_listen(":0"), parse_listen(":0")], tls=False)
