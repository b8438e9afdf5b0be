"""The wheel alone, in an empty environment, away from the checkout: everything appcat needs travels inside it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cat import Cat
from tests.conftest import cat_in, new_home

pytestmark = pytest.mark.xdist_group("wheel")

CHECKOUT = Path(__file__).resolve().parents[2]


def run(*argv: object) -> None:
    """Run, or fail with what was printed."""
    words = [str(word) for word in argv]
    done = subprocess.run(words, cwd="/", text=True, capture_output=True, timeout=600, check=False)
    assert done.returncode == 0, f"{' '.join(words)}\n{done.stdout}\n{done.stderr}"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--wheel", "--outdir", directory, CHECKOUT)
    (built,) = directory.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """An environment with the wheel and what it requires, and nothing else."""
    directory = tmp_path_factory.mktemp("empty") / "venv"
    run(sys.executable, "-m", "venv", directory)
    run(directory / "bin" / "python", "-m", "pip", "install", "--quiet", wheel)
    yield directory
    shutil.rmtree(directory)


@pytest.fixture
def program(installed: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, ...]:
    """The installed program; from here on outside the checkout."""
    monkeypatch.chdir("/")
    return (str(installed / "bin" / "appcat"),)


@pytest.fixture
def bare(program: tuple[str, ...], tmp_path: Path) -> Cat:
    """A fresh home with nothing in it, no image either."""
    return Cat(tmp_path / "home", tmp_path / "cache", program=program)


def test_the_wheel_holds_the_package_and_nothing_of_the_workshop(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0].split("-")[0] for name in names} == {"appcat"}
    assert "appcat/_templates/pico/template.toml" in names
    assert not [name for name in names if "__pycache__" in name]


def test_every_file_of_the_templates_travels(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    templates = CHECKOUT / "templates"
    wanted = {f"appcat/_templates/{path.relative_to(templates)}" for path in templates.rglob("*") if path.is_file()}
    assert wanted
    assert wanted <= names


def test_version(bare: Cat) -> None:
    assert bare("version").startswith("appcat ")


def test_templates_are_found_inside_the_package(bare: Cat, installed: Path) -> None:
    (pico,) = [template for template in json.loads(bare("template", "list", "--json")) if template["name"] == "pico"]
    assert Path(pico["directory"]).is_relative_to(installed)
    assert pico["problem"] in ("", None)


def test_a_fresh_home_has_no_vms(bare: Cat) -> None:
    assert bare.list() == {}


@pytest.mark.vm
def test_a_guest_boots(program: tuple[str, ...], cache: Path, request: pytest.FixtureRequest) -> None:
    for cat in cat_in(new_home(), cache, request):
        cat.program = program
        assert cat("vm", "run", "w", "--", "uname", "-s") == "Linux\n"
        cat("vm", "delete", "--force", "w")
        assert cat.list() == {}
        assert cat.qemus() == []
