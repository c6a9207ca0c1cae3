"""A job on a Ray cluster of two local nodes, one of which is killed in the middle.

python -m tests.chaos.two_nodes CONFIG yes|no
"""

from __future__ import annotations

import os
import sys
import threading
import time


def main() -> int:
    os.environ["RAY_AUTH_MODE"] = "disabled"
    from ray.cluster_utils import Cluster

    from clusterlib.config import load_config
    from clusterlib.stages.build_catalog import build_catalog
    from clusterlib.stages.embedding.embed_images import embed_images
    from clusterlib.stages.session import open_session
    from tests.chaos.runs import committed

    path, killing = sys.argv[1:]
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2})
    second = cluster.add_node(num_cpus=2)
    cluster.wait_for_nodes()
    config = load_config(path, overrides=[f"compute.ray_address={cluster.address}"])
    session = open_session(config)

    def kill_node() -> None:
        rows = session.catalog().rows
        while committed(session.run.uri, rows) < rows // 4:
            time.sleep(0.2)
        cluster.remove_node(second, allow_graceful=False)
        print("node killed", flush=True)

    build_catalog(session)
    thread = threading.Thread(target=kill_node, daemon=True)
    if killing == "yes":
        thread.start()
    embed_images(session)
    session.close()
    cluster.shutdown()
    return 0


if __name__ == "__main__":
    sys.exit(main())
