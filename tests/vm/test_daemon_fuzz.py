"""The whole API fuzzed from its own document, with real vms behind it (schemathesis)."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cat import Cat
from tests.conftest import cat_in, new_home
from tests.unit.support.processes import REPOSITORY
from tests.vm.test_lifecycle import free_port

pytestmark = [pytest.mark.vm, pytest.mark.xdist_group("daemon-fuzz")]

ROUNDS = int(os.environ.get("APPCAT_ROUNDS", "20"))
EXAMPLES = ROUNDS
SECONDS = 6 * ROUNDS
SEED = int(os.environ.get("APPCAT_SEED", "0")) or (7 if ROUNDS == 20 else random.SystemRandom().randrange(1 << 30))
CHECKS = ",".join(
    [
        *("never_a_fault_of_ours", "errors_are_objects", "refused_means_unchanged"),
        *("content_type_conformance", "status_code_conformance", "response_schema_conformance"),
    ]
)
# An event stream never ends, and building a template takes half a minute and the network; both have tests of their own.
LEFT_OUT = ["/v1/events", "/v1/templates/{name}/build"]
# Images are shared by all tests: what removes them works on a cache of its own elsewhere.
LEFT_OUT_OPERATIONS = ["delete_template", "prune_templates"]


@pytest.fixture
def home(cache: Path, request: pytest.FixtureRequest) -> Iterator[Cat]:
    yield from cat_in(new_home(), cache, request)


@pytest.mark.soak
def test_fuzz_the_api(home: Cat, tmp_path: Path) -> None:
    """No 500, no hang, no effect of a refused request, and every answer as the document says."""
    program = shutil.which("schemathesis", path=str(Path(sys.executable).parent))
    assert program, "schemathesis is not installed: pip install --group dev"
    port = free_port()
    home("daemon", "start", "--listen", f"127.0.0.1:{port}")
    try:
        status = json.loads(home("daemon", "status", "--json"))
        home("vm", "run", "web", "--instant", "--disk", "64M")
        home("vm", "create", "spare")
        token = Path(status["token_file"]).read_text().strip()
        done = fuzz(program, home, f"http://127.0.0.1:{port}", token, tmp_path)
        print(done.stdout[-20000:])
        assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
        assert "Traceback" not in (home.home / "daemon.log").read_text()
        assert json.loads(home("daemon", "status", "--json"))["pid"] == status["pid"], "it is still the same process"
        assert home.exec("web", "echo hello") == "hello\n"
    finally:
        home.try_("daemon", "stop")


def fuzz(program: str, home: Cat, url: str, token: str, scratch: Path) -> subprocess.CompletedProcess[str]:
    argv = [program, "run", f"{url}/openapi.json", "--header", f"Authorization: Bearer {token}", "--checks", CHECKS]
    argv += ["--phases", "examples,coverage,fuzzing", "--max-examples", str(EXAMPLES), "--max-time", str(SECONDS)]
    argv += ["--request-timeout", "60", "--suppress-health-check", "all", "--continue-on-failure", "--no-color"]
    argv += ["--seed", str(SEED)]
    for path in LEFT_OUT:
        argv += ["--exclude-path", path]
    for operation in LEFT_OUT_OPERATIONS:
        argv += ["--exclude-operation-id", operation]
    env = {**os.environ, "SCHEMATHESIS_HOOKS": "tests.vm.fuzz_hooks", "PYTHONPATH": str(REPOSITORY)}
    env |= {"FUZZ_HOME": str(home.home), "FUZZ_URL": url, "FUZZ_TOKEN": token}
    return subprocess.run(
        argv, cwd=scratch, env=env, capture_output=True, text=True, timeout=2 * SECONDS + 600, check=False
    )
