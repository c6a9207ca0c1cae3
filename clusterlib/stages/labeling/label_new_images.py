"""After assignment to another run's clusters: new images get labels as that run's images did."""

from __future__ import annotations

from clusterlib import storage
from clusterlib.labels.plan import Plan
from clusterlib.labels.probe import read_probe
from clusterlib.stages.clusters.other_fit import PLAN
from clusterlib.stages.labeling.apply_labels import label_all
from clusterlib.stages.labeling.manifest_slices import row_slices
from clusterlib.stages.session import Session


def label_new_images(session: Session) -> None:
    """Write `labels/` of a fit that was taken over, when its source had labels.

    Images of named clusters get the name, junk gets none, and the saved, calibrated probe labels
    the others, as `apply_labels` did for the source. Nothing happens when there are labels already.

    Raises:
        InputError: the assignments are not complete.
    """
    if session.config.clustering.fit_from is None:
        return
    embeddings, run_id = session.embeddings()
    fit = session.fit(run_id)
    learned = storage.read_json(storage.join(fit.labels, PLAN))
    done = storage.join(fit.labels, "labels.json")
    if learned is None or storage.exists(done):
        return
    with session.stage("label_new_images") as (progress, facts):
        assigned = session.assignments(fit, embeddings.state.rows)
        session.start_ray()
        probe_uri = storage.join(fit.labels, "probe.npz")
        probe = read_probe(storage.read_bytes(probe_uri)) if storage.exists(probe_uri) else None
        plan = Plan(tuple(learned["names"]), tuple(learned["purities"]))
        rows_per_slice = session.config.manifests.rows_per_file
        slices = row_slices(embeddings, assigned, rows_per_slice=rows_per_slice)
        storage.delete(storage.join(fit.labels, "labels"))
        counts = label_all(
            session, fit, slices, plan, {}, probe, everywhere=bool(learned["everywhere"])
        )
        record = {
            "rows": sum(counts.values()),
            "labelled": sum(counts.get(source, 0) for source in ("cluster", "model")),
            "sources": dict(sorted(counts.items())),
            # Of the source's people and probe; nobody has looked at these images yet.
            "probe_right_on_held_out_checked": learned["probe_right_on_held_out_checked"],
        }
        storage.write_json(done, record | {"cluster_names": learned["cluster_names"]})
        progress.note(f"{record['labelled']:,} of {record['rows']:,} new images, in {fit.labels}")
        facts.update(record)
