from __future__ import annotations

from pathlib import Path

import pytest

from appcat.services.overlays import file_in


@pytest.mark.parametrize(
    "name",
    [
        "/disks/top.qcow2",
        'json:{"driver": "qcow2", "file": {"driver": "file", "filename": "/disks/top.qcow2"}}',
        'json:{"backing": {"driver": "qcow2", "file": {"filename": "/disks/below.qcow2"}}, "file": "/disks/top.qcow2"}',
    ],
)
def test_file_of_a_node_however_qemu_tells_it(name: str) -> None:
    assert file_in(name) == Path("/disks/top.qcow2")
