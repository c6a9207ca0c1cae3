"""For each product the image that shows it best: label=<name of the clusters of best views>."""

import sys

from clusterlib.stages.labeling.choose_best_views import choose_best_views
from jobs.cli import run_job

if __name__ == "__main__":
    sys.exit(
        run_job(
            choose_best_views, doc=__doc__ or "", name="choose_best_views", parameters=["label"]
        )
    )
