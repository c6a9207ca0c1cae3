"""Give every image the name of its cluster: names=<filled-in cluster_names.csv>."""

import sys

from clusterlib.stages.apply_labels import apply_labels
from jobs.cli import run_job

if __name__ == "__main__":
    sys.exit(run_job(apply_labels, doc=__doc__ or "", name="apply_labels", parameters=["names"]))
