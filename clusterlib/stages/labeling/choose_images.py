"""The next questions: the images that teach most, and the branches of clusters to be split."""

from __future__ import annotations

import csv
import io

import numpy as np

from clusterlib import storage
from clusterlib.clustering.hierarchy import Hierarchy
from clusterlib.labels import diffusion
from clusterlib.labels.answers import Answers
from clusterlib.manifests.flat import inert
from clusterlib.manifests.label_studio import task_bytes
from clusterlib.manifests.record import Origin, Record, cluster_name
from clusterlib.run import Fit
from clusterlib.stages.clusters.model_files import read_hierarchy
from clusterlib.stages.labeling.learn_labels import Landmarks, read_landmarks
from clusterlib.stages.labeling.manifest_slices import row_slices
from clusterlib.stages.labeling.write_manifests import address
from clusterlib.stages.session import Session
from clusterlib.tables.schemas import CLUSTER_NAMES_COLUMNS

EXEMPLARS = 9


def choose_images(session: Session) -> None:
    """Write `labels/review/` before anybody has said anything: the first images to ask about.

    Raises:
        InputError: the assignments are not complete.
    """
    with session.stage("choose_images") as (progress, facts):
        embeddings, run_id = session.embeddings()
        fit = session.fit(run_id)
        assigned = session.assignments(fit, embeddings.state.rows)
        session.start_ray()
        rows_per_slice = session.config.manifests.rows_per_file
        slices = row_slices(embeddings, assigned, rows_per_slice=rows_per_slice)
        landmarks = read_landmarks(session, fit, embeddings, slices, asked=set())
        hierarchy = read_hierarchy(fit.model)
        asked = write_review(session, fit, run_id, landmarks, Answers(), hierarchy)
        facts.update(review=asked)
        progress.note(f"{asked:,} images to ask about, in {storage.join(fit.labels, 'review')}")


def write_review(
    session: Session,
    fit: Fit,
    run_id: str,
    landmarks: Landmarks,
    answers: Answers,
    hierarchy: Hierarchy,
) -> int:
    """Write `labels/review/` and return how many images are asked about.

    images.csv and a Label Studio file hold `manifests.review_budget` images that nobody has spoken
    of, the most telling first; images of mixed clusters count double. cluster_names.csv has the
    two branches of each cluster to be split.
    """
    config = session.config.manifests
    answered = np.flatnonzero(np.isin(landmarks.image_ids, sorted(answers.image_ids)))
    mixed = [
        int(group) for group, p in answers.purities.items() if p == "mixed" and "/" not in group
    ]
    weights_L = 1.0 + np.isin(landmarks.cluster_ids_L, mixed)
    chosen = diffusion.choose_images(
        landmarks.diffusion, config.review_budget, answered=answered, weights_L=weights_L
    )
    folder = storage.join(fit.labels, "review")
    storage.write_bytes(
        storage.join(folder, "images.csv"), _images_csv(landmarks, chosen, run_id, fit.fit_id)
    )
    clusters = tuple(int(c) for c in np.unique(landmarks.cluster_ids_L))
    rows = [
        Record(
            row_id=int(landmarks.row_ids_L[n]),
            image_id=landmarks.image_ids[n],
            uri=landmarks.uris[n],
            address=address(landmarks.uris[n], config=config),
            cluster_id=int(landmarks.cluster_ids_L[n]),
            score=0.5,  # unknown
            width=0,
            height=0,
        )
        for n in chosen
    ]
    tasks = task_bytes(rows, Origin(run_id, fit.fit_id, clusters))
    if tasks is not None:
        storage.write_bytes(storage.join(folder, "label_studio.json"), tasks)
    splits = _branches(answers, hierarchy)
    if splits:
        sheet = _names_csv(splits, landmarks, hierarchy, run_id, fit.fit_id)
        storage.write_bytes(storage.join(folder, "cluster_names.csv"), sheet)
    return len(chosen)


def _branches(answers: Answers, hierarchy: Hierarchy) -> list[tuple[int, int]]:
    """(cluster, node) of the two branches of every group to be split."""
    found = []
    for group in sorted(g for g, purity in answers.purities.items() if purity == "split"):
        cluster, _, node = group.partition("/")
        top = int(node) if node else hierarchy.cluster_node(int(cluster))
        found += [(int(cluster), branch) for branch, _ in hierarchy.split(top)]
    return found


def _images_csv(landmarks: Landmarks, chosen: np.ndarray, run_id: str, fit_id: str) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow(["run_id", "fit_id", "image_id", "uri", "cluster", "label"])
    for n in chosen:
        # The column `cluster` is an answer: it stays empty until somebody moves the image.
        row = [landmarks.image_ids[n], landmarks.uris[n]]
        writer.writerow([run_id, fit_id, *(inert(text) for text in row), "", ""])
    return text.getvalue().encode()


def _names_csv(
    branches: list[tuple[int, int]],
    landmarks: Landmarks,
    hierarchy: Hierarchy,
    run_id: str,
    fit_id: str,
) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow(CLUSTER_NAMES_COLUMNS)
    for cluster, node in branches:
        mine = np.isin(landmarks.micro_ids_L, hierarchy.leaves_of(node))
        # As for whole clusters: the most central first.
        center_P = landmarks.z_LP[mine].mean(axis=0) if mine.any() else landmarks.z_LP[0]
        order = np.flatnonzero(mine)[np.argsort(-(landmarks.z_LP[mine] @ center_P))]
        uris = " | ".join(landmarks.uris[n] for n in order[:EXEMPLARS])
        size = int(hierarchy.size_V[node])
        group = f"{cluster}/{node}"
        told = ["", "", "", cluster_name(cluster)]  # proposal, name, purity, notes
        writer.writerow([run_id, fit_id, group, size, inert(uris), *told])
    return text.getvalue().encode()
