"""Propose names for the clusters: manifests.vocabulary=<text file with one name a line>."""

import functools
import sys

from clusterlib.stages.labeling.propose_names import propose_names
from jobs.cli import run_job

if __name__ == "__main__":
    work = functools.partial(propose_names, required=True)
    sys.exit(run_job(work, doc=__doc__ or "", name="propose_names"))
