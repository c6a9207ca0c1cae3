"""Delete what killed jobs left behind; nothing that a commit names or still may name."""

import sys

from clusterlib.stages.upkeep.collect_garbage import collect_garbage
from jobs.cli import run_job

if __name__ == "__main__":
    sys.exit(run_job(collect_garbage, doc=__doc__ or "", name="collect_garbage"))
