"""One sample, several encoders: how well each one's embeddings fall into groups, and how fast.

Runs on the driver alone. What an encoder gave is kept in the run, so a job that was cut off goes on
with the next encoder. N: images, D: dimensions.
"""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import Any

import numpy as np

from clusterlib import storage
from clusterlib.clustering.agreement import agreement
from clusterlib.clustering.choice import choose_k
from clusterlib.clustering.families import prepare
from clusterlib.clustering.resampling import resampled_scores
from clusterlib.clustering.space import fit_space
from clusterlib.clustering.sweep import KScore, k_grid, sweep
from clusterlib.config import ClusteringConfig
from clusterlib.encoders.check import check_encoder
from clusterlib.encoders.select import load_encoder
from clusterlib.encoders.spec import EncoderSpec
from clusterlib.errors import ClusteringError
from clusterlib.report.encoders_page import encoders_page
from clusterlib.run import fingerprint
from clusterlib.stages.sampling import decoded_batches, described, driver_device, sampled_rows
from clusterlib.stages.session import Session

_ROWS_PER_CLUSTER = 8


def compare_encoders(session: Session) -> None:
    """Write `compare_encoders/index.html` and `.json` in the run, and print the table.

    Raises:
        ConfigError: a model string is not known; before any is loaded.
        InputError: a model or the images cannot be read.
        ClusteringError: too few of the images are usable.
    """
    config = session.config
    specs = [described(session, model) for model in dict.fromkeys(config.compare.models)]
    rows = sampled_rows(session, config.compare.rows)
    if len(rows) < 2 * _ROWS_PER_CLUSTER:
        raise ClusteringError(f"{len(rows)} images are too few to compare encoders with")
    folder = storage.join(session.run.uri, "compare_encoders")
    tree = config.result_tree()
    shared = {
        "catalog": session.catalog().digest,
        "rows": [row["row_id"] for row in rows],
        "seed": config.seed,
        "clustering": tree["clustering"],
        "images": tree["images"],
    }
    results = []
    for spec in specs:
        path = storage.join(folder, f"{fingerprint(shared | {'spec': spec.settings()})}.json")
        result = storage.read_json(path)
        if result is None:
            session.screen.say(f"{spec.model}: {len(rows):,} images")
            result = _try_encoder(session, spec, rows)
            storage.write_json(path, result)
        results.append(result)
    storage.write_json(storage.join(folder, "comparison.json"), {"encoders": results})
    page = encoders_page(results, title=config.report.title)
    storage.write_bytes(storage.join(folder, "index.html"), page.encode())
    for line in _table(results):
        session.screen.say(line)
    session.screen.say(f"comparison {storage.join(folder, 'index.html')}")


def _try_encoder(session: Session, spec: EncoderSpec, rows: list[dict[str, Any]]) -> dict[str, Any]:
    device = driver_device(session)
    size = session.config.compute.embed.batch_size
    encoder = load_encoder(spec, device=device, batch_size=size or 16)
    dim = check_encoder(encoder, spec)  # the first pass, which is slow, is not counted
    used: list[int] = []
    parts: list[np.ndarray] = []
    seconds = 0.0
    started = time.perf_counter()
    for indices, pixels_NHWC in decoded_batches(session, spec, rows):
        before = time.perf_counter()
        x_ND = encoder.encode(pixels_NHWC)
        seconds += time.perf_counter() - before
        finite_N = np.flatnonzero(np.isfinite(x_ND).all(axis=1))
        used += np.asarray(indices)[finite_N].tolist()
        parts.append(x_ND[finite_N])
    total = time.perf_counter() - started
    if len(used) < 2 * _ROWS_PER_CLUSTER:
        raise ClusteringError(
            f"{spec.model}: only {len(used)} of {len(rows)} images are usable; see the catalogue"
        )
    labels = [rows[index]["label"] for index in used]
    scores = _scores(np.concatenate(parts), labels, session.config.clustering, session.config.seed)
    return {
        "model": spec.model,
        "revision": spec.revision,
        "pooling": spec.pooling,
        "device": "cpu" if spec.model.startswith("classic:") else device,
        "dim": dim,
        "images": len(used),
        "rejected": len(rows) - len(used),
        "encode_per_second": len(used) / max(seconds, 1e-9),
        "images_per_second": len(used) / max(total, 1e-9),
        **scores,
    }


def _scores(
    x_ND: np.ndarray, labels: list[str | None], config: ClusteringConfig, seed: int
) -> dict[str, Any]:
    """Scores of every k, the chosen k, and the agreement at it and at the number of labels."""
    known = sorted({label for label in labels if label is not None})
    z_NP = fit_space(x_ND, dim=config.pca_dim, scaling=config.scaling).transform(x_ND)
    most = len(z_NP) // _ROWS_PER_CLUSTER
    ks = set(
        k_grid(
            min(config.k_min, most), min(config.k_max, most), count=config.k_count, rows=len(z_NP)
        )
    )
    if 2 <= len(known) <= most:
        ks.add(len(known))
    if isinstance(config.k, int) and config.k <= most:
        ks.add(config.k)
    candidates = prepare(
        z_NP,
        method=config.method,
        k_max=max(ks),
        iterations=config.iterations,
        min_cluster_rows=config.min_cluster_rows,
        seed=seed,
    )
    wanted = sorted(ks)[:1] if candidates.chooses_k else sorted(ks)
    fits = sweep(candidates.rows_NP, wanted, fit_at=candidates.fit_at)
    again = {} if candidates.chooses_k else resampled_scores(candidates.rows_NP, wanted, seed=seed)
    by_k = {}
    for asked, (score, fit) in fits.items():
        values = asdict(score) | (asdict(again[asked]) if asked in again else {})
        found = agreement(_contingency(fit.cluster_ids_N, labels)) if len(known) > 1 else None
        values |= {"nmi": None, "ari": None, "ami": None}
        if found is not None:
            values |= {"nmi": found.nmi, "ari": found.ari, "ami": found.ami}
        by_k[asked] = values
    fields = KScore.__dataclass_fields__
    curve = [KScore(**{name: row[name] for name in fields}) for row in by_k.values()]
    if len(curve) == 1:
        chosen = next(iter(by_k))
    elif isinstance(config.k, int) and config.k in by_k:
        chosen = config.k
    else:
        best = choose_k(curve).k
        chosen = next(asked for asked, row in by_k.items() if row["k"] == best)
    return {"k": chosen, "true_k": len(known) or None, "by_k": [by_k[k] for k in sorted(by_k)]}


def _contingency(ids_N: np.ndarray, labels: list[str | None]) -> np.ndarray:
    labelled_N = np.array([label is not None for label in labels])
    names_N = np.array([label for label in labels if label is not None])
    _, label_N = np.unique(names_N, return_inverse=True)
    _, cluster_N = np.unique(ids_N[labelled_N], return_inverse=True)
    counts = np.zeros((cluster_N.max() + 1, label_N.max() + 1), dtype=np.int64)
    np.add.at(counts, (cluster_N, label_N), 1)
    return counts


def _table(results: list[dict[str, Any]]) -> list[str]:
    width = max(len(result["model"]) for result in results)
    head = f"{'encoder':{width}}  dim    images/s  k    silhouette  stability  NMI    ARI    AMI"
    lines = [head]
    for result in results:
        row = next(row for row in result["by_k"] if row["asked"] == result["k"])
        cells = [
            "  -  " if row[name] is None else f"{row[name]:5.3f}"
            for name in ("silhouette", "stability", "nmi", "ari", "ami")
        ]
        lines.append(
            f"{result['model']:{width}}  {result['dim']:<5}  {result['images_per_second']:8.1f}  "
            f"{result['k']:<3}  {cells[0]:10}  {cells[1]:9}  {'  '.join(cells[2:])}"
        )
    return lines
