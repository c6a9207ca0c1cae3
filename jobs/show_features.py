"""Draw what the encoder sees: images=<count or ids with commas>, layers=<names with commas>."""

import sys

from clusterlib.stages.models.show_features import show_features
from jobs.cli import run_job

if __name__ == "__main__":
    sys.exit(
        run_job(
            show_features, doc=__doc__ or "", name="show_features", parameters=("images", "layers")
        )
    )
