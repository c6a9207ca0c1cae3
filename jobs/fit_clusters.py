"""Sweep the number of clusters over the sample and choose one."""

import sys

from clusterlib.stages.clusters.fit_clusters import fit_clusters
from jobs.cli import run_job

if __name__ == "__main__":
    sys.exit(run_job(fit_clusters, doc=__doc__ or "", name="fit_clusters"))
