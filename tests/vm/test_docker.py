"""Docker hosts: the template, ``appcat docker``, and the real docker CLI against them."""

from __future__ import annotations

import json
import shlex
import ssl
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from appcat.guest.certificate import Role, issue, new_authority
from appcat.services.certificates import credentials
from appcat.services.context import Context
from appcat.services.docker import ping, tls_context
from appcat.settings import Settings
from tests.cat import Cat, wait_until
from tests.conftest import cat_in, new_home
from tests.docker import docker_cli, run_docker, small_image

pytestmark = [pytest.mark.vm, pytest.mark.xdist_group("docker"), pytest.mark.timeout(3000)]

LIMIT = 300_000_000
BUILD = 2400.0
BOOT = 600.0


@dataclass
class Docker:
    """A home with Docker hosts, and the docker CLI of its user."""

    cat: Cat
    cli: Path
    config: Path
    image: Path

    def try_(self, context: str, *args: str) -> subprocess.CompletedProcess[str]:
        return run_docker(self.cli, self.config, "--context", context, *args)

    def __call__(self, context: str, *args: str) -> str:
        done = self.try_(context, *args)
        assert done.returncode == 0, f"docker {' '.join(args)}: {done.stderr}"
        return done.stdout


@pytest.fixture(scope="module")
def docker(cache: Path, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Docker]:
    """Three hosts, ``a``, ``b`` and ``c``, made as in the README."""
    place = tmp_path_factory.mktemp("docker")
    for cat in cat_in(new_home(), cache, request):
        cat.extra["DOCKER_CONFIG"] = str(place / "config")
        docker = Docker(cat, docker_cli(cache, place), place / "config", small_image(cache, place))
        cat("docker", "create", "a", "b", "c", timeout=BUILD)
        docker("a", "load", "--input", str(docker.image))
        yield docker


def sudo(cat: Cat, name: str, script: str, timeout: float = 240.0) -> str:
    return cat("vm", "exec", name, "--", "sudo", "sh", "-c", script, timeout=timeout)


def test_small_enough(docker: Docker) -> None:
    image = json.loads(docker.cat("template", "show", "docker", "--json"))["image"]
    files = [image[part]["size"] for part in ("kernel", "initramfs")]
    assert sum(files) + sum(disk["file"]["size"] for disk in image["disks"] if disk["file"]) <= LIMIT


def test_containers_run_through_a_context(docker: Docker) -> None:
    said = docker("a", "run", "--rm", "tiny", "sh", "-c", "echo from a container; uname -s")
    assert said == "from a container\nLinux\n"
    # Nothing of it is on the others: each has its own disk.
    assert docker("b", "image", "ls", "--quiet") == ""
    docker("b", "load", "--input", str(docker.image))
    assert docker("b", "run", "--rm", "tiny", "echo", "b") == "b\n"


def test_a_containers_streams(docker: Docker) -> None:
    """Standard input to its end and exit status: connections through the door are closed one way at a time."""
    done = run_docker(
        docker.cli, docker.config, "--context", "a", "run", "--rm", "-i", "tiny", "busybox", "wc", "-c", stdin="12345"
    )
    assert (done.returncode, done.stdout.strip()) == (0, "5")
    assert docker.try_("a", "run", "--rm", "tiny", "sh", "-c", "exit 7").returncode == 7


def test_containers_reach_each_other_and_are_published(docker: Docker) -> None:
    docker("a", "network", "create", "inner")
    docker("a", "run", "-d", "--name", "web", "--network", "inner", "-p", "8080:80", "tiny",
           "sh", "-c", "echo found >index.html; exec busybox httpd -f -p 80")  # fmt: skip
    fetch = ("run", "--rm", "--network", "inner", "tiny", "busybox", "wget", "-qO-", "http://web/index.html")
    wait_until(lambda: docker.try_("a", *fetch).stdout == "found\n", timeout=120, what="the container's answer")
    assert docker.cat.exec("a", "curl -fsS http://127.0.0.1:8080/index.html") == "found\n"
    docker("a", "rm", "-f", "web")


def test_compose(docker: Docker) -> None:
    compose = 'version: "3"\nservices:\n  one:\n    image: tiny\n    command: ["echo", "composed"]\n'
    sudo(docker.cat, "a", f"mkdir -p /root/c && printf %s {shlex.quote(compose)} >/root/c/docker-compose.yml")
    assert "composed" in sudo(docker.cat, "a", "cd /root/c && docker-compose up 2>&1", timeout=600)


def test_each_has_a_certificate_and_a_name_of_its_own(docker: Docker) -> None:
    hosts = json.loads(docker.cat("docker", "list", "--json"))
    assert [(host["name"], host["context"], host["status"]) for host in hosts] == [
        (name, name, "running") for name in "abc"
    ]
    certificates = {_certificate(host["url"]) for host in hosts}
    assert len(certificates) == 3
    assert docker("c", "info", "--format", "{{.Name}} {{.Driver}}") == "c overlay2\n"


def _certificate(url: str) -> str:
    address, _, port = url.removeprefix("tcp://").rpartition(":")
    return ssl.get_server_certificate((address, int(port)), timeout=30)


def test_nobody_else_gets_in(docker: Docker, tmp_path: Path) -> None:
    """Neither without a certificate nor with that of another home; and the host that is believed is this home's."""
    (url,) = [host["url"] for host in json.loads(docker.cat("docker", "list", "--json")) if host["name"] == "a"]
    own = docker.cat.home / "tls" / "client"
    assert ping(url, tls_context(own))
    nobody = ssl.create_default_context(cafile=own / "ca.pem")
    with pytest.raises(OSError, match=r"(?i)alert|reset|EOF|closed"):
        ping(url, nobody)
    theirs = credentials(Context(Settings.load({"APPCAT_HOME": str(tmp_path / "home")}))).directory
    with pytest.raises(ssl.SSLCertVerificationError):
        ping(url, tls_context(theirs))
    intruder = ssl.create_default_context(cafile=own / "ca.pem")
    intruder.load_cert_chain(theirs / "cert.pem", theirs / "key.pem")
    with pytest.raises(OSError, match=r"(?i)alert|reset|EOF|closed"):
        ping(url, intruder)


def test_the_engine_has_no_open_port(docker: Docker) -> None:
    listening = docker.cat.exec("a", "ss -Hltn | awk '{print $4}' | sort -u").split()
    assert "*:2376" in listening or "0.0.0.0:2376" in listening
    assert not [place for place in listening if place.endswith(":2375")]


def test_its_environment_is_for_a_shell(docker: Docker) -> None:
    said = docker.cat("docker", "env", "b")
    script = f'{said}\nexec {docker.cli} --config {docker.config} info --format "{{{{.Name}}}}"'
    done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, timeout=240, check=False)
    assert done.stdout == "b\n", done.stderr


def test_accounts_of_others_are_locked(docker: Docker) -> None:
    shadow = sudo(docker.cat, "a", "cut -d: -f1,2 /etc/shadow").split()
    assert {"photon:*", "vagrant:*", "debian:*"} <= set(shadow)
    assert sudo(docker.cat, "a", "cat /home/photon/.ssh/* /home/vagrant/.ssh/* 2>/dev/null || echo none") == "none\n"
    assert {"sudo", "docker"} <= set(docker.cat.exec("a", "id -nG photon").split())


def test_what_containers_leave_is_on_the_data_disk(docker: Docker) -> None:
    where = docker.cat.exec("a", "findmnt -no SOURCE -T /var/lib/docker; findmnt -no SOURCE -T /home").split()
    disk = docker.cat.exec("a", "findmnt -no SOURCE -T /data").strip()
    assert where == [f"{disk}[/docker]", f"{disk}[/home]"]
    assert sudo(docker.cat, "a", "systemctl list-units --failed --plain --no-legend") == ""


def test_it_is_the_same_host_after_a_restart(docker: Docker) -> None:
    docker.cat.exec("c", "echo kept > ~/kept")
    docker("c", "load", "--input", str(docker.image))
    docker("c", "run", "-d", "--restart", "always", "--name", "stays", "tiny", "sh", "-c", "sleep 100000")
    docker.cat("vm", "restart", "c", timeout=BOOT)
    assert docker.cat.exec("c", "cat ~/kept") == "kept\n"
    wait_until(lambda: docker.try_("c", "ps", "--format", "{{.Names}}").stdout == "stays\n", timeout=240, what="it")
    assert [host["status"] for host in json.loads(docker.cat("docker", "list", "--json"))] == ["running"] * 3


def test_a_running_host_is_cloned_with_its_containers(docker: Docker) -> None:
    """Not from the template: the clone has what its source had, and a certificate of its own."""
    docker("b", "load", "--input", str(docker.image))
    docker("b", "run", "-d", "--name", "live", "tiny", "sh", "-c", "sleep 100000")
    docker.cat("vm", "clone", "b", "b2")
    variables = json.loads(docker.cat("docker", "env", "b2", "--json"))
    context = tls_context(Path(variables["DOCKER_CERT_PATH"]))
    wait_until(lambda: _answers(variables["DOCKER_HOST"], context), timeout=120, what="the engine of the clone")
    done = subprocess.run(
        [str(docker.cli), "ps", "--format", "{{.Names}}"],
        env={**variables, "PATH": "/usr/bin:/bin", "DOCKER_CONFIG": str(docker.config)},
        capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    assert done.stdout == "live\n", done.stderr
    docker.cat("docker", "delete", "b2")
    docker("b", "rm", "-f", "live")


def _answers(url: str, context: ssl.SSLContext) -> bool:
    try:
        return ping(url, context)
    except OSError:
        return False


def test_engines_with_an_id_of_their_own(docker: Docker) -> None:
    docker.cat("docker", "create", "own", "--new-id", timeout=BOOT)
    ids = {docker(name, "info", "--format", "{{.ID}}") for name in ("a", "own")}
    assert len(ids) == 2
    docker.cat("docker", "delete", "own")


def test_a_host_from_a_cold_start_and_its_end(docker: Docker) -> None:
    docker.cat("docker", "create", "--cold", "slow", timeout=BOOT)
    assert docker("slow", "version", "--format", "{{.Server.Version}}").strip()
    docker.cat("vm", "stop", "slow")
    docker.cat("vm", "rename", "slow", "renamed")
    contexts = run_docker(docker.cli, docker.config, "context", "ls", "--format", "{{.Name}}").stdout.split()
    assert "renamed" in contexts and "slow" not in contexts
    docker.cat("docker", "delete", "renamed")
    contexts = run_docker(docker.cli, docker.config, "context", "ls", "--format", "{{.Name}}").stdout.split()
    assert "renamed" not in contexts and {"a", "b", "c"} <= set(contexts)


DROP_IN = r"""[Service]
ExecStart=
ExecStart=/usr/bin/dockerd -H tcp://0.0.0.0:2376 -H unix:///var/run/docker.sock --storage-driver overlay2 --tlsverify \
    --tlscacert /etc/docker/ca.pem --tlscert /etc/docker/server.pem --tlskey /etc/docker/server-key.pem --label a=b
Environment=
"""


def test_docker_machine_gives_it_certificates_of_its_own(docker: Docker, tmp_path: Path) -> None:
    """What its provisioner for Debian does (shared/contracts/docker-machine.md, B4): the engine listens itself then."""
    docker.cat("docker", "create", "machine", timeout=BOOT)
    url = json.loads(docker.cat("docker", "env", "machine", "--json"))["DOCKER_HOST"]
    authority = new_authority("docker-machine")
    server = issue(authority, "machine", Role.SERVER, ["localhost", url.removeprefix("tcp://").partition(":")[0]])
    client = issue(authority, "user", Role.CLIENT)
    files = {
        "/etc/docker/ca.pem": authority.certificate.decode(),
        "/etc/docker/server.pem": server.certificate.decode(),
        "/etc/docker/server-key.pem": server.key.decode(),
        "/etc/systemd/system/docker.service.d/10-machine.conf": DROP_IN,
    }
    sudo(docker.cat, "machine", "type sudo curl netstat docker; systemctl -f stop docker")
    sudo(docker.cat, "machine", 'if [ ! -z "$(ip link show docker0)" ]; then ip link delete docker0; fi')
    for path, text in files.items():
        sudo(docker.cat, "machine", f"mkdir -p $(dirname {path}) && printf '%s' {shlex.quote(text)} | tee {path}")
    sudo(docker.cat, "machine", "systemctl daemon-reload; systemctl -f start docker; systemctl -f enable docker")
    assert ":2376 " in docker.cat.exec("machine", "netstat -tln")
    for name, data in (("ca", authority.certificate), ("cert", client.certificate), ("key", client.key)):
        (tmp_path / f"{name}.pem").write_bytes(data)
    assert ping(url, tls_context(tmp_path))
    assert docker.cat.exec("machine", "pidof haproxy || echo none") == "none\n"
    docker.cat("docker", "delete", "machine")


def test_what_is_refused(docker: Docker) -> None:
    made = run_docker(docker.cli, docker.config, "context", "create", "mine", "--docker", "host=tcp://127.0.0.1:1")
    assert made.returncode == 0, made.stderr
    docker.cat.fails("docker-context-exists", "docker", "create", "mine", "--json")
    docker.cat.fails("already-exists", "docker", "create", "a", "--json")
    docker.cat.fails("no-docker-template", "docker", "create", "x", "--template", "pico", "--json")
    docker.cat.fails("vm-not-found", "docker", "env", "nobody", "--json")
    docker.cat("vm", "create", "plain")
    docker.cat.fails("not-a-docker-host", "docker", "env", "plain", "--json")
    docker.cat.fails("not-a-docker-host", "docker", "delete", "plain", "--json")
    docker.cat("vm", "delete", "plain")
    assert sorted(docker.cat.list()) == ["a", "b", "c"]
