"""What every micro-cluster is called, from answers about clusters and branches of them.

M: micro-clusters.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Plan:
    """Name and purity of each micro-cluster: None and "" where nobody has said any."""

    names_M: tuple[str | None, ...]
    purities_M: tuple[str, ...]

    def label(self, micro_id: int) -> str | None:
        """The name that the images of a micro-cluster get."""
        trusted = micro_id >= 0 and self.purities_M[micro_id] in ("", "pure")
        return self.names_M[micro_id] if trusted else None

    def state(self, micro_id: int) -> str:
        """cluster, mixed, split, junk or unnamed."""
        if micro_id < 0:
            return "unnamed"
        purity = self.purities_M[micro_id]
        if purity in ("mixed", "split", "junk"):
            return purity
        return "cluster" if self.names_M[micro_id] else "unnamed"


def make_plan(
    names: Mapping[str, str],
    purities: Mapping[str, str],
    *,
    branches: Mapping[str, NDArray[np.int32]],
    leaves: int,
) -> Plan:
    """The plan of `leaves` micro-clusters.

    What is said about a smaller branch counts more than about the one, or the cluster, it is in.

    Args:
        names: By group.
        purities: By group.
        branches: Micro-clusters of every group that is spoken of.
        leaves: Number of micro-clusters.
    """
    called: list[str | None] = [None] * leaves
    purity = [""] * leaves
    spoken = {*names, *purities}
    for group in sorted(spoken, key=lambda g: (-len(branches[g]), g)):
        for micro in branches[group]:
            # A branch that is spoken of has its own word on both.
            called[micro], purity[micro] = names.get(group), purities.get(group, "")
    return Plan(tuple(called), tuple(purity))
