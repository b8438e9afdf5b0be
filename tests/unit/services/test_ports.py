from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from appcat.errors import InvalidInput, NotFound, PortInUse
from appcat.model.port import PortForward, Protocol, own_forward, parse_forward
from appcat.model.vm import Vm
from appcat.services import ports as ports_module
from appcat.services.context import Context
from appcat.services.places import Place
from appcat.services.ports import add_port, list_ports, parse_usernet, remove_port
from appcat.store.files import make_private_directory
from tests.unit.support.fake_peer import Conversation, FakePeer
from tests.unit.support.samples import sample_vm
from tests.unit.support.vms import add_vm, alive

# "info usernet" of QEMU 7.2.22 under a vm with four forwards, one of them added while it ran, a plain TCP connection
# and an SSH session through the forward of port 22, and a connection that the guest made to the host.
RECORDED = (
    "Hub -1 (net0):\r\n"
    "  Protocol[State]    FD  Source Address  Port   Dest. Address  Port RecvQ SendQ\r\n"
    "  TCP[HOST_FORWARD]  97               * 28090       10.0.2.15    90     0     0\r\n"
    "  TCP[ESTABLISHED]   95       10.0.2.15 48608        10.0.2.2 28099     0     0\r\n"
    "  TCP[ESTABLISHED]   94       127.0.0.1 22237       10.0.2.15    22     0    48\r\n"
    "  TCP[ESTABLISHED]   21       127.0.0.1 22237       10.0.2.15    22     0     0\r\n"
    "  TCP[HOST_FORWARD]  19       127.0.0.1 22237       10.0.2.15    22     0     0\r\n"
    "  TCP[HOST_FORWARD]  18       127.0.0.1 28080       10.0.2.15    80     0     0\r\n"
    "  TCP[HOST_FORWARD]  17               * 28081       10.0.2.15    81     0     0\r\n"
    "  UDP[HOST_FORWARD]  16       127.0.0.1 28082       10.0.2.15    53     0     0\r\n"
)


def test_forwards_are_told_from_connections() -> None:
    assert parse_usernet(RECORDED) == {
        PortForward(28090, 90, "0.0.0.0"),
        PortForward(22237, 22),
        PortForward(28080, 80),
        PortForward(28081, 81, "0.0.0.0"),
        PortForward(28082, 53, protocol=Protocol.UDP),
    }


def test_a_connection_alone_is_no_forward() -> None:
    connections = "".join(line for line in RECORDED.splitlines(keepends=True) if "HOST_FORWARD" not in line)
    assert "ESTABLISHED" in connections
    assert parse_usernet(connections) == set()


@pytest.mark.parametrize("text", ["", "\r\n", "Hub -1 (net0):\r\n", "invalid command: 'info usernet'\r\n"])
def test_nothing_is_read_from_nothing(text: str) -> None:
    assert parse_usernet(text) == set()


# --- stopped vms


def free_port(kind: socket.SocketKind = socket.SOCK_STREAM) -> int:
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def published(ctx: Context) -> tuple[PortForward, ...]:
    return tuple(place.forward for place in list_ports(ctx, "web")[1:])


def test_the_forward_of_ssh_comes_first(ctx: Context) -> None:
    add_vm(ctx, sample_vm(ports=(parse_forward("8080:80"),)))
    assert list_ports(ctx, "web") == (Place(PortForward(20022, 22)), Place(PortForward(8080, 80)))


def test_what_is_added_stays_until_it_is_removed(ctx: Context) -> None:
    add_vm(ctx)
    forward = PortForward(free_port(), 80)
    assert add_port(ctx, "web", forward) is True
    assert published(ctx) == (forward,)
    assert add_port(ctx, "web", forward) is False
    assert published(ctx) == (forward,)
    remove_port(ctx, "web", forward)
    assert published(ctx) == ()


@pytest.mark.parametrize("other", ["8080:81", "0.0.0.0:8080:80", "20022:80"])
def test_one_host_port_leads_to_one_place(ctx: Context, other: str) -> None:
    add_vm(ctx, sample_vm(ports=(parse_forward("8080:80"),)))
    with pytest.raises(InvalidInput, match="want the same host port"):
        add_port(ctx, "web", parse_forward(other))
    assert published(ctx) == (parse_forward("8080:80"),)


def test_a_port_that_somebody_has_is_refused(ctx: Context) -> None:
    add_vm(ctx)
    with socket.socket() as squatter:
        squatter.bind(("127.0.0.1", 0))
        squatter.listen()
        with pytest.raises(PortInUse):
            add_port(ctx, "web", PortForward(squatter.getsockname()[1], 80))
    assert published(ctx) == ()


@pytest.mark.parametrize("text", ["8080:81", "8081:80", "127.0.0.2:8080:80", "8080:80/udp", "20022:22"])
def test_only_the_very_forward_can_be_removed(ctx: Context, text: str) -> None:
    add_vm(ctx, sample_vm(ports=(parse_forward("8080:80"),)))
    with pytest.raises(NotFound) as caught:
        remove_port(ctx, "web", parse_forward(text))
    assert caught.value.code == "port-not-found"
    assert published(ctx) == (parse_forward("8080:80"),)


@pytest.mark.parametrize("change", [add_port, remove_port])
def test_there_has_to_be_a_vm(ctx: Context, change: Callable[..., object]) -> None:
    with pytest.raises(NotFound, match="there is no vm"):
        change(ctx, "web", PortForward(8080, 80))


# --- running vms: what QEMU is told


@contextmanager
def monitor_that_answers(ctx: Context, *answers: str) -> Iterator[list[str]]:
    """A monitor of the vm "web"; the command lines it was given."""
    lines: list[str] = []

    def script(talk: Conversation) -> None:
        talk.greet()
        for answer in answers:
            request = talk.receive()
            assert request["execute"] == "human-monitor-command"
            lines.append(request["arguments"]["command-line"])
            talk.answer(request, answer)
        talk.wait_for_hang_up()

    path = ctx.layout.runtime(sample_vm().uuid).monitor
    make_private_directory(path.parent)
    with FakePeer(path, script):
        yield lines


def test_a_running_qemu_forwards_at_once(ctx: Context) -> None:
    forward = PortForward(free_port(), 80)
    with alive(ctx), monitor_that_answers(ctx, "") as told:
        assert add_port(ctx, "web", forward) is True
    assert told == [f"hostfwd_add net0 tcp:127.0.0.1:{forward.host}-10.0.2.15:80"]
    assert published(ctx) == (forward,)


def test_what_qemu_refuses_is_not_kept(ctx: Context) -> None:
    refused = pytest.raises(PortInUse, match="could not set up host forwarding rule")
    with alive(ctx), monitor_that_answers(ctx, "could not set up host forwarding rule\r\n"), refused:
        add_port(ctx, "web", PortForward(free_port(), 80))
    assert published(ctx) == ()


def test_an_addition_that_was_cut_off_is_finished_when_asked_for_again(ctx: Context) -> None:
    forward = PortForward(free_port(), 80)
    with alive(ctx, sample_vm(ports=(forward,))), monitor_that_answers(ctx, RECORDED, "") as told:
        assert add_port(ctx, "web", forward) is True
    assert [line.split()[0] for line in told] == ["info", "hostfwd_add"]
    assert published(ctx) == (forward,)


def test_what_qemu_forwards_already_is_not_asked_for_again(ctx: Context) -> None:
    forward = PortForward(28081, 81, "0.0.0.0")
    with alive(ctx, sample_vm(ports=(forward,))), monitor_that_answers(ctx, RECORDED) as told:
        assert add_port(ctx, "web", forward) is False
    assert told == ["info usernet"]


@pytest.mark.parametrize("answer", ["host forwarding rule for tcp:0.0.0.0:53 removed\r\n", "not found\r\n"])
def test_removal_tells_qemu_and_does_not_mind_what_is_gone(ctx: Context, answer: str) -> None:
    forward = parse_forward("0.0.0.0:5353:53/udp")
    with alive(ctx, sample_vm(ports=(forward,))), monitor_that_answers(ctx, answer) as told:
        remove_port(ctx, "web", forward)
    assert told == ["hostfwd_remove net0 udp:0.0.0.0:5353"]
    assert published(ctx) == ()


# --- ports published by their number, on an address of the vm's own

HERE = "127.77.3.4"
USERNET = (
    "Hub -1 (net0):\r\n"
    "  Protocol[State]    FD  Source Address  Port   Dest. Address  Port RecvQ SendQ\r\n"
    f"  TCP[HOST_FORWARD]  18      {HERE} 20080       10.0.2.15    80     0     0\r\n"
)


def may(monkeypatch: pytest.MonkeyPatch, *low: int) -> None:
    """This user may listen on these low ports, and on all that are not low."""
    refused = PermissionError(13, "Permission denied")
    monkeypatch.setattr(
        ports_module, "try_bind", lambda place: None if place.host in low or place.host >= 1024 else refused
    )


def with_own(*texts: str) -> Vm:
    return sample_vm(address=HERE, ports=tuple(map(parse_forward, texts)))


@pytest.mark.parametrize(("allowed", "numbers"), [((), [20080]), ((80,), [20080, 80])])
def test_a_number_is_published_wherever_it_can_be(
    ctx: Context, monkeypatch: pytest.MonkeyPatch, allowed: tuple[int, ...], numbers: list[int]
) -> None:
    may(monkeypatch, *allowed)
    with alive(ctx, with_own()), monitor_that_answers(ctx, *([""] * len(numbers))) as told:
        assert add_port(ctx, "web", own_forward(80)) is True
    assert told == [f"hostfwd_add net0 tcp:{HERE}:{number}-10.0.2.15:80" for number in numbers]
    assert ctx.store.load("web").ports == (own_forward(80),)


def test_a_low_number_that_is_refused_after_all_is_done_without(ctx: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    may(monkeypatch, 80)
    answers = ("", "could not set up host forwarding rule\r\n")
    with alive(ctx, with_own()), monitor_that_answers(ctx, *answers):
        assert add_port(ctx, "web", own_forward(80)) is True
    assert ctx.store.load("web").ports == (own_forward(80),)


@pytest.mark.parametrize("allowed", [False, True])
def test_asked_for_again_a_number_is_where_it_may_be_now(
    ctx: Context, monkeypatch: pytest.MonkeyPatch, allowed: bool
) -> None:
    may(monkeypatch, *((80,) if allowed else ()))
    with alive(ctx, with_own("80")), monitor_that_answers(ctx, USERNET, *([""] if allowed else [])) as told:
        assert add_port(ctx, "web", own_forward(80)) is allowed
    assert told[1:] == ([f"hostfwd_add net0 tcp:{HERE}:80-10.0.2.15:80"] if allowed else [])


def test_a_number_goes_from_everywhere_it_may_be(ctx: Context) -> None:
    with alive(ctx, with_own("80", "2376")), monitor_that_answers(ctx, "", "not found\r\n") as told:
        remove_port(ctx, "web", own_forward(80))
    assert told == [f"hostfwd_remove net0 tcp:{HERE}:{number}" for number in (20080, 80)]
    assert ctx.store.load("web").ports == (own_forward(2376),)


def test_the_place_of_another_number_stays(ctx: Context) -> None:
    with alive(ctx, with_own("2376", "22376")), monitor_that_answers(ctx, "") as told:
        remove_port(ctx, "web", own_forward(2376))
    assert told == [f"hostfwd_remove net0 tcp:{HERE}:2376"]


@pytest.mark.parametrize("text", ["22", "20022", "20080", "0.0.0.0:2376:1"])
def test_what_the_address_has_already_is_refused(ctx: Context, text: str) -> None:
    add_vm(ctx, with_own("80", "2376"))
    with pytest.raises(InvalidInput):
        add_port(ctx, "web", parse_forward(text))


def test_a_vm_without_an_address_has_a_port_of_127_0_0_1_for_a_number(ctx: Context) -> None:
    """Made before there were addresses, and running: it gets one when it starts anew."""
    add_vm(ctx)
    assert add_port(ctx, "web", own_forward(80)) is True
    (port,) = ctx.store.load("web").ports
    assert (port.is_own, port.guest) == (True, 80)
    assert port.host not in (80, 20022)
    assert published(ctx) == (PortForward(port.host, 80),)
    assert add_port(ctx, "web", own_forward(80)) is False
    remove_port(ctx, "web", own_forward(80))
    assert published(ctx) == ()
