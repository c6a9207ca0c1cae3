"""CommittedTable on a real folder and on a real S3 server."""

from __future__ import annotations

import os
import threading
import time
import uuid
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest

from clusterlib import storage
from clusterlib.errors import DamagedArtifactError, InputError, StaleArtifactError
from clusterlib.tables.committed import (
    ORPHAN_AGE_S,
    PROPOSAL_AGE_S,
    CommittedTable,
    write_proposal,
)
from clusterlib.tables.protocol import Proposal, Replacement


@pytest.fixture(params=["local", "s3"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "local":
        return str(tmp_path / "run")
    request.getfixturevalue("s3_endpoint")
    import s3fs

    bucket = f"b-{uuid.uuid4().hex}"
    s3fs.S3FileSystem().mkdir(bucket)
    return f"s3://{bucket}/run"


def table(root: str, *, rows: int = 10, seed: int = 0) -> CommittedTable:
    made = CommittedTable(root, log=storage.join(root, "commits"), rows=rows)
    made.open({"seed": seed})
    return made


def propose(root: str, start: int, stop: int) -> Proposal:
    rows = pa.table({"row_id": list(range(start, stop))})
    return write_proposal(root, {"data": rows}, ranges=((start, stop),), started_at=time.time())


def visible(root: str, *, rows: int = 10) -> list[int]:
    return [
        row for part in table(root, rows=rows).read("data") for row in part["row_id"].to_pylist()
    ]


def test_only_what_is_committed_is_visible(root: str) -> None:
    driver = table(root)
    seen = propose(root, 0, 4)
    propose(root, 4, 8)  # written, never committed: an orphan
    assert driver.commit([seen]) == [seen]
    assert visible(root) == [0, 1, 2, 3]
    assert driver.state.missing() == ((4, 10),)


def test_a_torn_header_is_refused_with_a_remedy(root: str) -> None:
    table(root)
    storage.write_bytes(storage.join(root, "commits/00000000.json"), b'{"seed": ')
    with pytest.raises(DamagedArtifactError, match="torn.*new run_uri"):
        table(root)


def test_orphans_go_once_the_table_is_complete(root: str) -> None:
    driver = table(root)
    driver.commit([propose(root, 0, 6)])
    propose(root, 6, 8)
    assert driver.delete_orphans(["data"]) == []  # it may still be proposed
    driver.commit([propose(root, 6, 10)])
    if not storage.is_local(root):
        time.sleep(1.1)  # S3 tells whole seconds, and what is as young as the question is kept
    assert len(driver.delete_orphans(["data", "never-written"])) == 1
    assert len(list(storage.list_files(storage.join(root, "data")))) == 2
    assert sorted(visible(root)) == list(range(10))


def test_old_orphans_go_while_rows_are_missing(tmp_path: Path) -> None:
    root = str(tmp_path)
    driver = table(root)
    driver.commit([propose(root, 0, 6)])
    old = propose(root, 6, 8).files[0].path
    young = propose(root, 6, 8).files[0].path
    then = time.time() - ORPHAN_AGE_S - 60
    for file in (old, driver.files("data")[0].entry.path):
        os.utime(tmp_path / file, (then, then))
    assert driver.delete_orphans(["data"]) == [f"{root}/{old}"]
    assert (tmp_path / young).exists()
    assert sorted(visible(root)) == list(range(6))


def test_a_proposal_is_refused_before_its_file_may_be_deleted(root: str) -> None:
    assert PROPOSAL_AGE_S < ORPHAN_AGE_S
    driver = table(root)
    late = replace(propose(root, 0, 6), started_at=time.time() - PROPOSAL_AGE_S)
    assert driver.commit([late]) == []
    assert visible(root) == []


def test_what_is_written_after_a_release_is_not_an_orphan(root: str) -> None:
    """One driver cleans up while another has given rows back and does them again."""
    cleaner, other = table(root), table(root)
    cleaner.commit([propose(root, 0, 10)])
    other.refresh()
    (file,) = other.files("data")
    other.commit([Replacement((file.entry.path,), (), ((0, 10),), time.time())])
    again = propose(root, 0, 10)
    cleaner.delete_orphans(["data"])
    assert other.commit([again]) == [again]
    assert sorted(visible(root)) == list(range(10))


def test_a_retried_worker_changes_nothing(root: str) -> None:
    driver = table(root)
    driver.commit([propose(root, 0, 10)])
    assert driver.commit([propose(root, 0, 10)]) == []
    assert visible(root) == list(range(10))
    assert driver.is_complete


def test_a_restarted_driver_continues(root: str) -> None:
    table(root).commit([propose(root, 0, 5)])
    again = table(root)
    assert again.state.missing() == ((5, 10),)
    again.commit([propose(root, 5, 10)])
    assert visible(root) == list(range(10))


def test_a_second_driver_converges(root: str) -> None:
    one, two = table(root), table(root)
    one.commit([propose(root, 0, 6)])
    assert two.commit([propose(root, 4, 8)]) == []  # read the winner, then left it out
    assert len(two.commit([propose(root, 6, 10)])) == 1
    assert sorted(visible(root)) == list(range(10))


def test_a_torn_commit_is_void_and_its_rows_are_redone(root: str) -> None:
    table(root)
    storage.write_bytes(storage.join(root, "commits/00000001.json"), b'{"writer":"x","add":[{"fi')
    driver = table(root)
    assert driver.state.missing() == ((0, 10),)
    driver.commit([propose(root, 0, 10)])
    assert visible(root) == list(range(10))
    assert storage.exists(storage.join(root, "commits/00000002.json"))


def test_other_settings_are_refused_by_name(root: str) -> None:
    table(root, seed=0)
    with pytest.raises(StaleArtifactError, match="seed: the run has 0, the configuration says 1"):
        table(root, seed=1)


def test_of_many_racing_drivers_each_row_is_committed_once(root: str) -> None:
    drivers = [table(root) for _ in range(4)]
    offers = [[propose(root, row, row + 1) for row in range(10)] for _ in drivers]
    accepted: list[Proposal] = []

    def run(driver: CommittedTable, mine: list[Proposal]) -> None:
        for one in mine:
            accepted.extend(driver.commit([one]))

    threads = [
        threading.Thread(target=run, args=pair) for pair in zip(drivers, offers, strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(accepted) == 10
    assert sorted(visible(root)) == list(range(10))


def test_a_store_without_conditional_puts_needs_a_single_writer() -> None:
    import fsspec
    from fsspec.implementations.memory import MemoryFileSystem

    class Forgetful(MemoryFileSystem):
        """Overwrites where it should refuse, as some S3 look-alikes do."""

        protocol = "forgetful"
        store: dict[str, object] = {}

        def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **_: object) -> None:
            super().pipe_file(path, value, mode="overwrite")

    fsspec.register_implementation("forgetful", Forgetful, clobber=True)
    root = f"forgetful://{uuid.uuid4().hex}"
    with pytest.raises(InputError, match=r"compute\.single_writer=true"):
        table(root)
    alone = CommittedTable(root, log=f"{root}/commits", rows=10, single_writer=True)
    alone.open({"seed": 0})
    alone.commit([propose(root, 0, 6)])
    again = CommittedTable(root, log=f"{root}/commits", rows=10, single_writer=True)
    again.open({"seed": 0})
    assert again.state.missing() == ((6, 10),)
    with pytest.raises(StaleArtifactError, match="seed"):
        again.open({"seed": 1})
