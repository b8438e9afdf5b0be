"""Every error message in the code, as one reviewed text, and the rules that all of them follow."""

from __future__ import annotations

import ast
import importlib
import pkgutil
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeGuard

import pytest

import appcat
from appcat import errors
from appcat.errors import AppcatError
from tests.golden.golden import check

ROOT = Path(__file__).resolve().parents[2]

# Calls without a hint, each with the reason. By file and the beginning of the message.
_AUTHOR = "the message alone says which line of the recipe its author has to correct"
_READER = "knows no path: config and delete say what to do about their file; VmStore.load does not yet"
_KEY_FILE = "knows no path; keys.user_key hints for the home's key, the guest's host key has no remedy but a new vm"
_IMPORT = "template import names the file and says what to do"
NO_HINT: dict[tuple[str, str], str] = {
    ("appcat/build/recipe.py", ""): _AUTHOR,
    ("appcat/model/template.py", "{source}: "): _AUTHOR,
    ("appcat/model/table.py", "{source} is not TOML"): _AUTHOR,
    ("appcat/build/packing.py", "the initial file system"): _IMPORT,
    ("appcat/build/bundle.py", ""): _IMPORT,
    ("appcat/build/prebuilt.py", "it is {image.template}"): _IMPORT,
    ("appcat/model/prebuilt.py", "{INDEX}: "): _IMPORT,
    ("appcat/services/run.py", "a warm template's disk"): "no error: run says so and starts cold",
    ("appcat/model/codec.py", ""): _READER,
    ("appcat/model/vm.py", "vm.json: "): _READER,
    ("appcat/store/networks.py", "{name}.json"): "load adds the path to mend",
    ("appcat/store/vms.py", "vm.json is of"): _READER,
    ("appcat/store/vms.py", "{path.name} "): _READER,
    ("appcat/guest/identity.py", "an SSH key"): _KEY_FILE,
    ("appcat/guest/ssh.py", "the SSH key"): _KEY_FILE,
    ("appcat/guest/ssh.py", "{known_hosts} cannot be read"): _KEY_FILE,
    ("appcat/services/ssh_config.py", "{paths.known_hosts} cannot be read"): _KEY_FILE,
    ("appcat/guest/program.py", "the guest program refused"): "a fault of the template, its own words follow",
    ("appcat/guest/remote.py", "the guest's shell does not work"): "the shell's own words follow",
    ("appcat/qemu/agent.py", "the guest agent refused"): "the agent's own words follow",
    ("appcat/qemu/monitor.py", "QEMU sent what is not"): "never seen: QEMU breaks its own protocol",
    ("appcat/qemu/monitor.py", "QEMU refused"): "QEMU's own words follow; services that know more say it first",
}


@dataclass(frozen=True)
class Message:
    """One place where an error is made; what is computed there stands as ``{expression}``."""

    file: str
    kind: str
    code: str
    message: str
    hint: str

    def __str__(self) -> str:
        hint = f"\n      {self.hint}" if self.hint else ""
        return f"  {self.kind} {self.code}\n      {self.message}{hint}\n"


def import_all() -> None:
    for module in pkgutil.walk_packages(appcat.__path__, "appcat."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)


def family(error: type[AppcatError] = AppcatError) -> Iterator[type[AppcatError]]:
    yield error
    for child in error.__subclasses__():
        yield from family(child)


def classes() -> dict[str, type[AppcatError]]:
    import_all()
    return {error.__name__: error for error in family() if error.__module__.startswith("appcat.")}


def template(node: ast.expr | None) -> str:
    """The text that an expression gives, with what is not known as ``{expression}``."""
    if node is None:
        return ""
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(template(part) for part in node.values)
    if isinstance(node, ast.FormattedValue):
        return "{" + ast.unparse(node.value) + "}"
    return "{" + ast.unparse(node) + "}"


def messages() -> list[Message]:
    known = classes()
    found = []
    for path in sorted((ROOT / "appcat").rglob("*.py")):
        file = str(path.relative_to(ROOT))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and (kind := known.get(called(node))) and not words_its_own(kind):
                found.append(message_of(file, kind, node))
            elif isinstance(node, ast.ClassDef) and (kind := known.get(node.name)) and words_its_own(kind):
                found += [message_of(file, kind, call) for call in ast.walk(node) if is_super_init(call)]
    return found


def words_its_own(kind: type[AppcatError]) -> bool:
    """Whether the class puts its message together itself: then that is where it is read."""
    return kind is not AppcatError and "__init__" in vars(kind)


def is_super_init(node: ast.AST) -> TypeGuard[ast.Call]:
    return isinstance(node, ast.Call) and ast.unparse(node.func) == "super().__init__"


def called(node: ast.Call) -> str:
    return node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")


def message_of(file: str, kind: type[AppcatError], node: ast.Call) -> Message:
    given = {keyword.arg: keyword.value for keyword in node.keywords}
    first = node.args[0] if node.args else given.get("message")
    code = template(given["code"]) if "code" in given else kind.code
    return Message(file, kind.__name__, code, template(first), template(given.get("hint")))


MESSAGES = messages()


def identify(message: Message) -> str:
    return f"{message.file}: {message.message[:40]}"


def test_messages_are_as_reviewed() -> None:
    files = sorted({message.file for message in MESSAGES})
    parts = [f"{file}\n" + "".join(str(found) for found in MESSAGES if found.file == file) for file in files]
    check("errors.txt", "\n".join(parts))


@pytest.mark.parametrize("message", MESSAGES, ids=identify)
def test_message_keeps_the_rules(message: Message) -> None:
    text = message.message
    assert text, "no message"
    assert "\n" not in text + message.hint
    assert not text.endswith((".", "!", " ")) and not message.hint.endswith((".", " ")), "no full stop at the end"
    first = re.split(r"[\s:]", text, maxsplit=1)[0]
    assert text[0] == "{" or not text[0].isupper() or is_a_name(first), "begin in lower case"


def is_a_name(word: str) -> bool:
    """QEMU, SSH, APPCAT_HOME, PCIe: words that are written with capitals anywhere."""
    return sum(char.isupper() for char in word) > 1


@pytest.mark.parametrize("message", MESSAGES, ids=identify)
def test_message_says_what_to_do(message: Message) -> None:
    excused = [key for key in NO_HINT if key[0] == message.file and message.message.startswith(key[1])]
    assert message.hint or excused, "give a hint, or list it in NO_HINT with the reason"


def test_no_excuse_is_stale() -> None:
    hintless = [message for message in MESSAGES if not message.hint]
    for file, start in NO_HINT:
        assert any(found.file == file and found.message.startswith(start) for found in hintless), (file, start)


def codes() -> set[str]:
    """Every code there is: of classes, of calls, and those set afterwards."""
    found = {error.code for error in classes().values()} | {message.code for message in MESSAGES}
    return {code for code in found if not code.startswith("{")}


def documented() -> dict[int, str]:
    """The table of docs/errors.md: exit status -> the row."""
    text = (ROOT / "docs" / "errors.md").read_text(encoding="utf-8")
    return {int(row[1]): row[0] for row in re.finditer(r"(?m)^\| (\d+) \|.*$", text)}


@pytest.mark.parametrize("code", sorted(codes()))
def test_code_is_documented_with_its_exit_status(code: str) -> None:
    rows = {number for number, row in documented().items() if f"`{code}`" in row}
    known = {kind.__name__: kind for kind in classes().values()}
    exits = {kind.exit_code for kind in known.values() if kind.code == code and "code" in vars(kind)}
    exits |= {known[message.kind].exit_code for message in MESSAGES if message.code == code}
    assert rows == exits, f"docs/errors.md says {rows} of {code}"


def test_nothing_is_documented_that_is_not_there() -> None:
    named = {code for row in documented().values() for code in re.findall(r"`([a-z-]+)`", row.split("|", 3)[3])}
    assert named - codes() <= {"exec"}


def test_every_exit_status_is_documented() -> None:
    wanted = {error.exit_code for error in family(errors.AppcatError)} | {0, 124, 130, 141}
    assert wanted == set(documented())
