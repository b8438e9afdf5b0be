"""What set-up needs to know of the project; run by the environment's Python, with nothing but the standard library.

project.py CHECKOUT key [linked]   changes when appcat must be installed again
project.py CHECKOUT group NAME     the requirements of a dependency group, one a line (old pips cannot read it)
"""

from __future__ import annotations

import hashlib
import importlib.util
import sys
import tomllib
from pathlib import Path


def key(checkout: Path, linked: bool) -> str:
    """A digest of this Python and of what is installed: the project file and, where they are copied, the sources."""
    digest = hashlib.sha256(sys.version.encode())
    paths = [checkout / "pyproject.toml"]
    if not linked:
        found = (path for name in ("appcat", "templates") for path in (checkout / name).rglob("*"))
        paths += sorted(path for path in found if path.is_file() and "__pycache__" not in path.parts)
    for path in paths:
        digest.update(f"{path}\0".encode() + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def group(checkout: Path, name: str) -> list[str]:
    project = tomllib.loads((checkout / "pyproject.toml").read_text(encoding="utf-8"))
    return list(project["dependency-groups"][name])


def main() -> None:
    checkout, verb, *rest = Path(sys.argv[1]), *sys.argv[2:]
    if verb == "group":
        print("\n".join(group(checkout, rest[0])))
    elif importlib.util.find_spec("pip") is None:
        sys.exit("no pip in this environment")
    else:
        print(key(checkout, "linked" in rest))


if __name__ == "__main__":
    main()
