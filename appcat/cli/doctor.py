"""``appcat doctor``."""

from __future__ import annotations

from appcat.app import App
from appcat.cli.output import print_json, print_table
from appcat.model.codec import encode
from appcat.services.doctor import Health, examine

STYLES = {"ok": "green", "warning": "yellow", "failure": "red"}


def run_doctor(as_json: bool) -> int:
    """Print the checks; 0 when nothing keeps vms from running, else 6 (``errors.Unavailable``)."""
    checks = examine(App.load().context)
    if as_json:
        print_json([encode(check) for check in checks])
    else:
        rows = [[check.name, str(check.health), check.found] for check in checks]
        print_table(["CHECK", "STATE", "FOUND"], rows, STYLES)
        for check in checks:
            if check.advice:
                print(f"{check.name}: {check.advice}")
    return 6 if any(check.health is Health.FAILURE for check in checks) else 0
