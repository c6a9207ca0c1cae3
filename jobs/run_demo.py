"""The pipeline on the embedded digits, then names for the clusters, then labels for every image."""

import sys

from clusterlib.stages.labeling.apply_labels import apply_labels, name_by_majority
from clusterlib.stages.reporting.write_report import write_report
from clusterlib.stages.session import Session
from jobs.cli import run_job
from jobs.run_pipeline import run_pipeline


def run_demo(session: Session) -> None:
    """Show the whole loop; the true labels play the person who names the clusters."""
    run_pipeline(session)
    session.screen.say("")
    sheet, accuracy = name_by_majority(session)
    apply_labels(session, names=sheet)
    write_report(session)  # once more, with the names
    session.screen.say(f"labels     {accuracy:.1%} of the images got their true label")


if __name__ == "__main__":
    sys.exit(run_job(run_demo, doc=__doc__ or "", name="run_demo"))
