"""Asking before data is destroyed."""

from __future__ import annotations

import sys

from appcat.errors import AppcatError


class Refused(AppcatError):
    """The user said no."""

    code = "refused"


def confirm(question: str, yes: bool, *, always: bool = False) -> None:
    """Ask ``question`` on a terminal; raises Refused unless the answer is yes.

    ``yes`` answers in advance. Without a terminal there is nobody to ask: a script means what it says, unless
    ``always`` wants it said in so many words.
    """
    if yes:
        return
    if not (sys.stdin and sys.stdin.isatty() and sys.stderr.isatty()):
        if always:
            raise Refused("nothing was done: there is no terminal to ask on", hint="give --yes")
        return
    sys.stderr.write(f"{question} [y/N] ")
    sys.stderr.flush()
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise Refused("nothing was done", hint="answer y, or give --yes")
