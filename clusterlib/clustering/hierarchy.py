"""Weighted Ward merges of micro-clusters: one tree that can be cut at every k.

Ward, "Hierarchical grouping to optimize an objective function", 1963; found by nearest-neighbor
chains, Murtagh, "A survey of recent advances in hierarchical clustering algorithms", 1983.
M: micro-clusters (leaves), P: dimensions, V: nodes of the tree, 2M - 1.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Merges:
    """M - 1 merges by rising height; merge i makes node M + i, as in a linkage of SciPy.

    A height is sqrt(2 r), with r the rise of the inertia by this merge; the distance of two rows.
    """

    left_S: NDArray[np.int32]
    right_S: NDArray[np.int32]
    height_S: NDArray[np.float64]

    @property
    def leaves(self) -> int:
        return len(self.left_S) + 1


def ward_merges(points_MP: NDArray[np.floating], weights_M: NDArray[np.integer]) -> Merges:
    """All merges of weighted points (M, P), M >= 1. Time O(M^2 P), memory O(M P).

    Raises:
        ValueError: no point, or a weight below 1.
    """
    if len(points_MP) == 0 or np.min(weights_M) < 1:
        raise ValueError("ward_merges needs at least one point, and weights of at least 1")
    forest = _Forest(points_MP.astype(np.float64), weights_M.astype(np.float64))
    left, right, heights = [], [], []
    chain: list[int] = []
    rises: list[float] = []  # from each member of the chain to the next
    while forest.alive > 1:
        if not chain:
            chain, rises = [int(np.argmax(forest.is_alive_M))], []
        slot, rise = forest.nearest(chain[-1])
        # Rises fall along a chain; where they do not, by a tie or by rounding, its end is a pair.
        if len(chain) > 1 and (slot == chain[-2] or rise >= rises[-1]):
            second, first = chain.pop(), chain.pop()
            del rises[-2:]
            left.append(min(first, second))
            right.append(max(first, second))
            heights.append(forest.merge(first, second))
        else:
            chain.append(slot)
            rises.append(rise)
    return _relabelled(left, right, np.sqrt(2 * np.array(heights)))


class _Forest:
    """Points that merge in place: a merged pair keeps the lower slot."""

    def __init__(self, points_MP: NDArray[np.float64], weights_M: NDArray[np.float64]) -> None:
        self.points_MP = points_MP
        self.weights_M = weights_M
        self.squares_M = np.einsum("mp,mp->m", points_MP, points_MP)
        self.is_alive_M = np.ones(len(points_MP), dtype=bool)
        self.height_M = np.zeros(len(points_MP))
        self.alive = len(points_MP)
        self._live_A = np.arange(len(points_MP))
        self._copy()

    def _copy(self) -> None:
        """Gather the living points, so that dead ones cost at most as much as they do."""
        self._live_A = self._live_A[self.is_alive_M[self._live_A]]
        self._position = {int(slot): i for i, slot in enumerate(self._live_A)}
        self._points_AP = self.points_MP[self._live_A]
        self._squares_A = self.squares_M[self._live_A]
        self._weights_A = self.weights_M[self._live_A]

    def nearest(self, slot: int) -> tuple[int, float]:
        """The slot whose merge with `slot` raises the inertia least, and by how much."""
        weight = self.weights_M[slot]
        rise_A = self._squares_A + self.squares_M[slot]
        rise_A -= 2 * (self._points_AP @ self.points_MP[slot])
        np.maximum(rise_A, 0, out=rise_A)
        rise_A *= self._weights_A * weight / (self._weights_A + weight)
        rise_A[self._position[slot]] = np.inf
        best = int(rise_A.argmin())
        return int(self._live_A[best]), float(rise_A[best])

    def merge(self, first: int, second: int) -> float:
        """Join two slots; returns the rise of the inertia."""
        kept, gone = min(first, second), max(first, second)
        total = self.weights_M[kept] + self.weights_M[gone]
        share = self.weights_M[gone] / total
        step_P = self.points_MP[gone] - self.points_MP[kept]
        rise = float(share * self.weights_M[kept] * (step_P @ step_P))
        self.points_MP[kept] += share * step_P
        self.weights_M[kept] = total
        self.squares_M[kept] = self.points_MP[kept] @ self.points_MP[kept]
        # Ward's heights never fall from child to parent, but for rounding.
        self.height_M[kept] = max(rise, self.height_M[kept], self.height_M[gone])
        self.is_alive_M[gone] = False
        self.alive -= 1
        if self.alive < len(self._live_A) // 2:
            self._copy()
        else:
            position = self._position[kept]
            self._points_AP[position] = self.points_MP[kept]
            self._squares_A[position] = self.squares_M[kept]
            self._weights_A[position] = total
            # An infinite square is an infinite rise: nobody's neighbor again.
            self._squares_A[self._position[gone]] = np.inf
        return float(self.height_M[kept])


def _relabelled(left: list[int], right: list[int], height_S: NDArray[np.float64]) -> Merges:
    """Merges by height, with slots replaced by node numbers."""
    leaves = len(left) + 1
    node_of_slot = np.arange(leaves)
    pairs = np.empty((2, leaves - 1), dtype=np.int32)
    # Stable: of equal heights the child came first.
    order_S = np.argsort(height_S, kind="stable")
    for step, merge in enumerate(order_S):
        a, b = node_of_slot[left[merge]], node_of_slot[right[merge]]
        pairs[:, step] = min(a, b), max(a, b)
        node_of_slot[left[merge]] = leaves + step
    return Merges(pairs[0], pairs[1], height_S[order_S])


def cut(merges: Merges, k: int) -> NDArray[np.int32]:
    """Group of each leaf, 0...k-1, when the first M - k merges are done; by first leaf.

    Raises:
        ValueError: k is below 1 or above the number of leaves.
    """
    if not 1 <= k <= merges.leaves:
        raise ValueError(f"k={k} is outside 1...{merges.leaves}, the leaves of the tree")
    group_V = np.arange(2 * merges.leaves - 1)
    for step in range(merges.leaves - k - 1, -1, -1):  # parents before children
        node = merges.leaves + step
        group_V[merges.left_S[step]] = group_V[merges.right_S[step]] = group_V[node]
    _, first_M, group_M = np.unique(
        group_V[: merges.leaves], return_index=True, return_inverse=True
    )
    rank = np.empty(k, dtype=np.int32)
    rank[np.argsort(first_M)] = np.arange(k, dtype=np.int32)
    ids_M: NDArray[np.int32] = rank[group_M]
    return ids_M


@dataclass(frozen=True)
class Hierarchy:
    """The tree of a finished fit: micro-clusters, below clusters, below one root.

    Nodes 0...M-1 are the micro-clusters; every later node joins two earlier ones. All merges
    inside clusters come before those of clusters, so the cut at K gives exactly the clusters, a cut
    above K splits some of them and a cut below K joins some.

    `left_V` and `right_V` are -1 for a micro-cluster; `height_V` is 0 there and else as in
    `Merges`; `size_V` counts training rows; `cluster_id_V` is -1 above the clusters.
    """

    left_V: NDArray[np.int32]
    right_V: NDArray[np.int32]
    height_V: NDArray[np.float64]
    size_V: NDArray[np.int64]
    cluster_id_V: NDArray[np.int32]

    @property
    def leaves(self) -> int:
        return (len(self.left_V) + 1) // 2

    @property
    def micro_cluster_ids_M(self) -> NDArray[np.int32]:
        """The cluster of each micro-cluster."""
        return self.cluster_id_V[: self.leaves]

    def cluster_node(self, cluster_id: int) -> int:
        """The node that is this cluster.

        Raises:
            ValueError: there is no such cluster.
        """
        nodes = np.flatnonzero(self.cluster_id_V == cluster_id)
        if len(nodes) == 0 or cluster_id < 0:
            raise ValueError(f"there is no cluster {cluster_id} in this hierarchy")
        return int(nodes[-1])

    def cut(self, k: int) -> NDArray[np.int32]:
        """Group of each micro-cluster, 0...k-1, when k groups are left, by first micro-cluster."""
        m = self.leaves
        return cut(Merges(self.left_V[m:], self.right_V[m:], self.height_V[m:]), k)

    def split(self, node: int, *, parts: int = 2) -> list[tuple[int, NDArray[np.int32]]]:
        """At most `parts` nodes below `node`, each with its micro-clusters; highest merges first.

        Fewer come back when the node has fewer micro-clusters.
        """
        nodes = [node]
        while len(nodes) < parts:
            inner = [n for n in nodes if self.left_V[n] >= 0]
            if not inner:
                break
            # Later nodes were merged later, which is what a cut undoes first.
            top = max(inner)
            nodes.remove(top)
            nodes += [int(self.left_V[top]), int(self.right_V[top])]
        return [(n, self.leaves_of(n)) for n in sorted(nodes)]

    def leaves_of(self, node: int) -> NDArray[np.int32]:
        """The micro-clusters below a node, ascending."""
        found, stack = [], [node]
        while stack:
            top = stack.pop()
            if self.left_V[top] < 0:
                found.append(top)
            else:
                stack += [int(self.left_V[top]), int(self.right_V[top])]
        return np.array(sorted(found), dtype=np.int32)


def build_hierarchy(
    points_MP: NDArray[np.floating],
    sizes_M: NDArray[np.integer],
    cluster_ids_M: NDArray[np.integer],
) -> Hierarchy:
    """The tree of micro-clusters below given clusters 0...K-1, each of which has at least one.

    Args:
        points_MP: Means of the micro-clusters.
        sizes_M: Rows of each; an empty one weighs as a single row.
        cluster_ids_M: The cluster of each.
    """
    m, k = len(points_MP), int(cluster_ids_M.max()) + 1
    weights_M = np.maximum(sizes_M, 1)
    inner: list[tuple[float, int, int, int]] = []  # height, cluster, step within it, merge
    trees = []
    for cluster in range(k):
        members = np.flatnonzero(cluster_ids_M == cluster)
        merges = ward_merges(points_MP[members], weights_M[members])
        trees.append((members, merges))
        inner += [(float(h), cluster, step, 0) for step, h in enumerate(merges.height_S)]
    number = {(c, step): m + i for i, (_, c, step, _) in enumerate(sorted(inner))}

    def node_of(cluster: int, local: int) -> int:
        members = trees[cluster][0]
        return (
            int(members[local]) if local < len(members) else number[cluster, local - len(members)]
        )

    left, right = np.full(2 * m - 1, -1, np.int32), np.full(2 * m - 1, -1, np.int32)
    height, ids = np.zeros(2 * m - 1), np.full(2 * m - 1, -1, np.int32)
    ids[:m] = cluster_ids_M
    for (cluster, step), node in number.items():
        merges = trees[cluster][1]
        left[node] = node_of(cluster, int(merges.left_S[step]))
        right[node] = node_of(cluster, int(merges.right_S[step]))
        height[node], ids[node] = merges.height_S[step], cluster
    totals_K = np.bincount(cluster_ids_M, weights_M, minlength=k)
    means_KP = np.stack([np.average(points_MP[c], axis=0, weights=weights_M[c]) for c, _ in trees])
    outer = ward_merges(means_KP, totals_K.astype(np.int64))
    roots = [node_of(c, 2 * len(members) - 2) for c, (members, _) in enumerate(trees)]
    first = 2 * m - k  # the number of leaves and of merges inside clusters
    for step in range(k - 1):
        pair = (int(outer.left_S[step]), int(outer.right_S[step]))
        left[first + step], right[first + step] = (
            roots[n] if n < k else first + n - k for n in pair
        )
        height[first + step] = outer.height_S[step]
    size = np.zeros(2 * m - 1, dtype=np.int64)
    size[:m] = sizes_M
    for node in range(m, 2 * m - 1):
        size[node] = size[left[node]] + size[right[node]]
    return Hierarchy(left, right, height, size, ids)
