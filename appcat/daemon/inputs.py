"""What requests may carry: bodies, paths, queries. Strict: nothing unknown, nothing without a bound, nothing converted.

These are bounds of shape and size. Whether a name, a size or a port makes sense is the services' to say, with the error
that the command line gives as well.
"""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import Header, Path, Query
from pydantic import BaseModel, ConfigDict, Field

from appcat.errors import InvalidInput
from appcat.model.name import check_labels, check_name
from appcat.model.network import Joining, check_address, parse_joinings, parse_subnet
from appcat.model.port import LOOPBACK, PortForward, Protocol, own_forward
from appcat.model.size import check_disk_size, check_memory_size
from appcat.model.vm import CloneKind, RestartPolicy
from appcat.services.clone import MOST_AT_A_TIME, CloneRequest, numbered
from appcat.services.create import CreateRequest
from appcat.services.edit import Changes
from appcat.services.networks import NetworkRequest

LONGEST_NAME = 200
LONGEST_PATH = 4096
MOST_WORDS = 4096
MOST_BYTES = 1 << 50
MOST_JOININGS = 16  # more than a vm can have: how many those are is the services' to say
WEEK = 7 * 24 * 3600.0

Name = Annotated[str, Path(description="A vm's name.", max_length=LONGEST_NAME, examples=["web"])]
Restart = Literal["no", "on-failure", "always"]
Text = Annotated[str, Field(max_length=LONGEST_NAME)]
Word = Annotated[str, Field(max_length=128 << 10, pattern=r"^[^\x00]*$")]
Seconds = Annotated[float, Field(gt=0, le=WEEK, description="Seconds.")]
Bytes = Annotated[int, Field(ge=1, le=MOST_BYTES, description="Bytes.")]
PortNumber = Annotated[int, Field(ge=1, le=65535)]
Labels = Annotated[dict[Text, Annotated[str, Field(max_length=256)]], Field(max_length=64)]

Joinings = Annotated[
    list[Text] | None,
    Field(
        max_length=MOST_JOININGS,
        description="Networks to be on, each `NAME` or `NAME:IP`.",
        examples=[["lab:10.77.1.5"]],
    ),
]

IfMatch = Annotated[
    str | None,
    Header(
        alias="If-Match",
        max_length=1000,
        description="Change it only if its ETag is still one of these; else 412, code `stale`.",
    ),
]
GuestPath = Annotated[
    str,
    Query(
        min_length=1,
        max_length=LONGEST_PATH,
        description="A path in the guest; a relative one begins at the home directory.",
        examples=["/root/notes.txt"],
    ),
]


class Body(BaseModel):
    """A JSON object of known fields."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class Nothing(Body):
    """``{}``."""


class DiskBody(Body):
    """A new disk."""

    name: Text = Field(description="1 to 20 of a-z, 0-9 and '-'.", examples=["data"])
    size: Bytes = Field(examples=[2147483648])

    def checked_size(self) -> int:
        """Its size, when a disk can have it; raises InvalidInput."""
        return check_disk_size(self.size)


class TemplateBody(Body):
    """A template to be made of a vm."""

    vm: Text = Field(examples=["web"])
    name: Text = Field(description="1 to 63 of a-z, 0-9 and '-'.", examples=["web-base"])


class SizeBody(Body):
    """The new size of a disk."""

    size: Bytes = Field(examples=[4294967296])

    def checked_size(self) -> int:
        """The size, when a disk can have it; raises InvalidInput."""
        return check_disk_size(self.size)


class PortBody(Body):
    """A port forward: connections to ``host`` on ``address`` of the host reach ``guest`` in the vm.

    Without both, ``guest`` is published by its number, on the vm's own address.
    """

    host: PortNumber | None = Field(default=None, examples=[8080])
    guest: PortNumber = Field(examples=[80])
    address: Annotated[str, Field(max_length=15)] | None = Field(
        default=None, description="An IPv4 address of the host; 127.0.0.1 unless given with `host`."
    )
    protocol: Literal["tcp", "udp"] = "tcp"

    def forward(self) -> PortForward:
        """As the services know it; raises InvalidInput for an address that is none."""
        return forward_of(self.host, self.guest, self.address, self.protocol)


def forward_of(host: int | None, guest: int, address: str | None, protocol: str) -> PortForward:
    """A forward from its parts; raises InvalidInput."""
    import ipaddress

    if host is None:
        if address is not None:
            raise InvalidInput("an address needs a port", hint="give host too, or neither", code="invalid-port")
        return own_forward(guest, Protocol(protocol))
    address = LOOPBACK if address is None else address
    try:
        ipaddress.IPv4Address(address)
    except ValueError as error:
        raise InvalidInput(
            "the address is not an IPv4 address", hint="such as 127.0.0.1", code="invalid-port"
        ) from error
    return PortForward(host, guest, address, Protocol(protocol))


def joinings(texts: list[str] | None) -> tuple[Joining, ...] | None:
    """As the services know them; an empty list, as ``none`` alone, is no network. Raises InvalidInput."""
    return None if texts is None else parse_joinings(texts) if texts else ()


class NetworkBody(Body):
    """A new private network."""

    name: Text = Field(description="1 to 63 of a-z, 0-9 and '-'.", examples=["lab"])
    subnet: Annotated[str, Field(max_length=32)] | None = Field(
        default=None, description="Its addresses; a free part of 10.77.0.0/16 unless given.", examples=["10.77.1.0/24"]
    )
    internet: bool = Field(default=True, description="Whether vms that are on such networks alone have a way out.")
    twin: Annotated[str, Field(max_length=LONGEST_NAME)] = Field(
        default="", description="The network whose subnet it repeats, for forks that keep their addresses."
    )
    labels: Labels = {}

    def request(self) -> NetworkRequest:
        """As the services know it; raises InvalidInput."""
        return NetworkRequest(
            name=check_name(self.name),
            subnet=None if self.subnet is None else parse_subnet(self.subnet),
            internet=self.internet,
            twin=self.twin,
            labels=check_labels(self.labels),
        )


class JoiningBody(Body):
    """A network to be on."""

    network: Text = Field(examples=["lab"])
    address: Annotated[str, Field(max_length=15)] = Field(
        default="", description="The address there; a free one unless given.", examples=["10.77.1.5"]
    )

    def joining(self) -> Joining:
        """As the services know it; raises InvalidInput."""
        return Joining(check_name(self.network), check_address(self.address) if self.address else "")


class CreateBody(Body):
    """A new vm. What is left out is the home's default (``/v1/config``), else the template's."""

    name: Text = Field(description="1 to 63 of a-z, 0-9 and '-'.", examples=["web"])
    template: Text | None = None
    cpus: Annotated[int, Field(ge=1, le=1024)] | None = None
    memory: Bytes | None = Field(default=None, description="Bytes, a whole number of MiB.", examples=[268435456])
    disks: Annotated[list[DiskBody], Field(max_length=16)] = []
    ports: Annotated[list[PortBody], Field(max_length=64)] = []
    networks: Joinings = None
    labels: Labels = {}
    restart: Restart | None = None
    autostart: bool = False

    def request(self) -> CreateRequest:
        """As the services know it; raises InvalidInput."""
        return CreateRequest(
            name=self.name,
            template=self.template,
            cpus=self.cpus,
            memory=None if self.memory is None else check_memory_size(self.memory),
            disks=tuple((disk.name, disk.checked_size()) for disk in self.disks),
            ports=tuple(port.forward() for port in self.ports),
            networks=joinings(self.networks),
            labels=check_labels(self.labels),
            restart=None if self.restart is None else RestartPolicy(self.restart),
            autostart=self.autostart,
        )


class RunBody(CreateBody):
    """A new vm that is started at once."""

    ready_within: Seconds | None = Field(default=None, description="Seconds that its guest may take to answer.")
    instant: bool = Field(default=False, description="From a template that was booted before: no boot at all.")
    remove: bool = Field(default=False, description="Delete it again if it does not start.")


class StartBody(Body):
    """How to wait for the guest."""

    ready_within: Seconds | None = Field(default=None, description="Seconds that its guest may take to answer.")
    wait: bool = Field(default=True, description="Whether the operation goes on until the guest answers.")


class StopBody(Body):
    """How long to wait."""

    timeout: Seconds | None = Field(default=None, description="Seconds that the guest may take to power off.")


class RestartBody(StopBody):
    """How to stop, and how to wait."""

    force: bool = Field(default=False, description="Cut the power instead of asking the guest.")
    wait: bool = True


class EditBody(Body):
    """What to change. Processors and memory need a stopped vm."""

    cpus: Annotated[int, Field(ge=1, le=1024)] | None = None
    memory: Bytes | None = None
    restart: Restart | None = None
    autostart: bool | None = None
    disks: Annotated[list[DiskBody], Field(max_length=16)] = Field(
        default=[], description="What disks that there are grow to; a running guest has the room at once."
    )

    def changes(self) -> Changes:
        """As the services know it; raises InvalidInput."""
        return Changes(
            cpus=self.cpus,
            memory=None if self.memory is None else check_memory_size(self.memory),
            restart=None if self.restart is None else RestartPolicy(self.restart),
            autostart=self.autostart,
            disks=tuple((disk.name, disk.checked_size()) for disk in self.disks),
        )


class LabelBody(Body):
    """Labels to set, and to take away."""

    add: Labels = {}
    remove: Annotated[list[Text], Field(max_length=64)] = []

    def added(self) -> dict[str, str]:
        """What is set; raises InvalidInput."""
        return check_labels(self.add)


class RenameBody(Body):
    """The new name."""

    name: Text = Field(examples=["web2"])


class WaitBody(Body):
    """What to wait for."""

    until: Literal["ready", "running", "paused", "stopped", "deleted"]
    timeout: Seconds = 300.0


class CloneBody(Body):
    """Clones to make: ``names``, or ``count`` of them called ``name``-1, ``name``-2 and so on."""

    names: Annotated[list[Text], Field(max_length=MOST_AT_A_TIME)] = Field(default=[], examples=[["web2"]])
    name: Text | None = None
    count: Annotated[int, Field(ge=1, le=MOST_AT_A_TIME)] | None = None
    kind: Literal["full", "linked", "instant"] | None = Field(
        None, description="instant for a vm that runs, else linked, unless given."
    )
    fork: bool = Field(default=False, description="Instant clones that keep the inner name, addresses and keys.")
    networks: Joinings = None
    verify: bool = Field(default=False, description="Ask source and clones who they are, and compare.")

    def request(self, source: str) -> CloneRequest:
        """As the services know it; raises InvalidInput."""
        if (self.name is None) != (self.count is None) or (self.count is not None and self.names):
            raise InvalidInput("give names, or name and count", hint='such as {"names": ["web2"]}')
        names = tuple(self.names) if self.name is None or self.count is None else numbered(self.name, self.count)
        kind = None if self.kind is None else CloneKind(self.kind)
        return CloneRequest(source, names, kind, self.fork, networks=joinings(self.networks))


class Pair(Body):
    """A running vm, and what its clone will be called."""

    source: Text
    name: Text


class CloneSetBody(Body):
    """Instant clones of several vms, all of one moment."""

    pairs: Annotated[list[Pair], Field(min_length=1, max_length=64)]
    fork: bool = Field(default=False, description="Clones that keep the inner name, addresses and keys.")
    networks: dict[Text, Text] | None = Field(
        default=None,
        max_length=64,
        description="For networks of the sources, those that the clones are on instead: twins, where forks are to go on"
        " talking to each other.",
        examples=[{"lab": "lab2"}],
    )


class ExecBody(Body):
    """A command to run in the guest; its arguments reach it as they are."""

    command: Annotated[list[Word], Field(min_length=1, max_length=MOST_WORDS)] = Field(examples=[["uname", "-a"]])
    stdin: str = Field(default="", description="What it reads.")
    timeout: Seconds | None = Field(default=None, description="Seconds until it is ended.")


class TerminalBody(Body):
    """The terminal a command runs on."""

    kind: Annotated[str, Field(max_length=64, pattern=r"^[A-Za-z0-9._+-]+$")] = "dumb"
    columns: Annotated[int, Field(ge=1, le=10_000)] = 80
    rows: Annotated[int, Field(ge=1, le=10_000)] = 24


class ExecStart(Body):
    """The first message on the WebSocket of ``exec``."""

    command: Annotated[list[Word], Field(min_length=1, max_length=MOST_WORDS)]
    timeout: Seconds | None = None
    stdin: bool = False
    terminal: TerminalBody | None = None


class ExecControl(Body):
    """A later text message on it."""

    type: Literal["resize", "interrupt"]
    columns: Annotated[int, Field(ge=1, le=10_000)] = 80
    rows: Annotated[int, Field(ge=1, le=10_000)] = 24


class SettingBody(Body):
    """The value of a setting, as ``appcat config set`` takes it."""

    value: Annotated[str, Field(max_length=1000)] = Field(examples=["512M"])
