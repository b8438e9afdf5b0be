"""docs/api.md is true: its examples are typed here, word by word and in that order, with its own shell functions."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from appcat.daemon.routes import ROUTERS
from tests.cat import Cat
from tests.vm.test_guide import normal, pattern, steps

DOCS = Path(__file__).parents[2] / "docs" / "api.md"


def prelude(text: str) -> str:
    """What the reader is told to put into the shell."""
    (block,) = re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
    return str(block)


@pytest.mark.vm
def test_examples_work(cat: Cat, tmp_path: Path) -> None:
    text = DOCS.read_text()
    (tmp_path / "appcat").symlink_to(Path(sys.executable).parent / "appcat")
    env = {**cat.env, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    found = steps(text)
    assert len(found) > 15
    try:
        for step in found:
            done = subprocess.run(
                ["bash", "-c", prelude(text) + step.line],
                env=env,
                cwd=tmp_path,
                capture_output=True,
                text=True,
                stdin=subprocess.DEVNULL,
                timeout=300,
                check=False,
            )
            told = f"docs/api.md:{step.number}: {step.line}\n-> {done.returncode}\n{done.stdout}{done.stderr}"
            assert done.returncode == 0 and "Traceback" not in done.stderr, told
            if step.shown:
                assert re.fullmatch(pattern(step.shown), normal(done.stdout)), f"{told}\n--- expected\n{step.shown}"
    finally:
        cat.try_("daemon", "stop")


def test_every_route_is_named() -> None:
    text = DOCS.read_text()
    for router in ROUTERS:
        for route in router.routes:
            path = str(getattr(route, "path", ""))
            last = [part for part in path.split("/") if part and not part.startswith("{")][-1]
            assert re.search(rf"\b{last}\b", text), path
