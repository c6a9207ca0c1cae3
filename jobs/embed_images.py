"""Fetch, decode and embed every image that is not embedded yet."""

import sys

from clusterlib.stages.embed_images import embed_images
from jobs.cli import run_job

if __name__ == "__main__":
    sys.exit(run_job(embed_images, doc=__doc__ or "", name="embed_images"))
