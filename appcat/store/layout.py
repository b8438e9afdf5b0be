"""Every file and directory name of a home, in one module.

::

    HOME/
      home.lock                 allocation lock: held while something that spans vms is decided (ports, addresses)
      keeper.lock keeper.json   the keeper's own lock; the host boot it has served
      keeper.log
      autostart.lock            held while the vms of a host boot are brought back
      daemon.lock daemon.json   held by the daemon; what it is and where it answers (``services.daemon.State``)
      daemon.log audit.log      the daemon's words; one line per changing request
      tokens.json tokens.lock   who may come in by TCP: hashes, never secrets; held while they are changed
      default.token             the secret of the token ``default``, for this user's own use
      tls-cert.pem tls-key.pem  the daemon's own certificate
      tls/ca.pem ca-key.pem     the authority that certifies guests and this user (``services.certificates``); .lock
      tls/client/               ca.pem cert.pem key.pem: what shows this user to guests; .lock
      config.json               defaults the user set (``model.config.Config``)
      contexts.json             other appcats, their tokens among it (``model.remote.Contexts``)
      remotes/DIGEST/           id_ed25519, NAME.known_hosts, token: what ssh needs for guests of another appcat
      ssh/id_ed25519[.pub]      the key that logs in to every guest of this home; .lock while it is made
      vms/NAME/
        vm.json                 the spec (``model.vm.Vm``)
        run.json                only while QEMU is thought to live (``model.run.Run``)
        exit.json               how the last QEMU ended (``model.run.Exit``)
        op.lock                 one changing command at a time; says who holds it
        run.lock                inherited by QEMU: free means stopped
        status.lock agent.lock  one client at a time on QEMU's status monitor, on the agent
        console.lock            the one client of the serial line (vm console)
        disks/NAME.qcow2
        ssh_host_ed25519_key    the guest's SSH host key (OpenSSH format) and known_hosts to match
        known_hosts
        ssh_config              how plain ssh reaches the guest (vm ssh-config --install includes it)
        renaming                "OLD NEW" while a rename is under way
        identity                the document the guest reads at boot
        console.log[.1]         the serial line, bounded by the keeper
        qemu.log                QEMU's own standard error, of the last start
        freezing                empty; only while the vm is being frozen
      vms/.create-* .delete-*   a vm being made or removed; swept when its maker is gone
      templates/NAME/           a template of this home's own (``store.templates``)
      networks/NAME.json        a private network (``model.network.Network``)
      layers/frozen/disks/ID.qcow2   a frozen disk: overlays in vms and other layers stand on it, nobody writes to it
      bases/ID/                 a frozen running vm, for instant clones to begin in
        base.json               what it is (``model.base.Base``); absent while it is being made
        state                   the devices' state
        memory                  the guest's memory, unless that is in MEMORY
        use.lock                held, shared, by every QEMU that maps the memory
        maker.lock              held while the base is being made
        identity console.log qemu.log   of the QEMU that helps to make it
      warm.lock                 held while a warm template is looked for or made
      events.jsonl[.1]          what happened (``model.event.Event``), a line each; the older segment
      events.lock               held while one is written; its text is the last id
      operations/ID.json        a long verb (``model.operation.Operation``)
      operations/ID.lock        held by the process that executes it, for as long as it does
      operations/ID.cancel      empty; somebody has asked it to stop
    RUNTIME/appcat.sock         the daemon's door
    RUNTIME/UUID12/             sockets of a running vm, and the links that 9p slots follow
    RUNTIME/UUID12/ready        empty; its guest agent has answered in this life
    RUNTIME/UUID12/told         a digest of what its guest was told last of its networks and neighbours
    RUNTIME/switch.sock         where the switch (``appcat.switch``) is asked for ports of networks
    RUNTIME/switch/             its own: lock, namespace, log, sockets of hub ports
    RUNTIME/listener.sock       whoever listens for events (a daemon) is poked here
    MEMORY/ID                   the memory of a base, on a memory-backed file system
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from appcat.settings import Settings

CREATE_PREFIX = ".create-"
DELETE_PREFIX = ".delete-"


@dataclass(frozen=True)
class RuntimePaths:
    """Sockets and links of one running vm, below the short runtime directory."""

    root: Path

    @property
    def monitor(self) -> Path:
        """Monitor for commands; its client holds ``op.lock``."""
        return self.root / "qmp.sock"

    @property
    def status(self) -> Path:
        """Monitor for looks; its client holds ``status.lock``."""
        return self.root / "status.sock"

    @property
    def events(self) -> Path:
        """Monitor whose one client is the keeper."""
        return self.root / "events.sock"

    @property
    def agent(self) -> Path:
        """The guest agent's port."""
        return self.root / "agent.sock"

    @property
    def guest(self) -> Path:
        """The port of the resident guest program."""
        return self.root / "guest.sock"

    @property
    def console(self) -> Path:
        """The serial line."""
        return self.root / "console.sock"

    @property
    def ready(self) -> Path:
        """There once the guest agent has answered."""
        return self.root / "ready"

    @property
    def told(self) -> Path:
        """A digest of what the guest was told last of its networks and who is on them."""
        return self.root / "told"

    def share(self, slot: int) -> Path:
        """The link that the 9p export of ``slot`` follows when a shared folder is plugged in."""
        return self.root / f"share{slot}"


@dataclass(frozen=True)
class VmPaths:
    """Files of one vm."""

    root: Path

    @property
    def spec(self) -> Path:
        """``vm.json``."""
        return self.root / "vm.json"

    @property
    def renaming(self) -> Path:
        """``OLD NEW`` while a rename is under way."""
        return self.root / "renaming"

    @property
    def ssh_config(self) -> Path:
        """How plain ssh reaches the guest; ~/.ssh/config may include it."""
        return self.root / "ssh_config"

    @property
    def run(self) -> Path:
        """``run.json``."""
        return self.root / "run.json"

    @property
    def exit(self) -> Path:
        """``exit.json``."""
        return self.root / "exit.json"

    @property
    def op_lock(self) -> Path:
        """Held by a command that changes this vm."""
        return self.root / "op.lock"

    @property
    def run_lock(self) -> Path:
        """Held by QEMU for as long as it lives."""
        return self.root / "run.lock"

    @property
    def status_lock(self) -> Path:
        """Held while talking to the status monitor."""
        return self.root / "status.lock"

    @property
    def agent_lock(self) -> Path:
        """Held while talking to the guest agent or the resident guest program."""
        return self.root / "agent.lock"

    @property
    def console_lock(self) -> Path:
        """Held by the one client of the serial line."""
        return self.root / "console.lock"

    @property
    def disks(self) -> Path:
        """The disks' directory."""
        return self.root / "disks"

    @property
    def host_key(self) -> Path:
        """The guest's private SSH host key."""
        return self.root / "ssh_host_ed25519_key"

    @property
    def known_hosts(self) -> Path:
        """The guest's public host key, as SSH clients read it."""
        return self.root / "known_hosts"

    @property
    def identity(self) -> Path:
        """What the guest program applies at boot."""
        return self.root / "identity"

    @property
    def freezing(self) -> Path:
        """Notes that a freeze is under way, so that whoever finds it cut off lets the vm go on."""
        return self.root / "freezing"

    @property
    def console_log(self) -> Path:
        """All that the serial line said, bounded."""
        return self.root / "console.log"

    @property
    def qemu_log(self) -> Path:
        """QEMU's standard error."""
        return self.root / "qemu.log"


@dataclass(frozen=True)
class BasePaths:
    """Files of one base; ``memory_backed`` is where its memory is when there is room."""

    root: Path
    memory_backed: Path | None

    @property
    def spec(self) -> Path:
        """``base.json``."""
        return self.root / "base.json"

    @property
    def state(self) -> Path:
        """What QEMU's devices were in the middle of."""
        return self.root / "state"

    @property
    def memory_on_disk(self) -> Path:
        """The guest's memory where there was no room in memory."""
        return self.root / "memory"

    @property
    def disks(self) -> Path:
        """The disks of a guest that is powered on to be frozen; as deep as vms' disks are (see ``layers``)."""
        return self.root / "disks"

    @property
    def use_lock(self) -> Path:
        """Held, shared, by every QEMU that maps the memory."""
        return self.root / "use.lock"

    @property
    def maker_lock(self) -> Path:
        """Held while the base is being made."""
        return self.root / "maker.lock"

    @property
    def identity(self) -> Path:
        """What the guest program of a vm that is powered on to be frozen applies."""
        return self.root / "identity"

    @property
    def console_log(self) -> Path:
        """The serial line of the QEMU that helps to make it."""
        return self.root / "console.log"

    @property
    def qemu_log(self) -> Path:
        """That QEMU's standard error."""
        return self.root / "qemu.log"


@dataclass(frozen=True)
class OperationPaths:
    """Files of one operation."""

    root: Path
    identifier: str

    @property
    def record(self) -> Path:
        """``ID.json``."""
        return self.root / f"{self.identifier}.json"

    @property
    def lock(self) -> Path:
        """Held by the process that executes it."""
        return self.root / f"{self.identifier}.lock"

    @property
    def cancel(self) -> Path:
        """There once somebody has asked it to stop."""
        return self.root / f"{self.identifier}.cancel"


@dataclass(frozen=True)
class Layout:
    """Paths of a home."""

    settings: Settings

    @property
    def home(self) -> Path:
        """The root of everything."""
        return self.settings.home

    @property
    def vms(self) -> Path:
        """The directory of vm directories."""
        return self.home / "vms"

    @property
    def config(self) -> Path:
        """``config.json``: defaults that the user set."""
        return self.home / "config.json"

    @property
    def contexts(self) -> Path:
        """``contexts.json``: other appcats that commands can be for."""
        return self.home / "contexts.json"

    @property
    def remotes(self) -> Path:
        """What plain ssh needs to log in to guests of other appcats: a directory for each."""
        return self.home / "remotes"

    @property
    def home_lock(self) -> Path:
        """The home-wide allocation lock."""
        return self.home / "home.lock"

    @property
    def keeper_lock(self) -> Path:
        """Held by the running keeper."""
        return self.home / "keeper.lock"

    @property
    def keeper_state(self) -> Path:
        """Which host boot the keeper last brought vms back for."""
        return self.home / "keeper.json"

    @property
    def keeper_log(self) -> Path:
        """The keeper's own words."""
        return self.home / "keeper.log"

    @property
    def autostart_lock(self) -> Path:
        """Held while the autostart vms are brought back."""
        return self.home / "autostart.lock"

    @property
    def daemon_lock(self) -> Path:
        """Held by the running daemon."""
        return self.home / "daemon.lock"

    @property
    def daemon_state(self) -> Path:
        """What the running daemon is, and where it answers."""
        return self.home / "daemon.json"

    @property
    def daemon_log(self) -> Path:
        """The daemon's own words."""
        return self.home / "daemon.log"

    @property
    def audit_log(self) -> Path:
        """One line per changing request."""
        return self.home / "audit.log"

    @property
    def tokens(self) -> Path:
        """Who may come in by TCP: hashes of secrets."""
        return self.home / "tokens.json"

    @property
    def tokens_lock(self) -> Path:
        """Held while the tokens are changed."""
        return self.home / "tokens.lock"

    @property
    def default_token(self) -> Path:
        """The secret of the token ``default``."""
        return self.home / "default.token"

    @property
    def tls_certificate(self) -> Path:
        """The daemon's own certificate."""
        return self.home / "tls-cert.pem"

    @property
    def tls_key(self) -> Path:
        """The private key to it."""
        return self.home / "tls-key.pem"

    @property
    def tls(self) -> Path:
        """The home's authority, and what it certified for this user."""
        return self.home / "tls"

    @property
    def daemon_socket(self) -> Path:
        """The daemon's default door."""
        return self.settings.runtime / "appcat.sock"

    @property
    def layers(self) -> Path:
        """Frozen disks; as deep as vms' disks are: a layer is a hard link of one and names what is below relatively."""
        return self.home / "layers" / "frozen" / "disks"

    @property
    def templates(self) -> Path:
        """Templates of this home's own."""
        return self.home / "templates"

    @property
    def bases(self) -> Path:
        """Frozen running vms."""
        return self.home / "bases"

    @property
    def networks(self) -> Path:
        """The directory of network files."""
        return self.home / "networks"

    @property
    def switch_socket(self) -> Path:
        """Where the switch is asked for ports."""
        return self.settings.runtime / "switch.sock"

    @property
    def switch_directory(self) -> Path:
        """The switch's own files."""
        return self.settings.runtime / "switch"

    @property
    def warm_lock(self) -> Path:
        """Held while a warm template is looked for or made."""
        return self.home / "warm.lock"

    @property
    def events(self) -> Path:
        """What happened, a line each; the older segment has ``.1`` after its name."""
        return self.home / "events.jsonl"

    @property
    def events_lock(self) -> Path:
        """Held while an event is written."""
        return self.home / "events.lock"

    @property
    def events_listener(self) -> Path:
        """The socket of whoever wants to know at once that something happened."""
        return self.settings.runtime / "listener.sock"

    @property
    def operations(self) -> Path:
        """The directory of records of long verbs."""
        return self.home / "operations"

    @property
    def images(self) -> Path:
        """The cache of images (``store.images`` names what is in it)."""
        return self.settings.cache / "images"

    @property
    def user_key(self) -> Path:
        """The private key that logs in to the guests."""
        return self.home / "ssh" / "id_ed25519"

    @property
    def probe(self) -> Path:
        """Cached verdicts about accelerators."""
        return self.settings.cache / "probe.json"

    @property
    def switch_verdict(self) -> Path:
        """The cached verdict about how networks are joined."""
        return self.settings.cache / "switch.json"

    def vm(self, name: str) -> VmPaths:
        """Files of the vm called ``name`` (a checked name)."""
        return VmPaths(self.vms / name)

    def network(self, name: str) -> Path:
        """The file of the network called ``name`` (a checked name)."""
        return self.networks / f"{name}.json"

    def base(self, identifier: str) -> BasePaths:
        """Files of a base."""
        memory = self.settings.memory
        return BasePaths(self.bases / identifier, memory / identifier if memory else None)

    def operation(self, identifier: str) -> OperationPaths:
        """Files of an operation with this (checked) id."""
        return OperationPaths(self.operations, identifier)

    def runtime(self, uuid: str) -> RuntimePaths:
        """Sockets of the vm (or base) with ``uuid``: by uuid, so that renaming a running vm moves nothing."""
        return RuntimePaths(self.settings.runtime / uuid.replace("-", "")[:12])
