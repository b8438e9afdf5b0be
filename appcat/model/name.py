"""Names of virtual machines and labels."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping

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


def check_label_key(key: str) -> str:
    """Return ``key`` when a label can have it; raises InvalidInput."""
    if _KEY.fullmatch(key):
        return key
    raise InvalidInput(
        f"{shorten(key)} is not a label's key", hint="use letters, digits and ._/-", code="invalid-label"
    )


def check_labels(labels: Mapping[str, str]) -> dict[str, str]:
    """Return ``labels`` when a vm can have them; raises InvalidInput."""
    return dict(parse_label(f"{check_label_key(key)}={value}") for key, value in labels.items())


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


def suggestion(wrong: str, right: Iterable[str]) -> str:
    """``did you mean web?`` for a near miss, else nothing."""
    matches = difflib.get_close_matches(wrong, list(right), n=3)
    return f"did you mean {' or '.join(matches)}?" if matches else ""


def shorten(text: str) -> str:
    """``text`` quoted for a message: control characters and look-alikes escaped, no longer than a line bears."""
    clipped = text if len(text) <= _LONGEST_SHOWN else text[:_LONGEST_SHOWN] + "..."
    return ascii(clipped)
