"""Put tasks into Label Studio, each once: url=<server>, tasks=cluster_tasks or label_studio."""

import sys

from clusterlib.stages.labeling.import_tasks import import_tasks
from jobs.cli import run_job

if __name__ == "__main__":
    parameters = ["url", "tasks"]
    sys.exit(run_job(import_tasks, doc=__doc__ or "", name="import_tasks", parameters=parameters))
