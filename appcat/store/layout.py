"""Every file and directory name of a home, in one module.

::

    HOME/
      home.lock                 allocation lock: held while something that spans vms is decided (ssh ports)
      keeper.lock keeper.json   the keeper's own lock; the host boot it has served
      keeper.log
      autostart.lock            held while the vms of a host boot are brought back
      ssh/id_ed25519[.pub]      the key that logs in to every guest of this home; .lock while it is made
      vms/NAME/
        vm.json                 the spec (``model.vm.Vm``)
        run.json                only while QEMU is thought to live (``model.run.Run``)
        exit.json               how the last QEMU ended (``model.run.Exit``)
        op.lock                 one changing command at a time; says who holds it
        run.lock                inherited by QEMU: free means stopped
        status.lock agent.lock  one client at a time on QEMU's status monitor, on the agent
        disks/NAME.qcow2
        ssh_host_ed25519_key    the guest's SSH host key (OpenSSH format) and known_hosts to match
        known_hosts
        identity                the document the guest reads at boot
        console.log[.1]         the serial line, bounded by the keeper
        qemu.log                QEMU's own standard error, of the last start
      vms/.create-* .delete-*   a vm being made or removed; swept when its maker is gone
    RUNTIME/UUID12/             sockets of a running vm, and the links that 9p slots follow
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
    def console_log(self) -> Path:
        """All that the serial line said, bounded."""
        return self.root / "console.log"

    @property
    def qemu_log(self) -> Path:
        """QEMU's standard error."""
        return self.root / "qemu.log"


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

    def vm(self, name: str) -> VmPaths:
        """Files of the vm called ``name`` (a checked name)."""
        return VmPaths(self.vms / name)

    def runtime(self, uuid: str) -> RuntimePaths:
        """Sockets of the vm with ``uuid``: by uuid, so that renaming a running vm moves nothing."""
        return RuntimePaths(self.settings.runtime / uuid.replace("-", "")[:12])
