"""Proof that a run holds what it says: files match their commits, every row is found once."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa

from clusterlib import storage
from clusterlib.catalog.frozen import CatalogInfo, is_intact
from clusterlib.errors import DamagedArtifactError
from clusterlib.run import fingerprint
from clusterlib.stages.session import Session, run_id
from clusterlib.stages.streaming import batches, run_tasks
from clusterlib.tables.committed import CommittedTable
from clusterlib.tables.parquet import read_schema
from clusterlib.tables.protocol import CommittedFile
from clusterlib.tables.ranges import Ranges, RowSet, ranges_of, subtract
from clusterlib.tables.schemas import ASSIGNMENTS, QUARANTINE, embeddings_schema, sample_schema
from clusterlib.tables.verify import Conservation, check_file

TASK_BYTES = 256 * 2**20
SHOWN_PROBLEMS = 20


def verify_run(session: Session) -> None:
    """Read every file of the run and of the configured fit.

    Raises:
        DamagedArtifactError: something is missing, altered, doubled, or not what was committed.
        InputError: there is nothing to verify yet.
    """
    with session.stage("verify_run") as (progress, facts):
        catalog = session.catalog()
        table, settings = session.committed_embeddings()
        session.start_ray()
        problems = [] if is_intact(session.run.catalog, catalog) else [_CATALOG_ALTERED]
        facts.update(rows=catalog.rows, committed=len(table.state.committed), files=0, bytes=0)
        embedded = _verify_embeddings(session, table, settings, problems, facts)
        if table.is_complete:
            fit = session.fit(run_id(settings, table))
            if storage.exists(fit.clusters):
                _verify_assignments(
                    session.assignments(fit, catalog.rows), embedded, problems, facts
                )
                facts["fit"] = fit.fit_id
        facts["problems"] = problems
        progress.note(_verdict(catalog, facts))
        for problem in problems[:SHOWN_PROBLEMS]:
            session.screen.say(f"problem: {problem}")
    if problems:
        raise DamagedArtifactError(
            f"{session.run.uri}: {len(problems)} problems, the first: {problems[0]}. Restore the "
            "files, or start again with a new run_uri"
        )


_CATALOG_ALTERED = "catalog/: the parts are not those that were frozen"


def _verdict(catalog: CatalogInfo, facts: dict[str, Any]) -> str:
    committed, fit = facts["committed"], facts.get("fit")
    what = f"{committed:,} of {catalog.rows:,} rows in {facts['files']:,} files"
    which = f"embeddings and fit {fit}" if fit else "embeddings, no fit yet"
    end = f"{len(facts['problems']):,} problems" if facts["problems"] else "each once, all intact"
    return f"{what}: {end} ({which})"


def _verify_embeddings(
    session: Session,
    table: CommittedTable,
    settings: dict[str, Any],
    problems: list[str],
    facts: dict[str, Any],
) -> RowSet:
    """Check the three datasets of embedding; returns the embedded rows."""
    embedded, sampled = RowSet(), RowSet()
    all_rows = Conservation(table.state.committed)
    footer = {"run_id": fingerprint(settings), "dtype": settings["encoder.storage"]}
    schemas: dict[str, tuple[pa.Schema, dict[str, str]]] = {"quarantine": (QUARANTINE, {})}
    for file in table.files("embeddings")[:1]:
        dim = int((read_schema(table.uri(file)).metadata or {}).get(b"dim", b"1"))
        storage_type = settings["encoder.storage"]
        schemas["embeddings"] = (embeddings_schema(dim, storage_type), footer)
        schemas["sample"] = (sample_schema(dim, storage_type), {})
    for dataset, path, ranges, problem in _checked(table, schemas, facts):
        if problem:
            problems.append(problem)
        elif dataset == "sample":
            sampled.add(ranges)
        else:
            all_rows.add(ranges, origin=path)
            embedded.add(ranges if dataset == "embeddings" else ())
    problems += all_rows.finish()
    if subtract(sampled.ranges, embedded.ranges):
        problems.append("sample/: holds rows that are not embedded")
    return embedded


def _verify_assignments(
    table: CommittedTable, embedded: RowSet, problems: list[str], facts: dict[str, Any]
) -> None:
    rows = Conservation(embedded)
    for _, path, ranges, problem in _checked(table, {"assignments": (ASSIGNMENTS, {})}, facts):
        if problem:
            problems.append(problem)
        else:
            rows.add(ranges, origin=path)
    problems += [f"assignments: {problem}" for problem in rows.finish()]


def _checked(
    table: CommittedTable,
    schemas: dict[str, tuple[pa.Schema, dict[str, str]]],
    facts: dict[str, Any],
) -> Iterator[tuple[str, str, Ranges, str]]:
    """Dataset, path, row ranges and problem of every file, read where there is room."""
    files = [file for dataset in schemas for file in table.files(dataset)]
    facts["files"] += len(files)
    facts["bytes"] += sum(file.entry.bytes for file in files)
    groups = group_by_bytes(files)
    found = run_tasks(_check_group, len(groups), root=table.root, groups=groups, schemas=schemas)
    for batch in batches(found):
        for text in batch["file"]:
            dataset, path, ranges, problem = json.loads(text)
            yield dataset, path, tuple((start, stop) for start, stop in ranges), problem


def group_by_bytes(files: list[CommittedFile]) -> list[list[CommittedFile]]:
    """Files in order, cut into groups of about TASK_BYTES."""
    groups: list[list[CommittedFile]] = []
    size = TASK_BYTES
    for file in files:
        if size >= TASK_BYTES:
            groups.append([])
            size = 0
        groups[-1].append(file)
        size += file.entry.bytes
    return groups


def _check_group(
    batch: dict[str, np.ndarray],
    *,
    root: str,
    groups: list[list[CommittedFile]],
    schemas: dict[str, tuple[pa.Schema, dict[str, str]]],
) -> dict[str, list[str]]:
    answers = []
    for file in groups[int(batch["id"][0])]:
        schema, footer = schemas[file.entry.dataset]
        ranges: Ranges = ()
        problem = ""
        try:
            rows = check_file(root, file, schema=schema, metadata=footer)
            ranges = ranges_of(rows["row_id"].to_numpy())
            if "embedding" in schema.names and not _is_finite(rows["embedding"]):
                problem = f"{file.entry.path}: holds vectors that are not finite"
        except DamagedArtifactError as error:
            problem = str(error)
        answers.append(json.dumps([file.entry.dataset, file.entry.path, ranges, problem]))
    return {"file": answers}


def _is_finite(vectors: pa.ChunkedArray) -> bool:
    parts = (part.flatten().to_numpy(zero_copy_only=False) for part in vectors.chunks)
    return all(bool(np.isfinite(part).all()) for part in parts)
