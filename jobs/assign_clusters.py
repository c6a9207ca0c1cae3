"""Give every embedding its cluster and describe the clusters."""

import sys

from clusterlib.stages.assign_clusters import assign_clusters
from jobs.cli import run_job

if __name__ == "__main__":
    sys.exit(run_job(assign_clusters, doc=__doc__ or "", name="assign_clusters"))
