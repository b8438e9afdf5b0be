"""The distribution's packages, through apt but without root.

apt gets state and cache directories of its own; sources, keyrings and proxy settings are the host's, so every list and
every archive is verified exactly as when an administrator installs it. Nothing is installed: archives are unpacked.
"""

from __future__ import annotations

import hashlib
import logging
import re
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from appcat import command
from appcat.checks import Check, unchecked
from appcat.errors import BuildError, CommandError, Unavailable
from appcat.model.image import Package
from appcat.model.vm import Arch
from appcat.store.files import make_private_directory, unlink, write_atomic

log = logging.getLogger(__name__)

LISTS_LIFETIME = 24 * 3600.0
UPDATE_TIMEOUT = 300.0
DOWNLOAD_TIMEOUT = 1800.0
# Archives fetched by one call of apt: a call takes a third of a second before it does anything.
BATCH = 20
# What signs itself with keys that a guest has, being made of the distribution's packages.
DISTRIBUTIONS = ("Debian", "Ubuntu")

_DEBIAN_ARCH = {Arch.X86_64: "amd64", Arch.AARCH64: "arm64"}
# Only what holds files that a program loads is followed. Programs that a package wants beside it (debconf, perl, an
# init system) matter to an installation, and nothing is installed here.
_FOLLOWED = ("lib", "zlib", "linux-image-", "linux-modules-")
# A line of apt's simulation.
_INSTALLED = re.compile(r"^Inst (\S+) ", re.MULTILINE)
_IS_MERGED = "usr-is-merged"
_NO_HOOKS = "".join(
    f"#clear {hook};\n"
    for hook in ("APT::Update::Pre-Invoke", "APT::Update::Post-Invoke", "APT::Update::Post-Invoke-Success")
)


@dataclass(frozen=True)
class Candidate:
    """A package as the verified lists describe it; ``depends`` are names of packages, first alternatives only."""

    name: str
    version: str
    sha256: str
    depends: tuple[str, ...]

    def package(self, licenses: tuple[str, ...] = ()) -> Package:
        """What the image's manifest says of it."""
        return Package(self.name, self.version, self.sha256, licenses)


@dataclass(frozen=True)
class Installation:
    """A whole system: what every one has, with all that this needs, and what comes on top of it."""

    essential: Sequence[Candidate]
    rest: Sequence[Candidate]


@dataclass(frozen=True)
class Mirrors:
    """Package sources, one a line in the format of ``sources.list``, and files of apt's ``lists`` directory."""

    sources: str
    lists: Sequence[Path]


class Apt:
    """apt with its state below ``directory``; not for two processes at once (the caller holds a lock).

    What ``check`` raises while apt works ends it.
    """

    def __init__(self, directory: Path, arch: Arch, check: Check = unchecked) -> None:
        self._check = check
        self._directory = directory
        self._arch = _DEBIAN_ARCH[arch]
        self._archives = directory / "archives"
        self._stamp = directory / "updated"
        self._config = directory / "apt.conf"
        self._trouble = ""

    def refresh(self, *, force: bool = False) -> None:
        """Fetch the package lists unless that was done in the last day.

        A failure is not final: a source that nothing is needed from may be down, and lists from before stay verified.
        It becomes the reason when a package is then missing.
        """
        self._prepare()
        if not force and self._age() < LISTS_LIFETIME:
            return
        try:
            self._apt("apt-get", "update", timeout=UPDATE_TIMEOUT)
        except CommandError as error:
            log.warning("package lists: %s", error.message)
            self._trouble = error.details or error.message
            return
        write_atomic(self._stamp, "")

    def closure(self, names: Iterable[str]) -> list[Candidate]:
        """``names`` and the libraries (or real kernel packages) they depend on, by name; raises BuildError."""
        found: dict[str, Candidate] = {}
        wanted = set(names)
        while wanted:
            new = self.candidates(sorted(wanted))
            found.update(new)
            wanted = {need for item in new.values() for need in item.depends if need.startswith(_FOLLOWED)} - set(found)
        return [found[name] for name in sorted(found)]

    def candidates(self, names: Iterable[str]) -> dict[str, Candidate]:
        """The versions that would be installed now; raises BuildError naming a package that there is not."""
        wanted = list(names)
        try:
            text = self._apt("apt-cache", "show", "--no-all-versions", *wanted)
        except CommandError as error:
            raise self._no_package(", ".join(wanted), error) from error
        found = {item.name: item for item in map(_candidate, filter(None, text.split("\n\n")))}
        for name in wanted:
            if name not in found:
                raise self._no_package(name)
        return found

    def installation(self, names: Iterable[str]) -> Installation:
        """What an empty system would get that is asked for ``names``, as apt decides it; raises BuildError."""
        merged = self._merged()
        essential = self._simulate(merged)
        everything = self._simulate(sorted({*names, *merged}))
        found = self.candidates(sorted({*essential, *everything}))
        rest = [found[name] for name in sorted(everything - essential)]
        return Installation([found[name] for name in sorted(essential)], rest)

    def mirrors(self) -> Mirrors:
        """The host's package sources that a guest can use as well, with the lists that were fetched from them."""
        form = "$(ORIGIN)|$(SITE)|$(RELEASE)|$(COMPONENT)|$(FILENAME)"
        components: dict[str, list[str]] = {}
        lists: dict[Path, None] = {}
        for line in self._apt("apt-get", "indextargets", "--format", form, "Created-By: Packages").splitlines():
            origin, site, release, component, file = line.split("|", 4)
            if origin in DISTRIBUTIONS and site.startswith(("http://", "https://")):
                known = components.setdefault(f"{site} {release}", [])
                known += [component] if component not in known else []
                lists.update(dict.fromkeys((Path(file), *self._releases(Path(file)))))
        text = "".join(f"deb {where} {' '.join(known)}\n" for where, known in components.items())
        return Mirrors(text, [path for path in lists if path.is_file()])

    def _releases(self, file: Path) -> list[Path]:
        """What signs a list: a file beside it whose name begins alike."""
        beside = file.parent.glob("*_InRelease")
        return [path for path in beside if file.name.startswith(path.name.removesuffix("InRelease"))]

    def _merged(self) -> list[str]:
        """What says that /bin is a link already; without it apt takes a program that makes it one, and all of perl."""
        try:
            return list(self.candidates([_IS_MERGED]))
        except BuildError:
            return []

    def _simulate(self, names: list[str]) -> set[str]:
        """The packages that would come with ``names`` and all that is essential."""
        essential = f"?and(?essential,?architecture({self._arch}))"
        try:
            text = self._apt("apt-get", "install", "-s", "-y", "--no-install-recommends", essential, *names)
        except CommandError as error:
            raise self._unsatisfiable(names, error) from error
        return set(_INSTALLED.findall(text))

    def fetch(self, wanted: Iterable[Candidate], report: Callable[[int, int], None]) -> list[Path]:
        """Archives of ``wanted``, downloaded unless they are there and whole; raises BuildError.

        ``report`` is told after each few how many of how many are there.
        """
        candidates = list(wanted)
        missing = [candidate for candidate in candidates if not self._is_here(candidate)]
        for start in range(0, len(missing), BATCH):
            report(len(candidates) - len(missing) + start, len(candidates))
            self._download(missing[start : start + BATCH])
        report(len(candidates), len(candidates))
        return [self._archive(candidate) for candidate in candidates]

    def _archive(self, candidate: Candidate) -> Path:
        return self._archives / f"{candidate.name}_{candidate.sha256[:16]}.deb"

    def _is_here(self, candidate: Candidate) -> bool:
        path = self._archive(candidate)
        return path.exists() and _sha256(path) == candidate.sha256

    def _download(self, wanted: Sequence[Candidate]) -> None:
        incoming = self._directory / "incoming"
        make_private_directory(incoming)
        for leftover in incoming.iterdir():
            unlink(leftover)
        names = [f"{candidate.name}={candidate.version}" for candidate in wanted]
        failure: CommandError | None = None
        try:
            self._apt("apt-get", "download", *names, cwd=incoming, timeout=DOWNLOAD_TIMEOUT)
        except CommandError as error:
            failure = error
        for candidate in wanted:
            arrived = next(incoming.glob(f"{candidate.name}_*.deb"), None)
            if arrived is None:
                raise BuildError(
                    f"package {candidate.name} {candidate.version} could not be fetched",
                    hint="check the network, then build again: appcat template build",
                    details=failure.details if failure else "",
                ) from failure
            if _sha256(arrived) != candidate.sha256:
                raise BuildError(
                    f"package {candidate.name} is not what the lists promise", hint="build again: appcat template build"
                )
            arrived.replace(self._archive(candidate))

    def _prepare(self) -> None:
        for path in (self._archives, self._directory / "lists" / "partial", self._directory / "cache" / "archives"):
            make_private_directory(path)
        (self._directory / "status").touch()
        write_atomic(self._config, _NO_HOOKS)

    def _age(self) -> float:
        try:
            return time.time() - self._stamp.stat().st_mtime
        except FileNotFoundError:
            return float("inf")

    def _apt(self, *words: str, timeout: float = command.DEFAULT_TIMEOUT, cwd: Path | None = None) -> str:
        """Run an apt program with our directories; raises MissingTool, CommandError."""
        program, *arguments = words
        options = {
            "Dir::State": self._directory,
            "Dir::State::status": self._directory / "status",
            "Dir::Cache": self._directory / "cache",
            "Dir::Cache::pkgcache": "pkgcache.bin",
            "APT::Architecture": self._arch,
            "APT::Sandbox::User": "root",
            "APT::Update::Error-Mode": "any",
            "Acquire::Languages": "none",
            "Acquire::Retries": "2",
            "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled": "false",
        }
        flags = [flag for key, value in options.items() for flag in ("-o", f"{key}={value}")]
        argv: list[str | Path] = [command.find(program), "-q", "-c", str(self._config), *flags, *arguments]
        return command.run(argv, timeout=timeout, cwd=cwd, check=self._check)

    def _unsatisfiable(self, names: list[str], error: CommandError) -> BuildError | Unavailable:
        if self._trouble:
            return self._no_package(", ".join(names), error)
        unknown = re.search(r"Unable to locate package (\S+)|Package '?(\S+?)'? has no installation", error.details)
        if unknown:
            return self._no_package(unknown[1] or unknown[2], error)
        return BuildError(
            "these packages cannot be installed together",
            hint="see the details; correct the template's packages",
            details=error.details,
        )

    def _no_package(self, name: str, error: CommandError | None = None) -> BuildError | Unavailable:
        if self._trouble:
            reason = self._trouble.splitlines()[0]
            return BuildError(
                f"the package lists could not be fetched: {reason}",
                hint="check the network and /etc/apt/sources.list.d, then build again",
                details=self._trouble,
            )
        return BuildError(
            f"the distribution has no package {name}",
            hint="check the template's packages and /etc/apt/sources.list.d",
            details=error.details if error else "",
        )


def _candidate(stanza: str) -> Candidate:
    fields = dict(re.findall(r"^([A-Za-z0-9-]+): (.*)$", stanza, re.MULTILINE))
    depends = ", ".join(filter(None, (fields.get("Depends"), fields.get("Pre-Depends"))))
    return Candidate(fields["Package"], fields["Version"], fields.get("SHA256", ""), _names(depends))


def _names(depends: str) -> tuple[str, ...]:
    """The first alternative of each dependency, without versions and architectures."""
    clauses = (clause.split("|")[0].split("(")[0] for clause in depends.split(","))
    return tuple(name for clause in clauses if (name := clause.strip().partition(":")[0]))


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
