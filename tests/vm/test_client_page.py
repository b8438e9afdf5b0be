"""docs/client.md is true: its lines are typed, its pytest fixture is used by its tests, its program is run."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from appcat.client import Client, types
from tests.cat import PATIENCE, Cat
from tests.vm.test_guide import steps

PAGE = Path(__file__).parents[2] / "docs" / "client.md"


def blocks() -> list[str]:
    return re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)


def run(cat: Cat, directory: Path, *argv: str) -> str:
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        argv, env={**cat.env, "PATH": path}, cwd=directory, capture_output=True, text=True, timeout=PATIENCE
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.vm
def test_the_page(cat: Cat, tmp_path: Path) -> None:
    conftest, tests, program = blocks()
    (tmp_path / "conftest.py").write_text(conftest)
    (tmp_path / "test_forks.py").write_text(tests)
    (tmp_path / "program.py").write_text(program)
    (tmp_path / "notes.txt").write_text("12345")
    try:
        for step in steps(PAGE.read_text()):
            run(cat, tmp_path, "bash", "-c", step.line)
        assert "2 passed" in run(cat, tmp_path, sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider")
        assert list(cat.list()) == ["golden"]
        said = run(cat, tmp_path, sys.executable, "program.py").splitlines()
        assert said[0].startswith("5 ")
        assert said[2:] == [
            "['web']",
            "b'SSH-2.0'",
            "['10.79.2.5']",
            "already-exists",
            "['vm.deleted', 'operation.ended']",
        ]
    finally:
        cat.try_("daemon", "stop")


def test_every_method_is_named() -> None:
    methods = {name for name in vars(Client) if not name.startswith("_")} - {"of", "close"}
    text = PAGE.read_text()
    assert not [name for name in methods if f"`{name}`" not in text]


def test_every_type_is_there() -> None:
    assert sorted(types.__all__) == types.__all__
    assert all(hasattr(types, name) for name in types.__all__)


def test_the_page_is_typed(tmp_path: Path) -> None:
    """The program passes the strictest type checker as it stands."""
    if not shutil.which("mypy", path=str(Path(sys.executable).parent)):
        pytest.skip("mypy is not installed")
    (tmp_path / "program.py").write_text(blocks()[2])
    argv = [sys.executable, "-m", "mypy", "--strict", "--no-incremental", str(tmp_path / "program.py")]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=PATIENCE, cwd=Path(__file__).parents[2])
    assert done.returncode == 0, done.stdout
