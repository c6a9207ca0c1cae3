"""CommittedTable on a real folder and on a real S3 server."""

from __future__ import annotations

import threading
import time
import uuid
from pathlib import Path

import pyarrow as pa
import pytest

from clusterlib import storage
from clusterlib.errors import StaleArtifactError
from clusterlib.tables.committed import CommittedTable, write_proposal
from clusterlib.tables.protocol import Proposal


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


def test_orphans_go_once_the_table_is_complete(root: str) -> None:
    driver = table(root)
    driver.commit([propose(root, 0, 6)])
    propose(root, 6, 8)
    with pytest.raises(ValueError, match="unfinished"):
        driver.delete_orphans(["data"])
    driver.commit([propose(root, 6, 10)])
    assert len(driver.delete_orphans(["data", "never-written"])) == 1
    assert len(list(storage.list_files(storage.join(root, "data")))) == 2
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
