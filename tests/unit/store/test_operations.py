"""Records of operations: liveness by lock, damage, pruning."""

from __future__ import annotations

import dataclasses
import os
import time
from datetime import UTC, datetime, timedelta

import pytest

from appcat.errors import AppcatError, Broken, NotFound
from appcat.model.operation import Failure, Operation, OperationState, is_operation_id
from appcat.services.context import Context
from appcat.store import operations as module
from appcat.store.operations import OperationStore, new_id

RUNNING = OperationState.RUNNING


@pytest.fixture
def operations(ctx: Context) -> OperationStore:
    return OperationStore(ctx.layout)


def begun(store: OperationStore, identifier: str = "") -> tuple[Operation, int]:
    identifier, descriptor = store.begin(identifier)
    operation = Operation(identifier, "start", ("web",), RUNNING, "2026-11-25T22:15:00.000Z")
    store.save(operation)
    return operation, descriptor


def ended(store: OperationStore, identifier: str = "") -> Operation:
    operation, descriptor = begun(store, identifier)
    operation = dataclasses.replace(operation, state=OperationState.SUCCEEDED, ended="2026-11-25T22:15:01.000Z")
    store.save(operation)
    store.end(operation.id, descriptor)
    return operation


def id_of_age(seconds: float, number: int = 0) -> str:
    return f"{datetime.now(UTC) - timedelta(seconds=seconds):%Y%m%dT%H%M%S}-{number:06x}"


def test_ids_are_safe_and_sort_by_time() -> None:
    made = []
    for _ in range(20):
        made.append(new_id())
        time.sleep(0.001)
    assert all(is_operation_id(one) for one in made)
    assert made == sorted(set(made))


@pytest.mark.parametrize("bad", ["", "..", "../x", "20261125T221500-7f3a9", "20261125T221500-7F3A9C", "x\n"])
def test_what_is_no_id_is_not_there(operations: OperationStore, bad: str) -> None:
    with pytest.raises(NotFound) as caught:
        operations.load(bad)
    assert caught.value.code == "operation-not-found"


def test_what_is_written_is_read(operations: OperationStore) -> None:
    operation, descriptor = begun(operations)
    full = dataclasses.replace(
        operation,
        state=OperationState.FAILED,
        ended="2026-11-25T22:15:01.000Z",
        step="copying",
        done=3,
        total=4,
        pid=17,
        origin="daemon",
        error=Failure("busy", "web is busy", "wait", "details", 4),
        result={"names": ["a"], "seconds": 0.5},
        cancel_requested=True,
    )
    operations.save(full)
    operations.end(full.id, descriptor)
    assert operations.load(full.id) == full
    assert operations.all() == [full]
    assert [path.name for path in operations.layout.operations.iterdir()] == [f"{full.id}.json"]


def test_one_whose_lock_is_free_is_lost(operations: OperationStore) -> None:
    operation, descriptor = begun(operations)
    assert operations.load(operation.id) == operation
    os.close(descriptor)
    assert operations.load(operation.id).state is OperationState.LOST
    operations.layout.operation(operation.id).lock.unlink()
    assert operations.load(operation.id).state is OperationState.LOST
    assert '"running"' in operations.layout.operation(operation.id).record.read_text()


def test_one_that_ends_between_two_looks_is_not_lost(
    operations: OperationStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    operation, descriptor = begun(operations)

    def ends_meanwhile(_store: OperationStore, identifier: str) -> bool:
        operations.save(dataclasses.replace(operation, state=OperationState.SUCCEEDED))
        operations.end(identifier, descriptor)
        return False

    monkeypatch.setattr(OperationStore, "is_alive", ends_meanwhile)
    assert operations.load(operation.id).state is OperationState.SUCCEEDED


def test_an_id_is_given_once(operations: OperationStore) -> None:
    operation = ended(operations)
    with pytest.raises(FileExistsError):
        operations.begin(operation.id)
    running, descriptor = begun(operations)
    with pytest.raises(FileExistsError):
        operations.begin(running.id)
    os.close(descriptor)


def test_who_asks_to_stop_is_heard(operations: OperationStore) -> None:
    operation, descriptor = begun(operations)
    assert not operations.cancel_requested(operation.id)
    operations.request_cancel(operation.id)
    assert operations.cancel_requested(operation.id)
    assert operations.load(operation.id).cancel_requested
    operations.end(operation.id, descriptor)
    assert not operations.cancel_requested(operation.id)


@pytest.mark.parametrize(
    "content", [b"", b"{", b"\xff\xff", b"[]", b'{"schema": 99}', b'{"schema": 1, "id": "x"}', b"null"]
)
def test_a_damaged_record_breaks_no_list(operations: OperationStore, content: bytes) -> None:
    good, bad = ended(operations), ended(operations)
    operations.layout.operation(bad.id).record.write_bytes(content)
    (operations.layout.operations / "something else.json").write_text("{}")
    assert operations.all() == [good]
    assert operations.ids() == [good.id, bad.id]
    with pytest.raises(Broken) as caught:
        operations.load(bad.id)
    assert str(operations.layout.operation(bad.id).record) in caught.value.hint


def test_a_record_of_another_is_damaged(operations: OperationStore) -> None:
    one = ended(operations)
    other = new_id()
    operations.layout.operation(one.id).record.rename(operations.layout.operation(other).record)
    with pytest.raises(Broken):
        operations.load(other)


def test_old_and_many_ended_ones_are_pruned(operations: OperationStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "KEPT", 3)
    kept = [ended(operations, id_of_age(60 - number, number)).id for number in range(5)][2:]
    old = ended(operations, id_of_age(8 * 24 * 3600))
    running, descriptor = begun(operations, id_of_age(9 * 24 * 3600))
    lost, free = begun(operations, id_of_age(10 * 24 * 3600))
    os.close(free)
    operations.prune()
    assert operations.ids() == [running.id, *kept]
    assert {old.id, lost.id} & {path.name[:22] for path in operations.layout.operations.iterdir()} == set()
    os.close(descriptor)


def test_leftovers_are_pruned_once_they_are_old(operations: OperationStore) -> None:
    operation = ended(operations)
    names = [f"{new_id()}.lock", f"{new_id()}.cancel", f".{new_id()}.json.0123456789ab.tmp"]
    for name in (*names, "young.cancel"):
        (operations.layout.operations / name).touch()
    for name in names:
        os.utime(operations.layout.operations / name, (0, 0))
    operations.prune()
    assert {path.name for path in operations.layout.operations.iterdir()} == {f"{operation.id}.json", "young.cancel"}


def test_a_home_without_operations_has_none(operations: OperationStore) -> None:
    assert operations.all() == []
    operations.prune()
    assert not operations.layout.operations.exists()


def test_a_file_in_the_directory_s_place_is_an_error_of_ours(operations: OperationStore) -> None:
    operations.layout.operations.write_text("")
    for call in (operations.begin, operations.ids):
        with pytest.raises(AppcatError):
            call()
