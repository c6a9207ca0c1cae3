"""Read every file of a run: checksums, schemas, and that no row is missing or doubled."""

import sys

from clusterlib.stages.upkeep.verify_run import verify_run
from jobs.cli import run_job

if __name__ == "__main__":
    sys.exit(run_job(verify_run, doc=__doc__ or "", name="verify_run"))
