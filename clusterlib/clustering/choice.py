"""Choose k from the scores of a sweep and say why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from clusterlib.clustering.sweep import KScore

PLATEAU = 0.9


@dataclass(frozen=True)
class Choice:
    """The chosen k and the sentence that defends it."""

    k: int
    reason: str


def choose_k(scores: Sequence[KScore]) -> Choice:
    """The smallest k whose silhouette reaches 90 % of the sweep's best, or a plain "no clear k".

    In a whitened space the silhouette rises and then saturates, so its maximum overshoots; the
    start of the plateau agreed better with true labels on the sets it was tried on.

    Raises:
        ValueError: no score.
    """
    if not scores:
        raise ValueError("choose_k needs at least one score, got 0")
    # Sorted: a fit may end with fewer clusters than a fit that was asked for fewer.
    defined = sorted(
        (score.k, score.silhouette) for score in scores if score.silhouette is not None
    )
    if not defined:
        k = scores[0].k
        return Choice(k, f"k={k}: the images are too few or too alike for more")
    best_k, best = max(defined, key=lambda item: item[1])
    if best <= 0:
        return Choice(
            defined[0][0],
            f"no clear k: the silhouette is nowhere above 0 (best {best:.3f} at k={best_k}); the "
            f"smallest k of the sweep was taken",
        )
    k, value = next((k, value) for k, value in defined if value >= PLATEAU * best)
    if k == defined[-1][0] and any(score.k < score.asked for score in scores):
        return Choice(k, f"k={k} is as far as these images differ; more clusters stayed empty")
    if k == defined[-1][0] and len(defined) > 1:
        return Choice(
            k,
            f"no clear k: the silhouette still rises at k={k} ({value:.3f}), the largest of the "
            "sweep, which was taken; widen the sweep by clustering.k_max, or set clustering.k",
        )
    return Choice(
        k,
        f"k={k} is the smallest of the sweep whose silhouette ({value:.3f}) reaches "
        f"{PLATEAU:.0%} of the best ({best:.3f} at k={best_k})",
    )
