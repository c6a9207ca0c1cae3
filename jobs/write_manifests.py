"""Write what labelling teams import."""

import sys

from clusterlib.stages.labeling.write_manifests import write_manifests
from jobs.cli import run_job

if __name__ == "__main__":
    sys.exit(run_job(write_manifests, doc=__doc__ or "", name="write_manifests"))
