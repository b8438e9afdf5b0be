from __future__ import annotations

import contextlib
import fcntl
import os
import resource
from collections.abc import Iterator

import pytest

from appcat.ready import SELECTABLE, readable, ready


@pytest.fixture(params=["low", "high"])
def pipe(request: pytest.FixtureRequest) -> Iterator[tuple[int, int]]:
    """A pipe with descriptors that select(2) knows, or does not."""
    ends = os.pipe()
    if request.param == "high":
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if hard < 2 * SELECTABLE:
            pytest.skip("descriptors that high are not allowed here")
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2 * SELECTABLE), hard))
        low, ends = ends, tuple(fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, SELECTABLE + 10) for end in ends)  # type: ignore[assignment]
        for end in low:
            os.close(end)
        assert min(ends) >= SELECTABLE
    yield ends
    for end in ends:
        with contextlib.suppress(OSError):  # closed by the test
            os.close(end)


class End:
    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor

    def fileno(self) -> int:
        return self.descriptor


def test_what_can_be_read_and_written_is_told(pipe: tuple[int, int]) -> None:
    reader, writer = map(End, pipe)
    assert ready([reader], [writer], 0) == ([], [writer])
    assert not readable(reader, 0.01)
    os.write(writer.descriptor, b"x")
    assert ready([reader], [writer], None) == ([reader], [writer])


def test_end_can_be_read(pipe: tuple[int, int]) -> None:
    reader, writer = map(End, pipe)
    os.close(writer.descriptor)
    assert readable(reader, 1)
    assert os.read(reader.descriptor, 1) == b""
