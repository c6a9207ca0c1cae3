"""Try the encoders of compare.models on compare.rows images and compare what comes of each."""

import sys

from clusterlib.stages.models.compare_encoders import compare_encoders
from jobs.cli import run_job

if __name__ == "__main__":
    sys.exit(run_job(compare_encoders, doc=__doc__ or "", name="compare_encoders"))
