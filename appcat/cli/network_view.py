"""Private networks as people read them."""

from __future__ import annotations

import sys
from collections.abc import Iterator

from appcat.cli.output import fitted, print_table, say, shortened
from appcat.cli.vm_view import STYLES
from appcat.model.shapes import AttachmentInfo, NetworkDetails, NetworkInfo

INDENT = 13
LONGEST_TWIN = 16


def print_list(found: list[NetworkInfo]) -> None:
    """A table that fits 80 columns, and below it why one is broken."""
    rows = [_row(one) for one in found]
    print_table(["NETWORK", "SUBNET", "INTERNET", "TWIN OF", "VMS"], rows, cut_names=True)
    for one in found:
        if one["problem"]:
            say(fitted(f"{one['name']}: {one['problem']}", sys.stdout, 2))


def _row(one: NetworkInfo) -> list[str]:
    subnet, internet = ("broken", "") if one["problem"] else (one["subnet"], _yes(one["internet"]))
    twin = shortened(one["twin"], LONGEST_TWIN) if sys.stdout.isatty() else one["twin"]
    return [one["name"], subnet, internet, twin, " ".join(one["vms"])]


def print_details(details: NetworkDetails) -> None:
    """A network, one fact a line, and a table of who is on it."""
    for key, value in _facts(details):
        if value:
            say(f"{key:<12} {fitted(value, sys.stdout, INDENT)}")
    if details["members"]:
        say("")
        rows = [[one["vm"], one["status"], one["address"], " ".join(one["names"])] for one in details["members"]]
        print_table(["VM", "STATUS", "ADDRESS", "NAMES"], rows, STYLES, cut_names=True)


def print_attachments(found: list[AttachmentInfo]) -> None:
    """On which networks a vm is."""
    rows = [[one["network"], one["address"], one["mac"], " ".join(one["names"])] for one in found]
    print_table(["NETWORK", "ADDRESS", "MAC", "NAMES"], rows, cut_names=True)


def _facts(details: NetworkDetails) -> Iterator[tuple[str, str]]:
    yield "name", details["name"]
    yield "subnet", details["subnet"] or "broken"
    yield "internet", "" if details["problem"] else _yes(details["internet"])
    yield "twin of", details["twin"]
    yield "state", ", ".join(filter(None, (details["state"], details["backend"])))
    yield "", details["detail"]
    for conflict in details["conflicts"]:
        yield "conflict", conflict
    yield "labels", ", ".join(f"{key}={value}" for key, value in details["labels"].items())
    yield "owner", details["owner"]
    yield "created", details["created"]


def _yes(answer: bool) -> str:
    return "yes" if answer else "no"
