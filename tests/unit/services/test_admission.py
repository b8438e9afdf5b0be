from __future__ import annotations

import dataclasses
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from appcat.errors import InsufficientMemory, InsufficientSpace, InvalidInput, PortInUse
from appcat.model.port import PortForward, Protocol, own_forward
from appcat.model.size import TIB
from appcat.services import admission, ssh_ports
from appcat.services.context import Context
from tests.unit.support.processes import Child, as_nobody
from tests.unit.support.samples import sample_vm
from tests.unit.support.vms import add_vm, alive

UNPRIVILEGED_FROM = Path("/proc/sys/net/ipv4/ip_unprivileged_port_start")
NOT_OURS = "192.0.2.1"  # set aside for documentation, RFC 5737
LISTEN = (
    "import socket, sys\n"
    "kind = socket.SOCK_DGRAM if sys.argv[2] == 'udp' else socket.SOCK_STREAM\n"
    "listener = socket.socket(socket.AF_INET, kind)\n"
    "listener.bind((sys.argv[1], 0))\n"
    "sys.argv[2] == 'udp' or listener.listen()\n"
    "print(listener.getsockname()[1], flush=True)\n"
    "sys.stdin.read()\n"
)


@pytest.fixture(params=["127.0.0.1 tcp", "0.0.0.0 tcp", "127.0.0.1 udp", "0.0.0.0 udp"])
def taken(request: pytest.FixtureRequest) -> Iterator[tuple[PortForward, Child]]:
    """A forward whose host port another process has, and that process."""
    address, protocol = request.param.split()
    with Child(LISTEN, address, protocol) as child:
        yield PortForward(int(child.read_line()), 80, protocol=Protocol(protocol)), child


def test_port_in_use_is_refused_with_its_owner(ctx: Context, taken: tuple[PortForward, Child]) -> None:
    forward, owner = taken
    with pytest.raises(PortInUse) as caught:
        admission.check_ports(ctx, sample_vm(ports=(forward,)))
    name = psutil.Process(owner.pid).name()
    expected = f"port 127.0.0.1:{forward.host}/{forward.protocol} is in use by {name} (process {owner.pid})"
    assert caught.value.message == expected
    assert caught.value.code == "port-in-use"


def test_port_is_free_again_when_its_owner_ends(ctx: Context, taken: tuple[PortForward, Child]) -> None:
    forward, owner = taken
    owner.kill()
    admission.check_port(ctx, "web", forward)


def test_the_other_protocol_and_another_address_are_no_obstacle(ctx: Context) -> None:
    with Child(LISTEN, "127.0.0.1", "tcp") as child:
        port = int(child.read_line())
        admission.check_port(ctx, "web", PortForward(port, 80, protocol=Protocol.UDP))
        admission.check_port(ctx, "web", PortForward(port, 80, "127.0.0.2"))


def test_port_of_another_vm_names_the_vm(ctx: Context) -> None:
    with Child(LISTEN, "127.0.0.1", "tcp") as child:
        forward = PortForward(int(child.read_line()), 80)
        add_vm(ctx, sample_vm("stopped", ports=(forward,)))
        with alive(ctx, sample_vm("db", ports=(dataclasses.replace(forward, address="0.0.0.0"),))):
            with pytest.raises(PortInUse, match=r"is in use by the vm db$"):
                admission.check_port(ctx, "web", forward)
            assert admission.owner_of(ctx, "db", forward).endswith(f"(process {child.pid})")


def test_damaged_vm_does_not_keep_the_owner_from_being_found(ctx: Context) -> None:
    with alive(ctx, sample_vm("broken")), Child(LISTEN, "127.0.0.1", "tcp") as child:
        ctx.layout.vm("broken").spec.write_text("damaged")
        forward = PortForward(int(child.read_line()), 80)
        assert f"process {child.pid}" in admission.owner_of(ctx, "web", forward)


def test_owner_who_cannot_be_known_is_left_out(ctx: Context) -> None:
    """A listener for IPv6 and IPv4 in one takes the port too, but is not in the table of IPv4 listeners."""
    with socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(PortInUse, match=rf"port 127\.0\.0\.1:{port}/tcp is in use"):
            admission.check_port(ctx, "web", PortForward(port, 80))


def test_address_of_another_computer_is_refused(ctx: Context) -> None:
    with pytest.raises(InvalidInput, match=f"{NOT_OURS} is not an address of this host"):
        admission.check_port(ctx, "web", PortForward(20080, 80, NOT_OURS))


def test_privileged_port_is_refused_with_the_way_out(ctx: Context) -> None:
    if not UNPRIVILEGED_FROM.exists() or int(UNPRIVILEGED_FROM.read_text()) <= 80:
        pytest.skip("every port is open to everybody here")

    def attempt() -> tuple[str, str, str]:
        try:
            admission.check_port(ctx, "web", PortForward(79, 80))
        except PortInUse as error:
            return error.code, error.message, error.hint
        return "", "", ""

    code, message, hint = as_nobody(attempt)
    assert code == "port-not-permitted"
    assert message == "this user may not listen on 127.0.0.1:79"
    assert "ip_unprivileged_port_start=79" in hint


def test_memory_the_host_does_not_have_is_refused_with_the_sum(ctx: Context) -> None:
    with pytest.raises(InsufficientMemory) as caught:
        admission.check_memory(ctx, 1024 * TIB)
    total = psutil.virtual_memory().total
    assert caught.value.message.startswith("the vm wants 1024 TiB of memory; of this host's ")
    assert admission.format_size(total) in caught.value.message
    assert " 0 B of them promised to running vms" in caught.value.message
    assert caught.value.message.endswith(" are left")


def test_memory_the_host_has_is_granted(ctx: Context) -> None:
    admission.check_memory(ctx, 1)


def test_full_disk_is_told_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(InsufficientSpace, match=f"are left on the file system of {tmp_path}") as caught:
        admission.check_space(tmp_path, 1 << 62)
    assert "free at least" in caught.value.hint
    admission.check_space(tmp_path, 1)
    admission.check_space(tmp_path / "not there yet", 1 << 62)


def free_range(count: int) -> range:
    """Ports in a row inside the SSH range that nobody has now."""
    first = ssh_ports.FIRST_SSH_PORT + os.getpid() % 5000
    while any(admission.try_bind(PortForward(port, 22)) for port in range(first, first + count)):
        first += count
    return range(first, first + count)


@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="this system does not tell who listens")
def test_a_number_that_a_program_has_everywhere_is_refused_before_there_is_a_vm() -> None:
    with Child(LISTEN, "0.0.0.0", "tcp") as everywhere, Child(LISTEN, "127.0.0.1", "tcp") as elsewhere:
        port = int(everywhere.read_line())
        with pytest.raises(PortInUse, match=f"port {port}/tcp of every address is in use by") as caught:
            admission.check_number(own_forward(port))
        assert f"127.0.0.1:PORT:{port}" in caught.value.hint
        admission.check_number(own_forward(port, Protocol.UDP))
        admission.check_number(own_forward(int(elsewhere.read_line())))


def test_ssh_port_is_the_first_that_neither_a_vm_nor_a_process_has() -> None:
    ports = free_range(3)
    with socket.create_server(("127.0.0.1", ports[1])):
        assert ssh_ports.free_ssh_port({ports[0]}, ports[0] - ssh_ports.FIRST_SSH_PORT) == ports[2]


def test_search_for_an_ssh_port_begins_again_at_the_bottom() -> None:
    ports = free_range(1)
    everything_else = set(range(ssh_ports.FIRST_SSH_PORT, ssh_ports.LAST_SSH_PORT + 1)) - set(ports)
    assert ssh_ports.free_ssh_port(everything_else, ports[0] + 1 - ssh_ports.FIRST_SSH_PORT) == ports[0]


def test_no_ssh_port_left_is_told() -> None:
    with pytest.raises(PortInUse, match="no port is left for SSH"):
        ssh_ports.free_ssh_port(set(range(1, 65536)), 0)
