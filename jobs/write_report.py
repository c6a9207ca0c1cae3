"""Write the offline page that analysts open."""

import sys

from clusterlib.stages.reporting.write_report import write_report
from jobs.cli import run_job

if __name__ == "__main__":
    sys.exit(run_job(write_report, doc=__doc__ or "", name="write_report"))
