from __future__ import annotations

import base64
import subprocess

import pytest

from appcat.guest.identity import document
from appcat.guest.surroundings import (
    Surroundings,
    authority_statements,
    has_authorities,
    proxy_statements,
    variables,
)
from appcat.model.proxy import Proxies
from tests.unit.support.certificates import authority

PROXY = "http://me:p%40ss@127.0.0.1:3128"


def surroundings(http: str = PROXY, https: str = PROXY, direct: tuple[str, ...] = ()) -> Surroundings:
    return Surroundings(Proxies(http, https, direct), subnets=("10.77.1.0/24",))


def contents(statements: list[str]) -> dict[str, str]:
    words = [statement.split(" ") for statement in statements]
    assert all(word[:2] == ["section", "0644"] for word in words)
    return {word[2]: base64.b64decode("".join(word[3:])).decode() for word in words}


def test_commands_know_the_proxy_under_both_names() -> None:
    found = variables(surroundings(direct=(".lan", "localhost")))
    assert found["http_proxy"] == found["HTTPS_PROXY"] == "http://me:p%40ss@10.0.2.2:3128"
    assert found["no_proxy"] == found["NO_PROXY"]
    assert found["no_proxy"].split(",") == [
        "localhost", "127.0.0.1", "::1", "host.appcat.internal", ".appcat", "10.77.1.0/24", ".lan",
    ]  # fmt: skip


def test_a_proxy_for_one_of_both_only() -> None:
    assert set(variables(surroundings(https=""))) == {"http_proxy", "HTTP_PROXY", "no_proxy", "NO_PROXY"}


def test_a_shell_reads_the_script_as_it_is_meant() -> None:
    written = contents(proxy_statements(surroundings(direct=("*.example.org",))))
    script = written["/etc/profile.d/appcat-proxy.sh"]
    done = subprocess.run(["sh", "-c", f"{script}env"], env={}, capture_output=True, text=True, check=True)
    told = dict(line.split("=", 1) for line in done.stdout.splitlines())
    wanted = variables(surroundings(direct=("*.example.org",)))
    assert {name: told[name] for name in wanted} == wanted
    assert written["/etc/environment"] == "".join(f"{name}={value}\n" for name, value in wanted.items())


def test_without_a_proxy_what_was_ours_is_taken_away() -> None:
    assert proxy_statements(Surroundings()) == [
        "section 0644 /etc/profile.d/appcat-proxy.sh",
        "section 0644 /etc/environment",
    ]


def test_authorities_are_written_and_the_template_is_told() -> None:
    certificate, _ = authority()
    file, hooks = authority_statements(Surroundings(authorities=certificate))
    assert file == ("file 0644 /usr/local/share/ca-certificates/appcat.crt " + base64.b64encode(certificate).decode())
    assert hooks == "hooks /etc/appcat/ca.d 20"


@pytest.mark.parametrize("had", [False, True])
def test_authorities_go_where_there_were_some(had: bool) -> None:
    statements = authority_statements(Surroundings(had_authorities=had))
    assert [line.rstrip() for line in statements] == (
        ["file 0644 /usr/local/share/ca-certificates/appcat.crt", "hooks /etc/appcat/ca.d 20"] if had else []
    )


def test_a_document_tells_whether_it_brought_authorities() -> None:
    brought = authority_statements(Surroundings(authorities=authority()[0]))
    taken = authority_statements(Surroundings(had_authorities=True))
    assert has_authorities(document("boot", brought))
    assert not has_authorities(document("boot", taken))
    assert not has_authorities(document("boot", ["hostname web"]))
