"""Entity tags (RFC 9110, 8.8.3): what a client saw, to be told when it changes or to change nothing else."""

from __future__ import annotations

import re

from appcat.errors import InvalidInput

MOST = 16
_TAG = re.compile(r'(W/)?"([\x21\x23-\x7e\x80-\xff]*)"')


def quoted(tag: str) -> str:
    """As headers have it."""
    return f'"{tag}"'


def if_match(header: str | None) -> frozenset[str] | None:
    """The tags of which one must hold; None when any will do. A weak one never holds. Raises InvalidInput."""
    if header is None or header.strip() == "*":
        return None
    return frozenset(tag for weak, tag in _parse(header) if not weak)


def is_known(header: str | None, tag: str) -> bool:
    """Whether ``If-None-Match`` names ``tag``, weakly or not; one that cannot be read names nothing."""
    if header is None:
        return False
    if header.strip() == "*":
        return True
    try:
        return any(known == tag for _, known in _parse(header))
    except InvalidInput:
        return False


def _parse(header: str) -> list[tuple[bool, str]]:
    found = []
    for part in header.split(",", MOST):
        match = _TAG.fullmatch(part.strip())
        if match is None:
            raise InvalidInput(
                "If-Match is not a list of entity tags", hint='send the ETag as it came, quotes included: "0123abcd"'
            )
        found.append((match[1] is not None, match[2]))
    return found
