"""The report of a run that failed or is half-finished: what is there, and what is missing."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from clusterlib import storage
from clusterlib.catalog.frozen import CatalogInfo, read_info
from clusterlib.errors import ClusterlibError
from clusterlib.report.content import Content, Rejects
from clusterlib.report.sheets import ATLAS_CELLS
from clusterlib.report.site import status_pages
from clusterlib.stages.reporting.gather import run_facts
from clusterlib.stages.reporting.pictures import write_atlases
from clusterlib.stages.reporting.rows import read_rejects
from clusterlib.stages.session import Session
from clusterlib.tables.committed import CommittedTable
from clusterlib.tables.parquet import read_parquet


def write_status(session: Session, *, problem: str) -> str:
    """Write `report/` of the run and return where it lies; reads only what is committed."""
    folder = storage.join(session.run.uri, "report")
    catalog = read_info(session.run.catalog)
    table = _embeddings(session, catalog)
    rejects = Rejects({}, {}, {}, (), 0) if table is None else read_rejects(table)
    thumbnails = [] if table is None else _thumbnails(table)
    if thumbnails:
        write_atlases(storage.join(folder, "map"), thumbnails)
    embedded = 0 if table is None else table.count("embeddings")
    rows = catalog.rows if catalog else 0
    content = Content(
        **run_facts(session),
        run_id="–",
        fit_id="–",
        rows=rows,
        embedded=embedded,
        k=0,
        reason="",
        explained=(),
        sweep=(),
        clusters=(),
        rejects=rejects,
    )
    facts = [
        ("images in the catalogue", f"{rows:,}" if catalog else "–"),
        ("embedded", f"{embedded:,}"),
        ("rejected", f"{rejects.total:,}"),
        ("still to do", f"{max(rows - embedded - rejects.total, 0):,}" if catalog else "–"),
    ]
    for path, text in status_pages(
        content,
        problem=problem,
        facts=facts,
        states=_states(session, catalog, table),
        pictures=len(thumbnails),
    ):
        storage.write_bytes(storage.join(folder, path), text.encode())
    return storage.join(folder, "index.html")


@contextlib.contextmanager
def status_on_failure(session: Session) -> Iterator[None]:
    """Leave a report of what is there when a stage fails; the failure goes on."""
    try:
        yield
    except ClusterlibError as error:
        with contextlib.suppress(ClusterlibError, OSError, ValueError):
            place = write_status(session, problem=str(error))
            session.screen.say(f"what is there so far: {place}")
        raise


def delete_status(session: Session) -> None:
    """Delete the status report of a run that is finished now."""
    folder = storage.join(session.run.uri, "report")
    if storage.exists(folder):
        for info in list(storage.list_files(folder)):
            storage.delete(info.uri)


def _embeddings(session: Session, catalog: CatalogInfo | None) -> CommittedTable | None:
    if catalog is None:
        return None
    table = session.table(session.run.uri, log=session.run.embed_log, rows=catalog.rows)
    if not storage.exists(session.run.embed_log):
        return None
    table.refresh()
    return table


def _thumbnails(table: CommittedTable) -> list[bytes]:
    found: list[bytes] = []
    for file in table.files("sample"):
        found += read_parquet(table.uri(file), ["thumbnail"])["thumbnail"].to_pylist()
        if len(found) >= ATLAS_CELLS:
            break
    return found[:ATLAS_CELLS]


def _states(
    session: Session, catalog: CatalogInfo | None, table: CommittedTable | None
) -> list[tuple[str, str]]:
    states = [("build_catalog", f"done: {catalog.rows:,} images" if catalog else "not done")]
    if catalog is None or table is None:
        return [*states, ("embed_images", "not started")]
    settled = len(table.state.committed)
    states.append(
        (
            "embed_images",
            f"done: {table.count('embeddings'):,} embedded, {table.count('quarantine'):,} rejected"
            if table.is_complete
            else f"{settled:,} of {catalog.rows:,} images are settled",
        )
    )
    if not table.is_complete:
        return states
    with contextlib.suppress(ClusterlibError):
        _, run_id = session.embeddings()
        fit = session.fit(run_id)
        fitted = storage.exists(storage.join(fit.model, "model.json"))
        states.append(("fit_clusters", "done" if fitted else "not done"))
        states.append(("assign_clusters", "done" if storage.exists(fit.clusters) else "not done"))
    return states
