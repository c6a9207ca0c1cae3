"""Compare the configured fit with another: other=<run_uri or .../fits/fit_id>."""

import sys

from clusterlib.stages.reporting.compare_runs import compare_runs
from jobs.cli import run_job

if __name__ == "__main__":
    sys.exit(run_job(compare_runs, doc=__doc__ or "", name="compare_runs", parameters=["other"]))
