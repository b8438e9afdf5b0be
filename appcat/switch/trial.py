"""Trying in earnest what the bridge needs: namespaces, a bridge, a tap in it. All of it ends with this process."""

from __future__ import annotations

import json
import os

from appcat.switch import namespace
from appcat.switch.bridge import TUN, open_tap
from appcat.switch.netlink import Links

STEPS = ("user", "net", "bridge", "tun", "tap", "join")


def main() -> int:
    """Print as JSON which step failed and the error's number; nothing failed: an empty step."""
    step, code = attempt()
    print(json.dumps({"step": step, "errno": code}))
    return 0


def attempt() -> tuple[str, int]:
    """The first of ``STEPS`` that failed, and the error's number. Moves this process into namespaces."""
    step = ""
    try:
        for step in STEPS[:2]:
            namespace.unshare(namespace.NEW_USER if step == "user" else namespace.NEW_NET)
        step, links = "bridge", Links()
        links.add_bridge("trial-bridge", "")
        step = "tun"
        os.close(os.open(TUN, os.O_RDWR | os.O_CLOEXEC))
        step = "tap"
        open_tap("trial-tap")
        step, found = "join", links.all()
        links.join(found["trial-tap"], found["trial-bridge"])
    except OSError as error:
        return step, error.errno or 0
    return "", 0
