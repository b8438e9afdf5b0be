from __future__ import annotations

import os
import sys
from pathlib import Path

import psutil
import pytest

from appcat import command
from appcat.errors import AppcatError, CommandError, MissingTool


def python(code: str, **options: object) -> str:
    return command.run([sys.executable, "-c", code], **options)  # type: ignore[arg-type]


def test_standard_output_is_returned_and_errors_are_not() -> None:
    assert python("import sys; print('out'); print('err', file=sys.stderr)") == "out\n"


def test_nothing_is_waiting_on_standard_input() -> None:
    assert python("import sys; print(repr(sys.stdin.read()))") == "''\n"


def test_directory_and_environment_are_as_given(tmp_path: Path) -> None:
    code = "import os; print(os.getcwd(), os.environ['GREETING'])"
    assert python(code, cwd=tmp_path, env={"GREETING": "hello"}) == f"{tmp_path} hello\n"


def test_output_that_is_not_text_is_no_trouble() -> None:
    assert python(r"import sys; sys.stdout.buffer.write(b'\xffok')") == "\ufffdok"


def test_failure_shows_the_last_words_and_how_to_try_it(tmp_path: Path) -> None:
    program = tmp_path / "my tool"
    program.write_text("#!/bin/sh\nfor line in $(seq 100); do echo $line >&2; done; exit 3\n")
    program.chmod(0o755)
    with pytest.raises(CommandError) as caught:
        command.run([program, "an argument"])
    assert caught.value.message == "my tool failed: 100"
    assert caught.value.details.splitlines() == [str(line) for line in range(81, 101)]
    assert caught.value.hint == f"try it by hand: '{program}' 'an argument'"


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("print('said on stdout'); raise SystemExit(1)", "failed: said on stdout"),
        ("raise SystemExit(7)", "failed: exit status 7"),
        ("import os; os.kill(os.getpid(), 9)", "failed: exit status -9"),
    ],
)
def test_failure_without_words_on_standard_error(code: str, message: str) -> None:
    with pytest.raises(CommandError, match=message):
        python(code)


def test_a_command_that_takes_too_long_is_ended(tmp_path: Path) -> None:
    note = tmp_path / "pid"
    with pytest.raises(CommandError, match="sh took longer than 1 s") as caught:
        command.run(["sh", "-c", f"echo $$ > '{note}'; exec sleep 60"], timeout=1.0)
    assert "try it by hand" in caught.value.hint
    assert not psutil.pid_exists(int(note.read_text()))


@pytest.mark.parametrize(
    ("program", "package"), [("qemu-img", "qemu-utils"), ("qemu-system-x86_64", "qemu-system-x86"), ("ssh", "openssh")]
)
@pytest.mark.parametrize("has_apt", [True, False])
def test_missing_program_is_named_with_what_provides_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str, package: str, has_apt: bool
) -> None:
    if has_apt:
        (tmp_path / "apt-get").touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingTool, match=f"{program} is not installed") as caught:
        command.run([program, "--version"])
    assert package in caught.value.hint
    assert caught.value.hint.startswith("sudo apt-get install") is has_apt
    with pytest.raises(MissingTool):
        command.find(program)


def test_program_nobody_knows_gets_a_hint_all_the_same() -> None:
    with pytest.raises(MissingTool) as caught:
        command.run(["appcat-no-such-program"])
    assert caught.value.hint == "install appcat-no-such-program, then run 'appcat doctor'"


def test_programs_are_found_with_their_whole_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tool").touch(mode=0o755)
    monkeypatch.setenv("PATH", os.pathsep.join([str(tmp_path), os.environ["PATH"]]))
    assert command.find("tool") == tmp_path / "tool"


def test_program_that_may_not_be_run_is_told(tmp_path: Path) -> None:
    (tmp_path / "tool").touch(mode=0o644)
    with pytest.raises(AppcatError):
        command.run([tmp_path / "tool"])


def test_missing_directory_is_not_a_missing_program(tmp_path: Path) -> None:
    with pytest.raises(AppcatError) as caught:
        python("pass", cwd=tmp_path / "gone")
    assert not isinstance(caught.value, MissingTool)
