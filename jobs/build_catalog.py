"""List the images once and freeze the list."""

import sys

from clusterlib.stages.build_catalog import build_catalog
from jobs.cli import run_job

if __name__ == "__main__":
    sys.exit(run_job(build_catalog, doc=__doc__ or "", name="build_catalog"))
