"""After people have named clusters or labelled images: a label for every image, and what to ask."""

from __future__ import annotations

import json
import re
from typing import Any

import numpy as np

from clusterlib import storage
from clusterlib.clustering.hierarchy import Hierarchy
from clusterlib.errors import ConfigError, InputError
from clusterlib.labels.answers import Answers, fill_names, fit_of, read_answers
from clusterlib.labels.plan import Plan, make_plan
from clusterlib.labels.probe import Probe, probe_bytes
from clusterlib.labels.propagate import Beliefs, label_rows
from clusterlib.run import Fit
from clusterlib.stages.clusters.model_files import read_hierarchy, read_model
from clusterlib.stages.clusters.other_fit import PLAN
from clusterlib.stages.labeling.choose_images import write_review
from clusterlib.stages.labeling.learn_labels import Landmarks, learn_labels, read_landmarks
from clusterlib.stages.labeling.manifest_slices import (
    RowSlice,
    iter_slices,
    read_assignments,
    read_manifest,
    read_vectors,
    row_slices,
)
from clusterlib.stages.session import Session
from clusterlib.tables.parquet import encode_parquet, read_parquet

VECTOR_ROWS = 8_192  # embeddings a worker holds at once


def apply_labels(
    session: Session, names: str | None = None, corrections: str | None = None
) -> None:
    """Write `labels/` from returned files: names of clusters, corrections of images, or both.

    Raises:
        ConfigError: no file is named.
        InputError: it is missing, of another run, or contradicts itself; nothing is written.
    """
    files = [path for path in (names, corrections) if path]
    if not files:
        raise ConfigError(
            "names: required; give names=<path of the filled-in cluster_names.csv or of an export "
            "of Label Studio>, or corrections=<the same for images>"
        )
    with session.stage("apply_labels") as (progress, facts):
        embeddings, run_id = session.embeddings()
        contents = [_read_file(path) for path in files]
        fit = _named_fit(session, contents[0], run_id)
        assigned = session.assignments(fit, embeddings.state.rows)
        hierarchy = read_hierarchy(fit.model)
        groups = _groups(hierarchy)
        answers = Answers()
        for content in contents:
            answers |= read_answers(content, run_id=run_id, fit_id=fit.fit_id, groups=groups)
        if not (answers.names or answers.purities or answers.image_ids):
            raise InputError(f"names: {files[0]} holds no name; fill in its name column")
        plan = _plan(answers, groups, hierarchy)
        session.start_ray()
        rows_per_slice = session.config.manifests.rows_per_file
        slices = row_slices(embeddings, assigned, rows_per_slice=rows_per_slice)
        landmarks = read_landmarks(session, fit, embeddings, slices, asked=answers.image_ids)
        images = _image_labels(answers, plan, hierarchy)
        learned = learn_labels(landmarks, plan, images, seed=session.config.seed)
        # As for manifests: nothing of an earlier sheet may stand beside the new labels.
        for part in ("labels.json", "labels", "review", "probe.npz", PLAN):
            storage.delete(storage.join(fit.labels, part))
        if learned is not None:
            storage.write_bytes(storage.join(fit.labels, "probe.npz"), probe_bytes(learned.probe))
        counts = label_all(
            session,
            fit,
            slices,
            plan,
            images,
            learned.probe if learned else None,
            everywhere=not answers.names,
        )
        asked = write_review(session, fit, run_id, landmarks, answers, hierarchy)
        record = _record(counts, plan, landmarks, images, learned, asked)
        record["cluster_names"] = _cluster_names(answers)
        taught = {
            "names": plan.names_M,
            "purities": plan.purities_M,
            "everywhere": not answers.names,
            **{k: record[k] for k in ("cluster_names", "probe_right_on_held_out_checked")},
        }
        storage.write_json(storage.join(fit.labels, PLAN), taught)
        storage.write_json(storage.join(fit.labels, "labels.json"), record)
        progress.note(
            f"{record['labelled']:,} of {record['rows']:,} images labelled with "
            f"{record['names']} names, in {fit.labels}"
        )
        record.pop("cluster_names")
        facts.update(record)


def read_cluster_names(fit: Fit) -> dict[int, str]:
    """The names that people gave whole clusters, once they were applied."""
    record = storage.read_json(storage.join(fit.labels, "labels.json")) or {}
    return {int(cluster): name for cluster, name in record.get("cluster_names", {}).items()}


def _cluster_names(answers: Answers) -> dict[str, str]:
    return {
        group: name
        for group, name in answers.names.items()
        if group.isdecimal() and answers.purities.get(group) != "junk"
    }


def name_by_majority(session: Session) -> tuple[str, float]:
    """Fill the sheet with each cluster's most frequent true label, as a person would.

    Returns the URI of the filled sheet and the share of images whose true label that is.

    Raises:
        InputError: the catalogue has no labels.
    """
    embeddings, run_id = session.embeddings()
    fit = session.fit(run_id)
    session.assignments(fit, embeddings.state.rows)
    clusters = read_parquet(fit.clusters).to_pylist()
    majority = {row["cluster_id"]: row["majority_label"] for row in clusters}
    if not all(majority.values()):
        raise InputError("catalog.label_column: true labels are needed to name clusters by them")
    sheet = storage.read_bytes(storage.join(fit.manifests, "cluster_names.csv"))
    filled = storage.join(fit.labels, "cluster_names.csv")
    storage.write_bytes(filled, fill_names(sheet, majority))
    right = sum(row["majority_share"] * row["size"] for row in clusters)
    return filled, right / sum(row["size"] for row in clusters)


def _groups(hierarchy: Hierarchy) -> dict[str, int]:
    """Node of every cluster, `7`, and of every branch inside one, `7/412`."""
    groups: dict[str, int] = {}
    for node, cluster in enumerate(hierarchy.cluster_id_V):
        if cluster >= 0:
            groups[f"{cluster}/{node}"] = node
            groups[str(cluster)] = node  # the cluster itself is its last node
    return groups


def _plan(answers: Answers, groups: dict[str, int], hierarchy: Hierarchy) -> Plan:
    spoken = {*answers.names, *answers.purities}
    branches = {group: hierarchy.leaves_of(groups[group]) for group in spoken}
    return make_plan(answers.names, answers.purities, branches=branches, leaves=hierarchy.leaves)


def _image_labels(answers: Answers, plan: Plan, hierarchy: Hierarchy) -> dict[str, str]:
    """Labels by image id; an image moved to a cluster gets its name, if it has one."""
    images = dict(answers.labels)
    for image_id, cluster in answers.moves.items():
        micro = int(np.flatnonzero(hierarchy.micro_cluster_ids_M == cluster)[0])
        name = plan.names_M[micro]
        if name is not None:
            images.setdefault(image_id, name)
    return images


def label_all(
    session: Session,
    fit: Fit,
    slices: list[RowSlice],
    plan: Plan,
    images: dict[str, str],
    probe: Probe | None,
    *,
    everywhere: bool,
) -> dict[str, int]:
    """Label every slice; returns how many rows there are of each source."""
    counts: dict[str, int] = {}
    for batch in iter_slices(
        _label_slice,
        slices,
        catalog=session.run.catalog,
        fit=fit,
        plan=plan,
        images=images,
        probe=probe,
        everywhere=everywhere,
    ):
        for text in batch["counts"]:
            for source, count in json.loads(text).items():
                counts[source] = counts.get(source, 0) + count
    return counts


def _label_slice(
    batch: dict[str, np.ndarray],
    *,
    slices: list[RowSlice],
    catalog: str,
    fit: Fit,
    plan: Plan,
    images: dict[str, str],
    probe: Probe | None,
    everywhere: bool,
) -> dict[str, list[str]]:
    number = int(batch["id"][0])
    part = slices[number]
    manifest = read_manifest(catalog, part)
    micro_N = np.full(manifest.num_rows, -1, dtype=np.int32)
    assigned = read_assignments(part).select(["row_id", "micro_id"])
    offsets = assigned["row_id"].to_numpy() - part.start
    inside = (offsets >= 0) & (offsets < len(micro_N))
    micro_N[offsets[inside]] = assigned["micro_id"].to_numpy()[inside]
    beliefs = _beliefs(part, fit, probe, rows=len(micro_N)) if probe else None
    labels = label_rows(
        manifest, micro_N, plan, images=images, beliefs=beliefs, everywhere=everywhere
    )
    uri = storage.join(fit.labels, f"labels/part-{number:05d}.parquet")
    storage.write_bytes(uri, encode_parquet(labels))
    sources = labels["label_source"].value_counts().to_pylist()
    return {"counts": [json.dumps({row["values"]: row["counts"] for row in sources})]}


def _beliefs(part: RowSlice, fit: Fit, probe: Probe, *, rows: int) -> Beliefs:
    space = read_model(fit.model).space
    found_NC = np.full((rows, len(probe.classes)), np.nan, dtype=np.float32)
    for first in range(part.start, part.stop, VECTOR_ROWS):
        ids, x_ND = read_vectors(part, start=first, stop=min(first + VECTOR_ROWS, part.stop))
        if len(ids):
            found_NC[ids - part.start] = probe.probabilities(space.transform(x_ND))
    return Beliefs(probe.classes, found_NC)


def _record(
    counts: dict[str, int],
    plan: Plan,
    landmarks: Landmarks,
    images: dict[str, str],
    learned: Any,
    asked: int,
) -> dict[str, Any]:
    """What labels.json says, with the accuracy on the part that people checked."""
    checked = [
        (plan.label(int(micro)), images[image_id])
        for image_id, micro in zip(landmarks.image_ids, landmarks.micro_ids_L, strict=True)
        if image_id in images
    ]
    by_name = [(name, said) for name, said in checked if name is not None]
    return {
        "rows": sum(counts.values()),
        "labelled": sum(counts.get(source, 0) for source in ("image", "cluster", "model")),
        "names": len({*filter(None, plan.names_M), *images.values()}),
        "sources": dict(sorted(counts.items())),
        "checked_images": len(checked),
        "cluster_names_right_on_checked": (
            sum(name == said for name, said in by_name) / len(by_name) if by_name else None
        ),
        "probe_right_on_held_out_checked": learned.accuracy if learned else None,
        "probe_temperature": learned.probe.temperature if learned else None,
        "review": asked,
    }


def _named_fit(session: Session, content: bytes, run_id: str) -> Fit:
    """The fit whose clusters the file names, when this run has it; else the configured one."""
    configured = session.fit(run_id)
    named = fit_of(content)
    if named is None or not re.fullmatch(r"[0-9a-f]{12}", named):
        return configured
    fit = session.run.fit(named)
    return fit if storage.exists(fit.clusters) else configured


def _read_file(path: str) -> bytes:
    try:
        return storage.read_bytes(storage.absolute(path))
    except FileNotFoundError:
        raise InputError(f"names: {path}: no such file") from None
    except (OSError, storage.NotRegularFileError) as error:
        raise InputError(f"names: {path} cannot be read: {error}") from None
