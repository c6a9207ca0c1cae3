"""Embed again the images that were quarantined with code=<code>[,<code>...]."""

import sys

from clusterlib.stages.embedding.embed_images import check_rejects, embed_images
from clusterlib.stages.session import Session
from clusterlib.stages.upkeep import retry_quarantine as stage
from jobs.cli import run_job


def retry_quarantine(session: Session, *, code: str = "") -> None:
    """Release, embed, then fail if too many images are still unusable."""
    stage.retry_quarantine(session, code=code)
    embed_images(session)
    check_rejects(session)


if __name__ == "__main__":
    sys.exit(
        run_job(retry_quarantine, doc=__doc__ or "", name="retry_quarantine", parameters=("code",))
    )
