"""Between a fuzzer's requests: aim at real vms, judge answers, keep the home small (schemathesis).

It runs in schemathesis's own process (``SCHEMATHESIS_HOOKS``); ``FUZZ_HOME`` is the daemon's home, ``FUZZ_URL`` and
``FUZZ_TOKEN`` how its door is passed.
"""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path
from typing import Any

import requests
import schemathesis

HOME = Path(os.environ.get("FUZZ_HOME", "/nonexistent"))
URL, TOKEN = os.environ.get("FUZZ_URL", ""), os.environ.get("FUZZ_TOKEN", "")
TARGETS = ("web", "spare")
MOST_VMS = 6
PATIENCE = 60.0
# A log that is followed never ends, a long poll waits, a measurement takes its time: tests of their own see to those.
SLOW = {"follow": "false", "wait": "0", "interval": "0"}
# What a refused request must not change: the vms and what they are, the settings, who may come in.
KEPT = ("vms/*/vm.json", "config.json", "tokens.json")

session = requests.Session()
session.headers["Authorization"] = f"Bearer {TOKEN}"
state: dict[str, Any] = {"turn": 0}


@schemathesis.hook
def map_path_parameters(context: Any, path_parameters: dict[str, Any] | None) -> dict[str, Any] | None:
    """Every other time, a vm that is there."""
    state["turn"] += 1
    if (
        path_parameters
        and "name" in path_parameters
        and "templates" not in context.operation.path
        and state["turn"] % 2
    ):
        return {**path_parameters, "name": TARGETS[state["turn"] // 2 % len(TARGETS)]}
    return path_parameters


@schemathesis.hook
def before_call(_context: Any, case: Any, _kwargs: dict[str, Any]) -> None:
    """Bring back what the last request took away, and remember what is there. No request that is slow by design."""
    for key in set(SLOW) & set(case.query or {}):
        case.query[key] = SLOW[key]
    if state.pop("changed", True):
        _restore()
    state["before"] = _fingerprint()


@schemathesis.hook
def after_call(_context: Any, case: Any, response: Any) -> None:
    """What was begun is cancelled and waited for, so that nothing changes behind the next request's back."""
    state["after"] = _fingerprint()
    state["changed"] = case.method.upper() not in ("GET", "HEAD") and response.status_code < 400
    for identifier in response.headers.get("appcat-operation", []):
        session.post(f"{URL}/v1/operations/{identifier}/cancel", timeout=PATIENCE)
        deadline = time.monotonic() + PATIENCE
        while _get(f"/v1/operations/{identifier}?wait=10")["state"] == "running":
            assert time.monotonic() < deadline, f"operation {identifier} neither ends nor is cancelled"


@schemathesis.check
def never_a_fault_of_ours(_ctx: Any, response: Any, _case: Any) -> None:
    """500 is what a programming error gives; what the guest, QEMU or the host did has other numbers."""
    assert response.status_code != 500, f"500: {response.text[:500]}"


@schemathesis.check
def errors_are_objects(_ctx: Any, response: Any, _case: Any) -> None:
    """Every refusal says what happened in the same words."""
    if response.status_code >= 400:
        error = response.json()
        assert set(error) == {"code", "message", "hint", "details", "exit_code"}, error
        assert error["code"] and error["message"] and "\n" not in error["message"], error
        assert "Traceback" not in response.text


@schemathesis.check
def refused_means_unchanged(_ctx: Any, response: Any, case: Any) -> None:
    """What is refused has no effect."""
    if 400 <= response.status_code < 500:
        assert state["before"] == state["after"], f"{case.method} {case.path} -> {response.status_code}"


def _fingerprint() -> dict[str, str]:
    found = {}
    for path in sorted(path for pattern in KEPT for path in HOME.glob(pattern)):
        try:
            found[str(path)] = hashlib.sha256(path.read_bytes()).hexdigest()
        except FileNotFoundError:
            continue
    return found


def _get(path: str) -> Any:
    answer = session.get(f"{URL}{path}", timeout=PATIENCE)
    assert answer.status_code == 200, f"{path}: {answer.status_code} {answer.text}"
    return answer.json()


def _restore() -> None:
    """The two targets: ``web`` runs, ``spare`` is there; not many others are."""
    vms = {vm["name"]: vm for vm in _get("/v1/vms")["vms"]}
    others = [name for name in vms if name not in TARGETS]
    for name in others if len(others) > MOST_VMS else []:
        session.delete(f"{URL}/v1/vms/{name}?force=true", timeout=PATIENCE)
    if "web" not in vms:
        _do("/v1/run", {"name": "web", "instant": True})
    elif vms["web"]["status"] == "paused":
        session.post(f"{URL}/v1/vms/web/unpause", timeout=PATIENCE)
    elif vms["web"]["status"] == "stopped":
        _do("/v1/vms/web/start", {})
    if "spare" not in vms:
        _do("/v1/vms", {"name": "spare"})


def _do(path: str, body: dict[str, Any]) -> None:
    answer = session.post(f"{URL}{path}", json=body, timeout=PATIENCE)
    assert answer.status_code == 202, f"{path}: {answer.status_code} {answer.text}"
    identifier = answer.json()["operation"]["id"]
    while _get(f"/v1/operations/{identifier}?wait=30")["state"] == "running":
        pass
