"""Takes the safety out of a job's processes when BENCH_UNSAFE is set; see ../overhead.py.

Python imports a module of this name at start-up. Without BENCH_UNSAFE it imports the same modules
and changes nothing, so that both sides of the comparison start alike.
"""

import os
import sys
from types import SimpleNamespace


def _load():
    from clusterlib.images import decode, guard
    from clusterlib.tables import committed

    if not os.environ.get("BENCH_UNSAFE"):
        return

    def decode_here(self, data):
        setup = self._setup
        limits = guard.Limits(setup["limits"]["max_pixels"], tuple(setup["limits"]["formats"]))
        geometry = guard.Geometry(**setup["geometry"])
        return guard.Decoded(decode.decode(data, geometry=geometry, limits=limits), 1)

    def count_only(self, changes):
        self.state.apply(self.state.last_commit + 1, list(changes))
        return list(changes)

    guard.GuardedDecoder.decode = decode_here
    committed.CommittedTable.commit = count_only
    committed.hashlib = SimpleNamespace(sha256=lambda data: SimpleNamespace(hexdigest=lambda: ""))


if any(arg.startswith("jobs.") or arg.endswith("default_worker.py") for arg in sys.orig_argv):
    _load()
