"""Two fits side by side: scores, matched clusters, moved images, drift.

The other fit may be of the same run (another k) or of another run (another encoder, another day);
images are joined by row when the catalogues are the same, else by image_id.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from clusterlib import storage
from clusterlib.catalog.frozen import CatalogInfo, read_info
from clusterlib.clustering.agreement import agreement
from clusterlib.errors import InputError
from clusterlib.report.comparison import Pair, match_clusters
from clusterlib.report.content import Content, Rejects
from clusterlib.report.site import compare_pages
from clusterlib.run import Fit, Run
from clusterlib.stages.clusters.other_fit import find_fit
from clusterlib.stages.reporting.gather import run_facts
from clusterlib.stages.session import Session
from clusterlib.tables.committed import CommittedTable


@dataclass(frozen=True)
class _Side:
    """One of the two: its fit, catalogue, assignments and report.json."""

    fit: Fit
    catalog: CatalogInfo
    assigned: CommittedTable
    numbers: dict[str, Any]

    @property
    def k(self) -> int:
        return 1 + max(int(cluster["cluster_id"]) for cluster in self.numbers["clusters"])


def compare_runs(session: Session, *, other: str = "") -> None:
    """Write `compare/<other fit>/index.html` in the configured fit.

    Args:
        session: The first run.
        other: URI of another run, whose newest fit is taken, or of a fit (`.../fits/<fit_id>`).

    Raises:
        InputError: no `other`, or it is the same fit, one of them has no report yet, or they share
            no image.
    """
    if not other:
        raise InputError("other: give other=<run or fit> to compare with")
    _, run_id = session.embeddings()
    a = _side(session, session.run, session.fit(run_id))
    run, fit = find_fit(storage.absolute(other))
    if fit.uri == a.fit.uri:
        raise InputError(
            f"other: {other} is the configured fit itself; name another run, or one of its fits as "
            ".../fits/<fit_id>"
        )
    b = _side(session, run, fit)
    counts_AB = _contingency(a, b)
    if not counts_AB.sum():
        raise InputError(f"{a.fit.uri} and {b.fit.uri} share no clustered image")
    matching = match_clusters(counts_AB)
    score = agreement(counts_AB)
    folder = storage.join(a.fit.uri, f"compare/{b.fit.fit_id}")
    pairs = [_with_pictures(pair, a, b, folder) for pair in matching.pairs]
    match = {
        "rows": matching.rows,
        "moved": matching.moved,
        "nmi": score.nmi,
        "ari": score.ari,
        "pairs": pairs,
    }
    content = Content(
        **run_facts(session) | {"title": f"{a.numbers['title']}: two fits compared"},
        run_id=run_id,
        fit_id=a.fit.fit_id,
        rows=a.catalog.rows,
        embedded=a.numbers["embedded"],
        k=a.numbers["k"],
        reason="",
        explained=(),
        sweep=(),
        clusters=(),
        rejects=Rejects({}, {}, {}, (), 0),
    )
    sides = {"a": {"uri": a.fit.uri}, "b": {"uri": b.fit.uri}}
    for path, text in compare_pages(content, rows=_rows(a, b), match=match, **sides):
        storage.write_bytes(storage.join(folder, path), text.encode())
    storage.write_json(storage.join(folder, "comparison.json"), json.loads(json.dumps(match)))
    share = matching.moved / matching.rows
    session.screen.say(
        f"{matching.rows:,} images in both, {matching.moved:,} moved ({share:.1%}), "
        f"NMI {score.nmi:.3f}, ARI {score.ari:.3f}"
    )
    session.screen.say(f"comparison {storage.join(folder, 'index.html')}")


def _side(session: Session, run: Run, fit: Fit) -> _Side:
    numbers = storage.read_json(storage.join(fit.report, "report.json"))
    catalog = read_info(run.catalog)
    if numbers is None or catalog is None or not numbers["clusters"]:
        raise InputError(f"{fit.uri}: no report yet; run jobs.write_report there first")
    table = session.table(fit.uri, log=fit.assign_log, rows=catalog.rows)
    table.refresh()
    return _Side(fit, catalog, table, numbers)


def _contingency(a: _Side, b: _Side) -> NDArray[np.int64]:
    """Images in each pair of clusters (A, B); noise is left out."""
    if a.catalog.digest == b.catalog.digest:
        ids_A, ids_B = _by_row(a), _by_row(b)
    else:
        both = _by_image(a).join(_by_image(b), "image_id", join_type="inner", right_suffix="_b")
        ids_A, ids_B = both["cluster_id"].to_numpy(), both["cluster_id_b"].to_numpy()
    is_in = (ids_A >= 0) & (ids_B >= 0)
    flat = ids_A[is_in].astype(np.int64) * b.k + ids_B[is_in]
    return np.bincount(flat, minlength=a.k * b.k).reshape(a.k, b.k).astype(np.int64)


def _by_row(side: _Side) -> NDArray[np.int32]:
    ids = np.full(side.catalog.rows, -1, dtype=np.int32)
    for table in side.assigned.read("assignments", ["row_id", "cluster_id"]):
        ids[table["row_id"].to_numpy()] = table["cluster_id"].to_numpy()
    return ids


def _by_image(side: _Side) -> pa.Table:
    return pa.concat_tables(side.assigned.read("assignments", ["image_id", "cluster_id"]))


def _with_pictures(pair: Pair, a: _Side, b: _Side, folder: str) -> dict[str, Any]:
    """The pair as plain values, with copies of its contact sheets in the comparison's folder."""
    found: dict[str, Any] = asdict(pair)
    for name, side, cluster in (("a", a, pair.a), ("b", b, pair.b)):
        found[f"picture_{name}"] = None
        source = storage.join(side.fit.report, f"sheets/{cluster or 0:05d}.webp")
        if cluster is not None and storage.exists(source):
            target = f"sheets/{name}-{cluster:05d}.webp"
            storage.write_bytes(storage.join(folder, target), storage.read_bytes(source))
            found[f"picture_{name}"] = target
    return found


def _rows(a: _Side, b: _Side) -> list[tuple[str, str, str]]:
    """What is compared number by number; settings only where they differ."""

    def values(side: _Side) -> dict[str, str]:
        numbers = side.numbers
        sizes = [cluster["size"] for cluster in numbers["clusters"]]
        silhouettes = [cluster["silhouette"] for cluster in numbers["clusters"]]
        mean = float(np.average(silhouettes, weights=sizes)) if sum(sizes) else 0.0
        found = {
            "report written": str(numbers["finished_at"]),
            "images": f"{numbers['rows']:,}",
            "rejected": f"{numbers['rejected']:,}",
            "clusters": f"{len(sizes):,}",
            "largest, smallest": f"{max(sizes):,}, {min(sizes):,}",
            "silhouette (each in its own space)": f"{mean:.3f}",
        }
        scores = numbers["agreement"] or {}
        found |= {
            f"{name.upper() if name != 'purity' else name} with true labels": f"{scores[name]:.3f}"
            for name in ("nmi", "ari", "purity")
            if name in scores
        }
        return found

    left, right = values(a), values(b)
    keys = list(dict.fromkeys([*left, *right]))
    rows = [(key, left.get(key, "–"), right.get(key, "–")) for key in keys]
    ours, theirs = a.numbers["settings"], b.numbers["settings"]
    for key in dict.fromkeys([*ours, *theirs]):
        if ours.get(key) != theirs.get(key):
            rows.append((key, str(ours.get(key, "–")), str(theirs.get(key, "–"))))
    return rows
