"""Give every embedding its cluster, and a label when clusters and labels are another run's."""

import sys

from clusterlib.stages.clusters.assign_clusters import assign_clusters
from clusterlib.stages.labeling.label_new_images import label_new_images
from clusterlib.stages.session import Session
from jobs.cli import run_job


def assign_and_label(session: Session) -> None:
    """Assign; label new images when clustering.fit_from names a fit whose clusters have names."""
    assign_clusters(session)
    label_new_images(session)


if __name__ == "__main__":
    sys.exit(run_job(assign_and_label, doc=__doc__ or "", name="assign_clusters"))
