"""Compiling the guest program with a compiler that is unpacked for it and never installed: tcc with musl, static."""

from __future__ import annotations

from pathlib import Path

from appcat import command
from appcat.build.libraries import triplet
from appcat.errors import BuildError, CommandError
from appcat.model.vm import Arch

PACKAGES = ("musl-dev", "tcc")


def compile_program(source: Path, target: Path, tools: Path, arch: Arch) -> None:
    """Compile one C file to the static program ``target``; ``tools`` is where PACKAGES are unpacked.

    Raises BuildError with the compiler's words.
    """
    try:
        command.run(_argv(source, target, tools / "usr", arch))
    except CommandError as error:
        raise BuildError(
            f"{source.name} does not compile", hint="report this, with the details", details=error.details
        ) from error


def _argv(source: Path, target: Path, usr: Path, arch: Arch) -> list[str | Path]:
    tcc = usr / "lib" / triplet(arch) / "tcc"
    musl = usr / "lib" / f"{arch}-linux-musl"
    headers = (tcc / "include", usr / "include" / f"{arch}-linux-musl")
    return [
        usr / "bin" / "tcc",
        f"-B{tcc}",
        *("-nostdinc", "-nostdlib", "-static", "-Wall", "-Werror"),
        *(f"-I{directory}" for directory in headers),
        source,
        *("-o", target),
        *(musl / name for name in ("crt1.o", "crti.o")),
        *(f"-L{musl}", "-lc", tcc / "libtcc1.a"),
        musl / "crtn.o",
    ]
