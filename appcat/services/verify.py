"""``clone --verify``: asking source and clones who they are, and comparing.

Each is asked from outside, over SSH: the connection only comes about when the guest shows the very host key that it
should have, so that part is proved by being connected.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from appcat.errors import GuestError, InvalidInput
from appcat.model.vm import CloneKind, Vm
from appcat.services.context import Context
from appcat.services.execute import run_quietly

if TYPE_CHECKING:
    from appcat.services.clone import Cloned, CloneRequest

WORKERS = 4
# Seconds that a guest's clock may be off; the connection alone takes part of one on a busy host.
CLOCK_TOLERANCE = 5.0
_ASK = """
hostname; cat /etc/machine-id /sys/class/net/eth0/address
head -c 16 /dev/urandom | od -An -tx1 | tr -d ' \\n'; echo
date +%s
"""


class NotDistinct(GuestError):
    """A clone is not who it should be, or shares with another what must be its own."""

    code = "verify-failed"


@dataclass(frozen=True)
class Facts:
    """What a guest says of itself; ``skew`` is its clock against the host's, in seconds."""

    name: str
    hostname: str
    machine_id: str
    mac: str
    host_key: str
    random: str
    skew: float


def verify(ctx: Context, names: Sequence[str], *, fork: bool = False) -> list[Facts]:
    """The facts of running vms, the source first, when each is who it should be; raises NotDistinct, GuestError.

    In a ``fork`` only the random numbers must differ.
    """
    with ThreadPoolExecutor(WORKERS) as pool:
        facts = list(pool.map(lambda name: _ask(ctx, name), names))
    wrong = [text for fact in facts for text in mistakes(fact, ctx.store.load(fact.name))]
    wrong += shared(facts, ["random"] if fork else ["hostname", "machine_id", "mac", "host_key", "random"])
    if wrong:
        raise NotDistinct(
            f"{len(wrong)} things are not as they should be: {wrong[0]}",
            hint="please report it, with 'appcat doctor --bundle FILE'",
            details="\n".join(wrong),
        )
    return facts


def check_kind(kind: CloneKind | None) -> None:
    """Raise InvalidInput for clones that do not run at first, and so cannot be asked."""
    if kind in (CloneKind.FULL, CloneKind.LINKED):
        raise InvalidInput("only instant clones can be verified: others do not run yet", hint="leave --verify out")


def verify_clones(ctx: Context, request: CloneRequest, done: Cloned) -> list[Facts]:
    """The facts of a source and of the clones that were just made of it; none where none was made. As ``verify``."""
    made = [outcome.name for outcome in done.outcomes if outcome.vm]
    return verify(ctx, [request.source, *made], fork=request.fork) if made else []


def mistakes(fact: Facts, vm: Vm) -> list[str]:
    """Where a guest is not who ``vm`` says."""
    expected = {"hostname": vm.inner_name, "machine_id": vm.machine_id, "mac": vm.nics[0].mac}
    wrong = [
        f"{vm.name}: {key} is {getattr(fact, key)}, not {value}"
        for key, value in expected.items()
        if getattr(fact, key) != value
    ]
    if abs(fact.skew) > CLOCK_TOLERANCE:
        wrong.append(f"{vm.name}: its clock is off by {fact.skew:.1f} s")
    return wrong


def shared(facts: Sequence[Facts], keys: Sequence[str]) -> list[str]:
    """What two of them have in common and must not."""
    return [
        f"{one.name} and {other.name} have the same {key}: {getattr(one, key)}"
        for key in keys
        for number, one in enumerate(facts)
        for other in facts[number + 1 :]
        if getattr(one, key) == getattr(other, key)
    ]


def _ask(ctx: Context, name: str) -> Facts:
    status, output = run_quietly(ctx, name, ["sh", "-c", _ASK])
    lines = output.splitlines()
    if status != 0 or len(lines) != 5:
        raise NotDistinct(f"{name} cannot say who it is", hint="see its console log", details=output)
    key = ctx.layout.vm(name).known_hosts.read_text(encoding="ascii").split()[2]
    hostname, machine_id, mac, random, seconds = lines
    return Facts(name, hostname, machine_id, mac, key, random, float(seconds) - time.time())
