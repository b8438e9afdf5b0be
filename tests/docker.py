"""The real docker CLI, and a small image for it: both from distribution packages, since no registry can be reached."""

from __future__ import annotations

import hashlib
import io
import json
import platform
import subprocess
import tarfile
from pathlib import Path

from appcat.build.deb import unpack
from appcat.build.packages import Apt
from appcat.model.host import host_arch
from appcat.model.vm import Arch
from appcat.store.locks import hold

IMAGE = "tiny:latest"
HERE = host_arch(platform.machine())


def fetch(cache: Path, directory: Path, *packages: str) -> Path:
    """The content of distribution packages below ``directory``, without installing them."""
    place = cache / "packages"
    place.mkdir(parents=True, exist_ok=True)
    with hold(place / "lock", "a test's packages", wait=1800):
        apt = Apt(place, HERE)
        apt.refresh()
        for archive in apt.fetch(list(apt.candidates(packages).values()), lambda *_: None):
            unpack(archive, directory, lambda: None)
    return directory


def docker_cli(cache: Path, directory: Path) -> Path:
    """The docker CLI alone; nothing of it runs on this host but what a test starts."""
    return fetch(cache, directory, "docker.io") / "usr" / "bin" / "docker"


def small_image(cache: Path, directory: Path) -> Path:
    """An archive as ``docker save`` writes it: busybox and its shell, called ``tiny``."""
    busybox = fetch(cache, directory, "busybox-static") / "usr" / "bin" / "busybox"
    layer = _tar(
        {"bin/busybox": busybox.read_bytes()}, links={f"bin/{name}": "busybox" for name in ("sh", "echo", "uname")}
    )
    digest = f"sha256:{hashlib.sha256(layer).hexdigest()}"
    config = json.dumps(
        {
            "architecture": "amd64" if HERE is Arch.X86_64 else "arm64",
            "os": "linux",
            "config": {"Env": ["PATH=/bin"], "Cmd": ["sh"]},
            "rootfs": {"type": "layers", "diff_ids": [digest]},
        }
    ).encode()
    manifest = json.dumps([{"Config": "config.json", "RepoTags": [IMAGE], "Layers": ["layer.tar"]}]).encode()
    archive = directory / "tiny.tar"
    archive.write_bytes(_tar({"config.json": config, "layer.tar": layer, "manifest.json": manifest}))
    return archive


def _tar(files: dict[str, bytes], links: dict[str, str] | None = None) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), 0o755
            archive.addfile(entry, io.BytesIO(content))
        for name, target in (links or {}).items():
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = tarfile.SYMTYPE, target
            archive.addfile(entry)
    return out.getvalue()


def run_docker(
    cli: Path, config: Path, *args: str, stdin: str = "", timeout: float = 240.0
) -> subprocess.CompletedProcess[str]:
    """The docker CLI with a configuration of its own."""
    return subprocess.run(
        [str(cli), "--config", str(config), *args],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
