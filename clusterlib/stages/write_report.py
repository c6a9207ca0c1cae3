"""Stage 6: fetch the pictures of every cluster's picks again and write one offline page."""

from __future__ import annotations

import json
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timezone
from typing import Any

import numpy as np

import clusterlib
from clusterlib import storage
from clusterlib.clustering.picks import KINDS
from clusterlib.config import result_settings
from clusterlib.images.codes import CODES
from clusterlib.images.decode import Limits, thumbnail_webp
from clusterlib.report.page import Page, render
from clusterlib.report.sheets import sheet_webp
from clusterlib.run import Fit
from clusterlib.stages.assign_clusters import read_agreement
from clusterlib.stages.fetching import read_image
from clusterlib.stages.fit_clusters import read_record
from clusterlib.stages.session import Session
from clusterlib.stages.streaming import batches, run_tasks
from clusterlib.tables.committed import CommittedTable
from clusterlib.tables.parquet import read_parquet

REJECTED_EXAMPLES = 50
FETCH_THREADS = 8


def write_report(session: Session) -> None:
    """Write `report/index.html` and its contact sheets, or keep those that are there.

    Raises:
        InputError: the assignments are not complete.
    """
    with session.stage("write_report") as (progress, facts):
        embeddings, run_id = session.embeddings()
        fit = session.fit(run_id)
        session.assignments(fit, embeddings.state.rows)
        index = storage.join(fit.report, "index.html")
        clusters = read_parquet(fit.clusters).to_pylist()
        # Everything the page shows and the fit alone does not decide.
        wanted = dict(result_settings(session.config))
        if storage.read_json(_record_uri(fit)) != json.loads(json.dumps(wanted)):
            session.start_ray()
            storage.delete(_record_uri(fit))  # see write_manifests
            _write_contact_sheets(session, fit, clusters)
            page = render(_page(session, fit, embeddings, run_id, clusters))
            storage.write_bytes(index, page.encode())
            storage.write_json(_record_uri(fit), wanted)
            progress.note(f"{len(clusters)} contact sheets")
        else:
            progress.note("already written")
        latest = {
            "run_id": run_id,
            "fit_id": fit.fit_id,
            "report": index,
            "finished_at": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        }
        storage.write_json(session.run.latest, latest)
        facts.update(report=index, manifests=fit.manifests)


def _write_contact_sheets(session: Session, fit: Fit, clusters: list[dict[str, Any]]) -> None:
    picks = [
        (row["cluster_id"], [pick["uri"] for kind in KINDS for pick in row[kind]])
        for row in clusters
    ]
    config = session.config
    done = run_tasks(
        _write_contact_sheet,
        len(picks),
        picks=picks,
        folder=storage.join(fit.report, "sheets"),
        size=config.report.thumbnail_size,
        max_bytes=config.images.max_bytes,
        limits=Limits(max_pixels=config.images.max_pixels, formats=config.images.formats),
    )
    for _ in batches(done):
        pass


def _write_contact_sheet(
    batch: dict[str, np.ndarray],
    *,
    picks: list[tuple[int, list[str]]],
    folder: str,
    size: int,
    max_bytes: int,
    limits: Limits,
) -> dict[str, list[int]]:
    cluster_id, uris = picks[int(batch["id"][0])]

    def thumbnail(uri: str) -> bytes | None:
        data = read_image(uri, max_bytes=max_bytes)
        return thumbnail_webp(data, size=size, limits=limits) if isinstance(data, bytes) else None

    with ThreadPoolExecutor(FETCH_THREADS) as pool:
        thumbnails = list(pool.map(thumbnail, uris))
    name = f"cluster_{cluster_id:05d}.webp"
    storage.write_bytes(storage.join(folder, name), sheet_webp(thumbnails, size=size))
    return {"cluster_id": [cluster_id]}


def _page(
    session: Session,
    fit: Fit,
    embeddings: CommittedTable,
    run_id: str,
    clusters: list[dict[str, Any]],
) -> Page:
    record = read_record(fit)
    assert record is not None  # assignments exist, so the fit does
    codes: Counter[str] = Counter()
    examples: list[dict[str, Any]] = []
    for table in embeddings.read("quarantine"):
        codes.update(table["code"].to_pylist())
        examples += table.slice(0, max(0, REJECTED_EXAMPLES - len(examples))).to_pylist()
    score = read_agreement(fit)
    return Page(
        title=session.config.report.title,
        run_id=run_id,
        fit_id=fit.fit_id,
        run_uri=session.run.uri,
        source=session.config.dump()["catalog"]["source"],
        encoder=session.config.encoder.model,
        rows=embeddings.state.rows,
        embedded=embeddings.count("embeddings"),
        rejected_by_code=dict(codes.most_common()),
        code_meanings=dict(CODES),
        rejected_examples=examples,
        k=record["k"],
        reason=record["reason"],
        agreement=score.__dict__ if score else None,
        sweep=read_parquet(storage.join(fit.model, "sweep.parquet")).to_pylist(),
        clusters=sorted(clusters, key=lambda row: (-row["size"], row["cluster_id"])),
        thumbnail_size=session.config.report.thumbnail_size,
        settings=dict(result_settings(session.config)),
        version=clusterlib.__version__,
    )


def _record_uri(fit: Fit) -> str:
    return storage.join(fit.report, "report.json")
