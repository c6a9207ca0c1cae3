"""Stage 6: the offline report. Numbers and pictures are gathered, then every page is written.

report/index.html, quality, rejected, tree, map    pages
report/clusters/, sheets/, map/, assets/           a page and a contact sheet a cluster, atlases
report/report.json                                 every number shown; written last
report/map.parquet                                 the map for other viewers
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from clusterlib import storage
from clusterlib.config import result_settings
from clusterlib.errors import InputError, StaleArtifactError
from clusterlib.report.site import pages
from clusterlib.run import Fit
from clusterlib.stages.clusters.cluster_rows import read_clusters, read_proposals
from clusterlib.stages.clusters.model_files import read_hierarchy, read_model
from clusterlib.stages.labeling.apply_labels import read_cluster_names
from clusterlib.stages.reporting.gather import Parts, gather
from clusterlib.stages.reporting.make_map import make_map, write_map_parquet
from clusterlib.stages.reporting.pictures import (
    ATLAS_SHARE,
    write_all,
    write_atlases,
    write_contact_sheets,
)
from clusterlib.stages.reporting.rows import read_rejects, read_rows_facts, read_sample
from clusterlib.stages.reporting.write_status import delete_status, write_status
from clusterlib.stages.session import Session
from clusterlib.tables.committed import CommittedTable

LAYOUT = 4  # of the report's files; a report of another layout is written again


@dataclass(frozen=True)
class _Ready:
    """A fit that a full report can be made of."""

    fit: Fit
    run_id: str
    embeddings: CommittedTable
    assigned: CommittedTable


@dataclass(frozen=True)
class _Words:
    """Names that people gave clusters, and those proposed to them."""

    names: dict[int, str]
    proposals: dict[int, list[dict[str, Any]]]

    @classmethod
    def shown_in(cls, numbers: dict[str, Any]) -> _Words:
        """The words of a report that is there, from its report.json."""
        rows = numbers.get("clusters", ())
        return cls(
            {row["cluster_id"]: row["name"] for row in rows if row["name"]},
            {row["cluster_id"]: row["proposals"] for row in rows if row.get("proposals")},
        )


def write_report(session: Session) -> None:
    """Write `report/` of the configured fit, or keep what is there.

    A run that is not finished gets a report of what is there, `report/` of the run itself.

    Raises:
        InputError: the assignments are not complete.
    """
    with session.stage("write_report") as (progress, facts):
        try:
            ready = _ready(session)
        except StaleArtifactError:
            raise
        except InputError as error:
            place = write_status(session, problem=str(error))
            raise InputError(f"{error}; what is there so far: {place}") from None
        fit = ready.fit
        index = storage.join(fit.report, "index.html")
        # Everything the page shows and the fit alone does not decide.
        wanted = json.loads(json.dumps(dict(result_settings(session.config))))
        words = _Words(read_cluster_names(fit), read_proposals(session, fit))
        found = storage.read_json(_numbers_uri(fit)) or {}
        if (
            found.get("settings") != wanted
            or found.get("layout") != LAYOUT
            or _Words.shown_in(found) != words
        ):
            session.start_ray()
            storage.delete(_numbers_uri(fit))  # see write_manifests
            numbers = _write(session, ready, words)
            storage.write_json(_numbers_uri(fit), numbers | {"layout": LAYOUT})
            progress.note(f"{len(numbers['clusters']):,} clusters, {numbers['size_mb']:.1f} MB")
        else:
            progress.note("already written")
        delete_status(session)
        latest = {
            "run_id": ready.run_id,
            "fit_id": fit.fit_id,
            "report": index,
            "finished_at": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        }
        storage.write_json(session.run.latest, latest)
        facts.update(report=index, manifests=fit.manifests)


def _ready(session: Session) -> _Ready:
    embeddings, run_id = session.embeddings()
    fit = session.fit(run_id)
    assigned = session.assignments(fit, embeddings.state.rows)
    return _Ready(fit, run_id, embeddings, assigned)


def _write(session: Session, ready: _Ready, words: _Words) -> dict[str, Any]:
    """Write every file but report.json; returns what goes into it."""
    fit, embeddings = ready.fit, ready.embeddings
    clusters = read_clusters(fit)
    model = read_model(fit.model)
    has_tree = storage.exists(storage.join(fit.model, "hierarchy.parquet"))
    contacts = write_contact_sheets(session, storage.join(fit.report, "sheets"), clusters)
    facts = read_rows_facts(session, ready.assigned, embeddings, k=len(clusters))
    sample = read_sample(session, embeddings, model, facts.sample["row_id"].to_numpy())
    made = make_map(session, facts.sample, sample)
    thumbnails = [sample.thumbnails[i] for i in made.order_N[: made.points.pictures]]
    write_atlases(storage.join(fit.report, "map"), thumbnails)
    room = int(ATLAS_SHARE * session.config.report.max_mb * 2**20)
    write_map_parquet(
        storage.join(fit.report, "map.parquet"), facts.sample, sample, made, bytes_left=room
    )
    parts = Parts(
        clusters=clusters,
        facts=facts,
        contacts=contacts,
        rejects=read_rejects(embeddings),
        model=model,
        hierarchy=read_hierarchy(fit.model) if has_tree else None,
        order_N=made.order_N,
        pictures=made.points.pictures,
        map=made.facts,
        names=words.names,
        proposals=words.proposals,
    )
    content = gather(session, fit, embeddings, ready.run_id, parts)
    write_all(
        lambda page: storage.write_bytes(storage.join(fit.report, page[0]), page[1].encode()),
        pages(content, made.points),
    )
    size = sum(info.size_bytes or 0 for info in storage.list_files(fit.report))
    return content.numbers() | {"size_mb": round(size / 2**20, 2)}


def _numbers_uri(fit: Fit) -> str:
    return storage.join(fit.report, "report.json")
