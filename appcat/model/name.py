"""Names of virtual machines and labels."""

from __future__ import annotations

import re

from appcat.errors import InvalidInput

_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", re.ASCII)
_KEY = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._/-]{0,126}[A-Za-z0-9])?", re.ASCII)
_LONGEST_SHOWN = 40
LONGEST_LABEL_VALUE = 256


def check_name(name: str) -> str:
    """Return ``name`` when it is an RFC 1123 label in lower case; raises InvalidInput.

    A name becomes a directory, a host name and a DNS label, so it must be right for all three.
    """
    if _LABEL.fullmatch(name):
        return name
    raise InvalidInput(
        f"{shorten(name)} is not a valid name",
        hint="use 1 to 63 of a-z, 0-9 and '-', starting and ending with a letter or digit",
        code="invalid-name",
    )


def parse_label(text: str) -> tuple[str, str]:
    """Split ``KEY=VALUE``; raises InvalidInput."""
    key, equals, value = text.partition("=")
    printable = value.isprintable() and len(value) <= LONGEST_LABEL_VALUE
    if not equals or not _KEY.fullmatch(key) or not printable:
        raise InvalidInput(
            f"{shorten(text)} is not a label",
            hint=f"write KEY=VALUE; KEY of letters, digits and ._/-, VALUE of at most {LONGEST_LABEL_VALUE} characters",
            code="invalid-label",
        )
    return key, value


def shorten(text: str) -> str:
    """``text`` quoted for a message: control characters and look-alikes escaped, no longer than a line bears."""
    clipped = text if len(text) <= _LONGEST_SHOWN else text[:_LONGEST_SHOWN] + "..."
    return ascii(clipped)
