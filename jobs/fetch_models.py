"""Download the encoders of the configuration into folder=... (default: models/ in the run)."""

import sys

from clusterlib.stages.models.fetch_models import fetch_models
from jobs.cli import run_job

if __name__ == "__main__":
    sys.exit(run_job(fetch_models, doc=__doc__ or "", name="fetch_models", parameters=["folder"]))
