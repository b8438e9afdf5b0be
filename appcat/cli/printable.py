"""What a guest says, made harmless for the terminal it is shown on."""

from __future__ import annotations

import codecs
import re

RESET = "\033[0m"

_COLOUR = re.compile(r"\[[0-9;:]*m")
_STRINGS = frozenset("]PX^_")  # OSC, DCS, SOS, PM, APC: they go on until BEL or ST
_TWO_MORE = frozenset("()*+-./#% ")  # the character after these belongs to the sequence
_LONGEST = 256


class Printable:
    """A filter that keeps text, newlines, tabs and colours, and drops every other control sequence.

    Fed piece by piece: sequences and characters may be cut anywhere.
    """

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._pending = ""
        self._in_string = False
        self._coloured = False

    def feed(self, data: bytes, *, final: bool = False) -> str:
        """What of ``data`` may be shown; ``final`` switches colours off that are still on."""
        shown = []
        for character in self._decoder.decode(data, final):
            shown.append(self._take(character))
        if final and self._coloured:
            shown.append(RESET)
        return "".join(shown)

    def _take(self, character: str) -> str:
        if self._in_string:
            return self._in_a_string(character)
        if self._pending:
            return self._in_a_sequence(character)
        if character == "\033":
            self._pending = character
            return ""
        if character == "\x9b":  # the same as ESC [ in one character
            self._pending = "\033["
            return ""
        if character in "\x90\x98\x9d\x9e\x9f":
            self._in_string = True
            return ""
        return character if character in "\n\t" or (character >= " " and not "\x7f" <= character <= "\x9f") else ""

    def _in_a_string(self, character: str) -> str:
        # ST is ESC \; a newline ends it too, so that one cut off does not swallow the rest of the log.
        if character in "\a\x9c\n" or (self._pending and character == "\\"):
            self._in_string, self._pending = False, ""
            return "\n" if character == "\n" else ""
        self._pending = "\033" if character == "\033" else ""
        return ""

    def _in_a_sequence(self, character: str) -> str:
        if character in "\033\n\x18\x1a" or len(self._pending) > _LONGEST:  # cut off
            self._pending = ""
            return self._take(character)
        if self._pending == "\033" and character in _STRINGS:
            self._pending, self._in_string = "", True
            return ""
        self._pending += character
        if self._pending.startswith("\033["):
            return self._end() if len(self._pending) > 2 and "@" <= character <= "~" else ""
        if len(self._pending) == 2 and character in _TWO_MORE:
            return ""
        self._pending = ""
        return ""

    def _end(self) -> str:
        sequence, self._pending = self._pending, ""
        if not _COLOUR.fullmatch(sequence[1:]):
            return ""
        self._coloured = sequence not in ("\033[m", "\033[0m")
        return sequence
