"""Taking out of a text what must not leave this computer: who its user is, and everything that looks like a secret.

In doubt a text loses too much. What stands for a thing is the same wherever the thing was: ``<user>``, ``<home>``,
``<host>``, ``<email>``, ``<key>``, ``<secret>``, ``<redacted>`` (values of labels and metadata).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

SECRET, KEY, VALUE = "<secret>", "<key>", "<redacted>"
SHORTEST_VALUE = 4  # shorter values of labels are hidden where they stand, but not looked for in logs
NOT_PERSONAL = {"root", "localhost", ""}
PRIVATE_BRANCHES = {"labels", "metadata"}

_SENSITIVE = (
    r"pass(?:word|wd|phrase|code)|(?<![a-z])pwd(?![a-z])|secret|token|api[_-]?key|access[_-]?key|private[_-]?key|"
    r"secret[_-]?key|credential|authorization|cookie|session[_-]?id"
)
_SENSITIVE_NAME = re.compile(_SENSITIVE, re.I)
_OPTION = re.compile(rf"--?[\w-]{{0,40}}(?:{_SENSITIVE})[\w-]{{0,40}}", re.I)
_QUOTE = r"\\*[\"']"
_QUOTED = r"(?P<quote>\\*[\"'])(?:\\.|(?!(?P=quote)).|\n)*?(?:(?P=quote)[^\s,;&}\])\"']*|\Z)"
_BLOCK = r"[|>]?[-+]?[ \t]*(?:\n(?:[ \t]+|-[ \t])[^\n]*)+"
_NAMED = re.compile(
    rf"(?P<name>(?:{_SENSITIVE})[^\n:=\"']{{0,40}}(?:{_QUOTE})?[ \t]*(?:=>|[:=]|(?<= )is )[ \t]*)"
    rf"(?:{_QUOTED}|{_BLOCK}|[^\s][^\n]*)",
    re.I,
)
_WORD_AND_VALUE = re.compile(r"\b(pass(?:word|wd|phrase)[ \t]+)[^\s<]\S*", re.I)
_ELEMENT = re.compile(rf"(<(?!secret>)[^<>\n]{{0,80}}(?:{_SENSITIVE})[^<>\n]{{0,80}}>)[^<]+", re.I)
_OPTION_AND_VALUE = re.compile(rf"(--?[\w-]{{0,40}}(?:{_SENSITIVE})[\w-]{{0,40}}[ \t]+)[^\n]+", re.I)
_PEM_END = r"-----END [^\n-]*-----"
_PEM = re.compile(rf"-----BEGIN [^\n]*(?:.*?{_PEM_END}|.*\Z)", re.S)
_PEM_TAIL = re.compile(rf"\A.*{_PEM_END}", re.S)
_PATTERNS = (
    (re.compile(r"(?i)\b(bearer|basic|digest|negotiate)[ \t]+[^\n]{8,}"), rf"\1 {SECRET}"),
    (re.compile(r"(?<=://)[^\s/]+@"), f"{SECRET}@"),
    (re.compile(r"\beyJ[\w-]{8,}(?:\.[\w-]*)*"), KEY),
    (
        re.compile(
            r"\b(?:gh[pousr]_|github_pat_|glpat-|xox[a-z]-|sk[-_]|pk_|AKIA|ASIA|AIza|npm_|pypi-|hf_|dop_v1_|SG\.|ya29\.)"
            r"[\w.-]{8,}"
        ),
        KEY,
    ),
    (re.compile(r"\$(?:1|2[abxy]?|5|6|7|y|gy|argon2\w*)\$[^\s:\"']+"), KEY),
    (re.compile(r"\b((?:ssh|ecdsa|sk)-[\w@.-]+)[ \t]+AAAA[^\n\"']*"), rf"\1 {KEY}"),
)
_EMAIL = re.compile(r"[\w.!#$%&'*+/=?^`{|}~-]{0,64}\w@[\w-]{1,64}(?:\.[\w-]+)+")
_UID_PATHS = re.compile(r"(/appcat-|/run/user/|/user-|/user@)\d+")
_FOREIGN_HOMES = re.compile(r"(/home/|/Users/)(?!<)[^/\s\"',:;]+")
_LONG_RUN = re.compile(r"[A-Za-z0-9+/_=-]{32,}")
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.I)
_PATH = re.compile(r"/(?:tmp|usr|var|etc|run|proc|sys|dev|lib\w*|opt|boot|mnt|srv|bin|sbin|data|home|Users|private)/")
_CONTROL = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]|\x1b\][^\x07\x1b\n]*(?:\x07|\x1b\\)|\x1b.|[\x00-\x08\x0b-\x1f\x7f]")


@dataclass(frozen=True)
class Redactor:
    """Knows who must not be named. ``places``: directory -> placeholder; ``values``: texts of labels and metadata.

    ``public`` are long texts that look like keys and are none, such as the digests of images.
    """

    users: frozenset[str] = frozenset()
    hosts: frozenset[str] = frozenset()
    places: Mapping[str, str] = field(default_factory=dict)
    values: frozenset[str] = frozenset()
    public: frozenset[str] = frozenset()

    def text(self, text: str) -> str:
        """``text`` without secrets, persons and control characters."""
        text = _CONTROL.sub("", text.replace("\r\n", "\n").replace("\r", "\n"))
        text = _without_secrets(text)
        text = _replace(text, self.values, VALUE)
        for place in sorted(self.places, key=len, reverse=True):
            text = re.sub(rf"{re.escape(place)}(?![\w.-])", self.places[place], text)
        text = _EMAIL.sub("<email>", text)
        text = _FOREIGN_HOMES.sub(r"\1<user>", _UID_PATHS.sub(r"\1<uid>", text))
        text = _replace(text, self.users - NOT_PERSONAL, "<user>", re.I)
        text = _replace(text, self.hosts - NOT_PERSONAL, "<host>", re.I)
        return _LONG_RUN.sub(self._long_run, text)

    def data(self, value: Any) -> Any:
        """JSON data of the same shape; what a sensitive key leads to is gone, and so are values of labels."""
        if isinstance(value, Mapping):
            return {self.text(str(key)): self._entry(str(key), item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return self._items(list(value))
        return self.text(value) if isinstance(value, str) else value

    def json(self, text: str) -> str:
        """A JSON document; of one that cannot be read, what is before its labels, as text."""
        try:
            data = json.loads(text)
        except (ValueError, RecursionError):
            return self.text(_before_labels(text)[0])
        try:
            return json.dumps(self.data(data), indent=2, ensure_ascii=False) + "\n"
        except RecursionError:
            return f"{VALUE}\n"

    def _entry(self, key: str, item: Any) -> Any:
        if key in PRIVATE_BRANCHES:
            return _blank(self, item)
        if _SENSITIVE_NAME.search(key) and item not in (None, "", False, True):
            return SECRET
        return self.data(item)

    def _items(self, items: list[Any]) -> list[Any]:
        """A list; what follows an option such as ``--password`` is its value."""
        before = [None, *items]
        return [
            SECRET if isinstance(option, str) and _OPTION.fullmatch(option) else self.data(item)
            for option, item in zip(before, items, strict=False)
        ]

    def _long_run(self, match: re.Match[str]) -> str:
        run = match[0]
        if "/" in run and (match.string[match.start() - 1 : match.start()] == ">" or _PATH.match(run)):
            return "/".join(self._word(word) for word in run.split("/"))
        return self._word(run)

    def _word(self, word: str) -> str:
        if len(word) < 32 or word in self.public or _UUID.fullmatch(word):
            return word
        return KEY if _looks_random(word) else word


def private_values(text: str) -> Iterator[str]:
    """The values of labels and metadata in a ``vm.json``, readable or not, that are to be hidden in other files too."""
    try:
        data = json.loads(text)
    except (ValueError, RecursionError):
        found: Iterable[str] = (part.strip(" :,{}[]\\") for part in re.split(r'["\n]', _before_labels(text)[1]))
    else:
        found = _leaves([data.get(key) for key in PRIVATE_BRANCHES]) if isinstance(data, dict) else ()
    for value in found:
        lines = {value, *value.splitlines()}
        yield from (line for line in lines if len(line) >= SHORTEST_VALUE and line not in PRIVATE_BRANCHES)


def _before_labels(text: str) -> tuple[str, str]:
    """A text that should have been JSON, up to its labels or metadata, and the rest."""
    place = re.search("|".join(PRIVATE_BRANCHES), text)
    return (text, "") if place is None else (f"{text[: place.start()]}{VALUE}\n", text[place.start() :])


def _without_secrets(text: str) -> str:
    text = _PEM.sub(KEY, text)
    text = _PEM_TAIL.sub(KEY, text)
    text = _NAMED.sub(rf"\g<name>{SECRET}", text)
    for pattern in (_OPTION_AND_VALUE, _ELEMENT, _WORD_AND_VALUE):
        text = pattern.sub(rf"\1{SECRET}", text)
    for pattern, instead in _PATTERNS:
        text = pattern.sub(instead, text)
    return text


def _replace(text: str, words: Iterable[str], instead: str, flags: int = 0) -> str:
    """Each of ``words``, where it stands alone, by ``instead``."""
    lower = text.lower()
    present = [word for word in words if word.lower() in lower]
    alternatives = "|".join(re.escape(word) for word in sorted(present, key=len, reverse=True))
    return re.sub(rf"(?<![^\W_])(?:{alternatives})(?![^\W_])", instead, text, flags=flags) if alternatives else text


def _blank(redactor: Redactor, value: Any) -> Any:
    """Data of the same shape whose every value is hidden."""
    if isinstance(value, Mapping):
        return {redactor.text(str(key)): _blank(redactor, item) for key, item in value.items()}
    if isinstance(value, list):
        return [_blank(redactor, item) for item in value]
    return VALUE


def _leaves(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from _leaves(item)
    elif value is not None and not isinstance(value, bool):
        yield str(value)


def _looks_random(word: str) -> bool:
    """Whether a long word is a key rather than words joined by dashes."""
    digits = sum(char.isdigit() for char in word)
    upper = sum(char.isupper() for char in word)
    lower = sum(char.islower() for char in word)
    if not digits:
        return upper >= 3 and lower >= 3
    longest = max(len(part) for part in re.split(r"[-_=+/]", word))
    return longest >= 16 or (upper >= 3 and lower >= 3 and digits >= 2)
