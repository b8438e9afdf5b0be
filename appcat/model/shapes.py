"""The shapes of answers: what ``--json`` prints, what the API sends, what ``appcat.client`` returns.

They are plain dictionaries that JSON holds as they are. Keys are stable: new ones may come, none goes or changes its
meaning. Sizes are in bytes, times in seconds, moments in RFC 3339 UTC.
"""

from __future__ import annotations

import sys
from typing import Any, NotRequired

if sys.version_info >= (3, 12):
    from typing import TypedDict
else:  # what the API's document is made from needs what 3.12 brought; typer has loaded it already
    from typing_extensions import TypedDict


class PortInfo(TypedDict):
    """A port forward: connections to ``host`` on ``address`` reach ``guest`` inside; ``protocol`` is tcp or udp.

    ``own`` is there, and true, when the port was published by its number: it is on the vm's own address, perhaps in two
    places. ``advice`` is there when something keeps it from being at its number, and says what, and what to do.
    """

    host: int
    guest: int
    address: str
    protocol: str
    own: NotRequired[bool]
    advice: NotRequired[str]


class DiskInfo(TypedDict):
    """A disk: ``size`` is what the guest sees. Where that was asked for, ``used`` is what it takes on the host alone,
    and ``shared`` what layers below it take, which other vms may stand on too.
    """

    name: str
    file: str
    size: int
    slot: int
    used: NotRequired[int]
    shared: NotRequired[int]


class SshInfo(TypedDict):
    """Where the guest's SSH server is reached from the host that runs it, and as whom; of a vm with an address of its
    own, ``ports`` are all those there that lead to it.
    """

    address: str
    port: int
    user: str
    ports: NotRequired[list[int]]


class SshAccess(TypedDict):
    """How to log in from elsewhere: account and port in the guest; ``host_key`` as in known_hosts, without a name;
    ``private_key`` in OpenSSH's format.
    """

    user: str
    port: int
    host_key: str
    private_key: str


class ParentInfo(TypedDict):
    """What a clone was made from; ``kind`` is full, linked or instant."""

    name: str
    uuid: str
    kind: str


class AttachmentInfo(TypedDict):
    """A vm's place on a network (``model.network.Attachment``); ``names`` are those it is reached by there."""

    network: str
    mac: str
    address: str
    slot: int
    names: list[str]


class VmInfo(TypedDict):
    """One vm at one moment. Of a broken one only ``name``, ``status`` and ``detail`` are known."""

    name: str
    status: str
    detail: str
    uuid: NotRequired[str]
    template: NotRequired[str]
    image: NotRequired[str]
    cpus: NotRequired[int]
    memory: NotRequired[int]
    machine: NotRequired[str]
    ssh: NotRequired[SshInfo]
    ports: NotRequired[list[PortInfo]]
    disks: NotRequired[list[DiskInfo]]
    mac: NotRequired[str]
    address: NotRequired[str]
    networks: NotRequired[list[AttachmentInfo]]
    restart: NotRequired[str]
    autostart: NotRequired[bool]
    parent: NotRequired[ParentInfo | None]
    labels: NotRequired[dict[str, str]]
    owner: NotRequired[str]
    node: NotRequired[str]
    created: NotRequired[str]


class RunInfo(TypedDict):
    """The QEMU process of a vm (``model.run.Run``)."""

    uuid: str
    boot_id: str
    started: str
    argv: list[str]
    qemu_version: str
    accelerator: str
    cpu: str
    base: str | None
    begun: bool
    backend: str
    pid: int | None
    pid_started: float | None


class ExitInfo(TypedDict):
    """How the last QEMU of a vm ended (``model.run.Exit``)."""

    cause: str
    reason: str
    ended: str


class VmDetails(VmInfo):
    """All there is to say of one vm; ``qemu_installed`` is the version that the next start would use, if another."""

    run: RunInfo | None
    qemu_installed: str | None
    last_exit: ExitInfo | None
    directory: str
    console_log: str
    qemu_log: str


class UsageInfo(TypedDict):
    """What a vm takes of its host: ``cpu`` in percent of one processor, ``memory`` proportional."""

    name: str
    status: str
    cpu: float
    memory: int
    memory_limit: int
    disk: int
    disk_limit: int
    uptime: float


class StatsInfo(TypedDict):
    """The usage of each vm, and the sum."""

    vms: list[UsageInfo]
    total: UsageInfo


class ClonedVmInfo(TypedDict):
    """One clone that was made."""

    name: str
    uuid: str
    address: str
    ssh_port: int
    seconds: float


class CloneFailure(TypedDict):
    """One clone that was not made: the parts of its error."""

    name: str
    code: str
    message: str
    hint: str
    details: str
    exit_code: int


class BaseInfo(TypedDict):
    """What an instant clone's base took: to make, and of memory."""

    seconds: float
    memory: int


class FactsInfo(TypedDict):
    """What a guest says of itself (``services.verify.Facts``)."""

    name: str
    hostname: str
    machine_id: str
    mac: str
    host_key: str
    random: str
    skew: float


class CloneInfo(TypedDict):
    """What came of a request for clones; ``stun`` is how long the source stood still."""

    kind: str
    clones: list[ClonedVmInfo]
    failed: list[CloneFailure]
    stun: float
    base: BaseInfo
    verified: NotRequired[list[FactsInfo]]


class CopyInfo(TypedDict):
    """What was copied, and what was left out because it is no file."""

    files: int
    bytes: int
    skipped: list[str]


class PackageInfo(TypedDict):
    """A distribution package in an image; ``licenses`` are the short names that its copyright file declares."""

    name: str
    version: str
    sha256: str
    licenses: list[str]


class ImageFileInfo(TypedDict):
    """One file of an image."""

    name: str
    size: int
    sha256: str


class ImageDiskInfo(TypedDict):
    """A disk that vms with an image have from the beginning: ``size`` bytes; None for ``file``: blank."""

    name: str
    size: int
    file: ImageFileInfo | None


class ImageInfo(TypedDict):
    """The manifest of a built image (``model.image.Image``); ``directory`` is where it lies on its host, ``guest`` the
    level of its guest program: from 2 on its vms can be on private networks. ``base`` is the template that it was built
    on, or empty. ``ports`` of its vms are published, in the directory ``certificate`` each finds one of its own.
    """

    template: str
    digest: str
    arch: str
    kernel: ImageFileInfo
    initramfs: ImageFileInfo
    vmlinux: ImageFileInfo
    rootfs: ImageFileInfo
    arguments: str
    login: str
    ssh: str
    cpus: int
    memory: int
    packages: list[PackageInfo]
    guest: int
    disks: list[ImageDiskInfo]
    base: str
    description: str
    ports: list[int]
    certificate: str
    directory: NotRequired[str]


class TemplateInfo(TypedDict):
    """A template, and its image as the recipe is now; ``problem`` says why it cannot be used.

    ``own``: it did not come with appcat. ``vms`` start from its image. ``size`` bytes would travel, ``used`` are taken
    on the host, what can be made again included; of those ``shared`` are also layers that vms stand on.
    """

    name: str
    description: str
    directory: str
    problem: str
    own: bool
    vms: list[str]
    size: int
    used: int
    shared: int
    image: ImageInfo | None


class RemovedInfo(TypedDict):
    """Something that was removed: an image, a template, packages; ``size`` in bytes on the host."""

    kind: str
    what: str
    size: int


class MemberInfo(TypedDict):
    """A vm on a network: ``status`` as ``vm list`` has it."""

    vm: str
    status: str
    mac: str
    address: str
    names: list[str]


class NetworkInfo(TypedDict):
    """A private network. ``internet`` False: no way out; ``twin``: the network whose subnet it repeats, or empty.

    ``problem`` says why it cannot be used, its file being damaged: all else but its name and vms is empty then.
    """

    name: str
    subnet: str
    internet: bool
    twin: str
    created: str
    owner: str
    labels: dict[str, str]
    vms: list[str]
    problem: str


class NetworkDetails(NetworkInfo):
    """All about one network. ``backend`` is bridge or hub; ``state`` is idle (no vm runs on it), up, or down with
    ``detail`` saying why and what happens next; ``conflicts`` are routes of the host that its subnet overlaps now.
    """

    backend: str
    state: str
    detail: str
    members: list[MemberInfo]
    conflicts: list[str]


class SettingInfo(TypedDict):
    """One default: ``value`` is None when nobody set it, ``source`` where it comes from."""

    key: str
    value: str | None
    source: str
    help: NotRequired[str]


class CheckInfo(TypedDict):
    """One thing the doctor looked at: ``health`` is ok, warning or failure."""

    name: str
    health: str
    found: str
    advice: str


class EventInfo(TypedDict):
    """A fact that happened (``model.event.Event``)."""

    id: int
    time: str
    kind: str
    vm: str
    uuid: str
    detail: dict[str, Any]


class FailureInfo(TypedDict):
    """The parts of an error."""

    code: str
    message: str
    hint: str
    details: str
    exit_code: int


class OperationInfo(TypedDict):
    """A long action: running, succeeded, failed, cancelled, or lost with the process that was at it."""

    id: str
    verb: str
    vms: list[str]
    state: str
    created: str
    ended: str
    step: str
    done: int
    total: int
    pid: int
    origin: str
    error: FailureInfo | None
    result: dict[str, Any] | None
    cancel_requested: bool
