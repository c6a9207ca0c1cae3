"""Delete what killed jobs left behind: files that no commit names, and torn temporary files."""

from __future__ import annotations

from clusterlib import storage
from clusterlib.stages.embedding.embed_images import DATASETS
from clusterlib.stages.session import Session
from clusterlib.tables.committed import ORPHAN_AGE_S


def collect_garbage(session: Session) -> None:
    """Clean the embeddings and the assignments of every fit.

    A file goes only when it can never be committed any more: it is a day old, or its table is
    complete. Jobs may be at work on the run meanwhile.

    Raises:
        InputError: embedding has not begun.
    """
    with session.stage("collect_garbage") as (progress, facts):
        table, _ = session.committed_embeddings()
        deleted = table.delete_orphans(DATASETS)
        for fit_id in _fit_ids(session):
            fit = session.run.fit(fit_id)
            assigned = session.table(fit.uri, log=fit.assign_log, rows=table.state.rows)
            deleted += assigned.delete_orphans(("assignments",))
        deleted += storage.delete_leftovers(session.run.uri, older_than_s=ORPHAN_AGE_S)
        facts.update(deleted=len(deleted))
        progress.note(f"{len(deleted):,} files deleted")


def _fit_ids(session: Session) -> list[str]:
    folder = storage.join(session.run.uri, "fits")
    if not storage.exists(folder):
        return []
    end = "/commits/assign/00000000.json"
    uris = (info.uri for info in storage.list_files(folder))
    return [uri.removesuffix(end).rsplit("/", 1)[-1] for uri in uris if uri.endswith(end)]
