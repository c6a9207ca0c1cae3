"""Stores that are busy, cut off, expired, gone or unknown, in front of readers and whole jobs."""

from __future__ import annotations

import statistics
import time
import uuid
from pathlib import Path
from typing import Any

import pytest

from clusterlib import storage
from clusterlib.errors import StoreRefusedError
from clusterlib.images.codes import Rejection
from clusterlib.stages.embedding.fetching import Reader, ReadPlan
from tests.chaos.conftest import Record
from tests.chaos.proxy import Fault, FaultProxy, healthy, rates
from tests.chaos.runs import (
    Job,
    check_run,
    committed,
    embedding,
    record_of,
    tree_for,
    wait_until,
    write_jpegs,
)

ROWS = 600


@pytest.fixture
def bucket(proxy: FaultProxy) -> str:
    import s3fs

    name = f"b-{uuid.uuid4().hex}"
    s3fs.S3FileSystem().mkdir(name)
    return name


def test_a_reader_rejects_nothing_that_a_busy_store_owns(proxy: FaultProxy, bucket: str) -> None:
    body = b"x" * 20_000
    for number in range(150):
        storage.write_bytes(f"s3://{bucket}/{number}", body)
    rows = [{"uri": f"s3://{bucket}/{n}", "size_bytes": len(body)} for n in range(150)]
    found: dict[int, bytes | Rejection] = {}
    proxy.fault = rates(0, busy=0.1, reset=0.02, short=0.02, stall=0.01)
    reader = Reader(ReadPlan(threads=16, max_bytes=10**6))
    reader.read(rows, found.__setitem__)
    assert found == dict.fromkeys(range(150), body)
    assert proxy.faults["busy"] > 5
    # What it took is known of each image: every fault cost one of them a further try.
    faults = proxy.faults.total() - proxy.faults["pass"]
    assert sum(one.tries - 1 for one in reader.spent.values()) == faults
    assert max(one.seconds for one in reader.spent.values()) > 0.05


@pytest.mark.parametrize("what", ["expired", "no_bucket", "denied"])
def test_a_reader_stops_when_everything_is_refused(
    proxy: FaultProxy, bucket: str, what: str
) -> None:
    """After images could be read, so that a refusal of all of them is not about any of them."""
    for number in range(40):
        storage.write_bytes(f"s3://{bucket}/{number}", b"x")
    rows = [{"uri": f"s3://{bucket}/{n}", "size_bytes": 1} for n in range(40)]
    reader = Reader(ReadPlan(threads=4, max_bytes=100))
    found: dict[int, bytes | Rejection] = {}
    reader.read(rows[:10], found.__setitem__)
    proxy.fault = lambda request: what
    started = time.monotonic()
    with pytest.raises(StoreRefusedError, match="s3://"):
        reader.read(rows, found.__setitem__)
    assert time.monotonic() - started < 60
    assert [one for one in found.values() if isinstance(one, Rejection)] == []


def test_one_denied_image_is_a_bad_image(proxy: FaultProxy, bucket: str) -> None:
    proxy.fault = lambda request: "denied" if request.path.endswith("/7") else "pass"
    found = {}
    for number in range(10):
        if number != 7:
            storage.write_bytes(f"s3://{bucket}/{number}", b"x")
    rows = [{"uri": f"s3://{bucket}/{n}", "size_bytes": 1} for n in range(10)]
    Reader(ReadPlan(threads=4, max_bytes=100)).read(rows, found.__setitem__)
    assert [n for n, one in found.items() if isinstance(one, Rejection)] == [7]
    assert found[7].code == "forbidden"


# --- whole jobs


@pytest.fixture
def images(bucket: str) -> str:
    uri = f"s3://{bucket}/images"
    write_jpegs(uri, ROWS)
    return uri


def s3_tree(images: str, name: str, *, block_rows: int = 32) -> tuple[dict[str, Any], str]:
    run = images.removesuffix("images") + name
    compute = {"embed": {"block_rows": block_rows, "device": "cpu"}}
    return tree_for(images, run, compute=compute), run


@pytest.mark.chaos
def test_faults_of_a_bad_day(
    tmp_path: Path, proxy: FaultProxy, images: str, record: Record
) -> None:
    rates_of: dict[str, list[float]] = {"calm": [], "bad": []}
    requests: dict[str, list[int]] = {"calm": [], "bad": []}
    for number in range(5):
        for kind in rates_of:
            tree, run = s3_tree(images, f"{kind}-{number}", block_rows=256)
            catalog = Job(tmp_path, tree, name="build_catalog")
            assert catalog.wait() == 0, catalog.out
            proxy.reset_counts()
            if kind == "bad":
                proxy.fault = rates(number, busy=0.10, reset=0.02, short=0.02, stall=0.01)
            job = Job(tmp_path, tree, name="embed_images")
            assert job.wait() == 0, job.out
            proxy.fault = healthy
            requests[kind].append(proxy.total)
            assert check_run(run, ROWS) == {}
            facts = record_of(run)["stages"]["embed_images"]
            rates_of[kind].append(facts["images_per_second"])
    ratios = [bad / calm for bad, calm in zip(rates_of["bad"], rates_of["calm"], strict=True)]
    more = [bad / calm for bad, calm in zip(requests["bad"], requests["calm"], strict=True)]
    record(
        "10 % 503, 2 % resets, 2 % short bodies, 1 % stalls, in every request of a run",
        "0 quarantined, ≤ 1.3 × the requests, ≥ 60 % of the throughput",
        f"0; {statistics.median(more):.2f} × ({min(more):.2f}-{max(more):.2f}); "
        f"{statistics.median(ratios):.0%} ({min(ratios):.0%}-{max(ratios):.0%}), "
        "medians of 5 pairs",
    )
    assert statistics.median(more) <= 1.3


@pytest.mark.chaos
@pytest.mark.parametrize("what", ["expired credentials", "wrong bucket", "broken DNS"])
def test_what_breaks_everything_stops_the_job(
    tmp_path: Path, proxy: FaultProxy, images: str, record: Record, what: str
) -> None:
    tree, run = s3_tree(images, what.replace(" ", "-").lower())
    no_dns = tmp_path / "no-dns"
    env = {
        "CHAOS_HOST": "store.test",
        "CHAOS_NO_DNS": str(no_dns),
        "AWS_ENDPOINT_URL": proxy.url.replace("127.0.0.1", "store.test"),
    }
    faults: dict[str, Fault] = {
        "broken DNS": lambda request: "reset",  # or open connections would go on being used
        "expired credentials": lambda request: "expired",
        "wrong bucket": lambda request: "no_bucket",
    }
    job = embedding(tmp_path, tree, **env)
    wait_until(lambda: committed(run, ROWS) >= 100, job)
    broken = time.monotonic()
    if what == "broken DNS":
        no_dns.touch()
    proxy.fault = faults[what]
    code = job.wait(120)
    seconds = time.monotonic() - broken
    proxy.fault = healthy
    no_dns.unlink(missing_ok=True)
    assert code == 3, job.out
    assert "Traceback" not in job.out
    assert "error: " in job.out
    assert check_run(run, ROWS, complete=False) == {}
    before = committed(run, ROWS)
    again = embedding(tmp_path, tree, **env)
    assert again.wait() == 0, again.out
    assert check_run(run, ROWS) == {}
    record(
        f"{what} in mid-run",
        "stop ≤ 60 s, non-zero, 0 quarantined, resumable",
        f"exit {code} after {seconds:.0f} s, 0 quarantined, {before} of {ROWS} kept, then complete",
    )
    assert seconds <= 60


@pytest.mark.chaos
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_what_a_kill_costs(
    tmp_path: Path, proxy: FaultProxy, images: str, record: Record, share: float
) -> None:
    tree, run = s3_tree(images, f"killed-{share}")
    proxy.reset_counts()
    job = embedding(tmp_path, tree)
    wait_until(lambda: committed(run, ROWS) >= share * ROWS, job)
    job.kill()
    kept = committed(run, ROWS)
    prefix = "/" + images.removeprefix("s3://") + "/"
    fetched = sum(proxy.fetches(prefix).values())
    again = Job(tmp_path, tree, name="embed_images")
    assert again.wait() == 0, again.out
    assert check_run(run, ROWS) == {}
    extra = sum(proxy.fetches(prefix).values()) - ROWS
    # Whatever was committed is not fetched again.
    assert sum(proxy.fetches(prefix).values()) - fetched == ROWS - kept
    proxy.reset_counts()
    third = Job(tmp_path, tree, name="embed_images")
    assert third.wait() == 0
    assert proxy.fetches(prefix) == {}
    record(
        f"resume after a kill at {share:.0%}",
        "re-decodes at most what was in flight; a finished stage reads nothing",
        f"{kept} of {ROWS} kept, {extra} fetched twice (in flight: fetched and not committed); "
        f"finished stage 0 in {third.seconds:.1f} s",
    )


@pytest.mark.chaos
def test_an_outage_is_waited_for(
    tmp_path: Path, proxy: FaultProxy, images: str, record: Record
) -> None:
    tree, run = s3_tree(images, "outage")
    job = embedding(tmp_path, tree)
    wait_until(lambda: committed(run, ROWS) >= 100, job)
    proxy.fault = lambda request: "busy"
    time.sleep(60)
    proxy.fault = healthy
    assert job.wait() == 0, job.out
    assert check_run(run, ROWS) == {}
    record(
        "the store answers 503 to everything for 60 s", "waits, goes on", "complete, 0 quarantined"
    )
