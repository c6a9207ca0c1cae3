"""The whole job: catalogue, embeddings, clusters, assignments, manifests, report."""

import sys

from clusterlib.stages.build_catalog import build_catalog
from clusterlib.stages.clusters.assign_clusters import assign_clusters
from clusterlib.stages.clusters.fit_clusters import fit_clusters
from clusterlib.stages.embedding.embed_images import check_rejects, embed_images
from clusterlib.stages.labeling.label_new_images import label_new_images
from clusterlib.stages.labeling.propose_names import check_names, propose_names
from clusterlib.stages.labeling.write_manifests import write_manifests
from clusterlib.stages.reporting.write_report import write_report
from clusterlib.stages.reporting.write_status import status_on_failure
from clusterlib.stages.session import Session
from clusterlib.stages.summary import print_summary
from jobs.cli import run_job


def run_pipeline(session: Session) -> None:
    """Run every stage; what is finished already is kept."""
    with status_on_failure(session):
        check_names(session)
        build_catalog(session)
        embed_images(session)
        fit_clusters(session)
        assign_clusters(session)
        label_new_images(session)
        propose_names(session)
        write_manifests(session)
    write_report(session)
    print_summary(session)
    check_rejects(session)


if __name__ == "__main__":
    sys.exit(run_job(run_pipeline, doc=__doc__ or "", name="run_pipeline"))
