"""Fetch, decode and embed every image that is not embedded yet."""

import sys

from clusterlib.stages.embedding.embed_images import check_rejects, embed_images
from clusterlib.stages.session import Session
from jobs.cli import run_job


def embed(session: Session) -> None:
    """Embed, then fail if too many images were unusable."""
    embed_images(session)
    check_rejects(session)


if __name__ == "__main__":
    sys.exit(run_job(embed, doc=__doc__ or "", name="embed_images"))
