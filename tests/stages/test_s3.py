"""The whole pipeline with images and run on an S3 server gives the rows of the local one."""

from __future__ import annotations

import json
import urllib.request
import uuid
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from clusterlib.config import validate_config
from clusterlib.stages.session import Session, open_session
from jobs.run_pipeline import run_pipeline
from tests.conftest import settings


@pytest.mark.ray
@pytest.mark.usefixtures("ray_session")
def test_images_and_run_on_s3(shapes_folder: Path, tmp_path: Path) -> None:
    import s3fs

    fs = s3fs.S3FileSystem()
    bucket = f"b-{uuid.uuid4().hex}"
    fs.mkdir(bucket)
    fs.put(str(shapes_folder), f"{bucket}/images", recursive=True)
    tree = settings(f"s3://{bucket}/images", f"s3://{bucket}/run", manifests={"sign_seconds": 600})
    remote = open_session(validate_config(tree))
    run_pipeline(remote)
    local = open_session(validate_config(settings(shapes_folder, tmp_path / "run")))
    run_pipeline(local)

    def clusters(session: object, fs: object = None) -> dict[str, int]:
        record = session.record["stages"]["write_report"]["manifests"]  # type: ignore[attr-defined]
        table = pq.read_table(record.removeprefix("s3://") + "/parquet", filesystem=fs)
        return dict(
            zip(table["image_id"].to_pylist(), table["cluster_id"].to_pylist(), strict=True)
        )

    assert clusters(remote, fs) == clusters(local)
    assert len(clusters(remote, fs)) == 120
    page = fs.cat_file(remote.record["stages"]["write_report"]["report"])
    assert b"sheets/00003.webp" in page
    folder = remote.record["stages"]["write_report"]["report"].rpartition("/")[0]
    assert fs.size(f"{folder}/sheets/00003.webp") > 1_000
    (tasks,) = [
        json.loads(fs.cat_file(p)) for p in fs.glob(f"{manifests(remote)}/cluster_tasks/*.json")
    ]
    with urllib.request.urlopen(tasks[0]["data"]["contact_sheet"]) as reply:
        assert reply.read().startswith(b"\xff\xd8")
    first = json.loads(fs.cat_file(fs.glob(f"{manifests(remote)}/label_studio/*.json")[0]))[0]
    with urllib.request.urlopen(first["data"]["image"]) as reply:
        assert reply.read() == fs.cat_file(first["data"]["uri"])


def manifests(session: Session) -> str:
    record: str = session.record["stages"]["write_report"]["manifests"]
    return record.removeprefix("s3://")
