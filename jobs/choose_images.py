"""Choose the images that people should label first: manifests.review_budget of them."""

import sys

from clusterlib.stages.labeling.choose_images import choose_images
from jobs.cli import run_job

if __name__ == "__main__":
    sys.exit(run_job(choose_images, doc=__doc__ or "", name="choose_images"))
