"""Give every image a label: names=<filled-in sheet or export>, corrections=<labelled images>."""

import sys

from clusterlib.stages.labeling.apply_labels import apply_labels
from jobs.cli import run_job

if __name__ == "__main__":
    parameters = ["names", "corrections"]
    sys.exit(run_job(apply_labels, doc=__doc__ or "", name="apply_labels", parameters=parameters))
