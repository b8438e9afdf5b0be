"""Golden files: what a pure function gave when somebody last looked at it closely.

``APPCAT_UPDATE_GOLDEN=1 pytest tests/golden`` writes them anew; the difference is then reviewed like any other.
"""

from __future__ import annotations

import os
from pathlib import Path

DIRECTORY = Path(__file__).parent
UPDATE = "APPCAT_UPDATE_GOLDEN"


def check(name: str, text: str) -> None:
    """``text`` must be what the golden file ``name`` holds."""
    path = DIRECTORY / name
    if os.environ.get(UPDATE):
        path.write_text(text, encoding="utf-8")
    assert path.exists(), f"{path} is missing: {UPDATE}=1 writes it"
    assert text == path.read_text(encoding="utf-8"), f"if the change is meant: {UPDATE}=1 and review the difference"


def check_argv(name: str, argv: list[str]) -> None:
    """As ``check``, one argument a line."""
    assert not any("\n" in arg for arg in argv)
    check(name, "".join(f"{arg}\n" for arg in argv))
