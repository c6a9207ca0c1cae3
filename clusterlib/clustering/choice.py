"""Choose k from the scores of a sweep and say why.

The silhouette rises and then saturates, so that its maximum overshoots; the stability of two
half-samples favors few large groups. So the one says which k are good enough and the other which of
these to take: where several are as stable, the finest, since what it splits more is not chance
either. The gap says whether there are groups at all. Tried on labelled sets, with every criterion
alone beside it, in benchmarks/clustering.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from clusterlib.clustering.sweep import KScore

PLATEAU = 0.9
# Two fits of half-samples tell the stability no more exactly than this.
AS_STABLE = 0.02
# A coarser or finer answer differs by this factor, and a finer one keeps this share of the best.
_OTHER = 1.5
_FINE_PLATEAU = 0.8


@dataclass(frozen=True)
class Choice:
    """The chosen k, the sentence that defends it, and other answers where the data have some."""

    k: int
    reason: str
    coarse: int | None = None
    fine: int | None = None

    @property
    def is_clear(self) -> bool:
        """Whether the scores favor this k, or it was only taken for want of a better one."""
        return not self.reason.startswith("no clear k")


def choose_k(scores: Sequence[KScore], *, least_stability: float = 0.0) -> Choice:
    """The finest of the most stable k whose silhouette reaches 90 % of the best, or "no clear k".

    Where stability is unknown the smallest such k is taken. Below `least_stability` no k is clear.

    Raises:
        ValueError: no score.
    """
    if not scores:
        raise ValueError("choose_k needs at least one score, got 0")
    # Sorted: a fit may end with fewer clusters than a fit that was asked for fewer.
    defined = sorted((s for s in scores if s.silhouette is not None), key=lambda s: s.k)
    if not defined:
        k = scores[0].k
        return Choice(k, f"k={k}: the images are too few or too alike for more")
    best = max(defined, key=_silhouette)
    if _silhouette(best) <= 0:
        return Choice(
            defined[0].k,
            f"no clear k: the silhouette is nowhere above 0 (best {_silhouette(best):.3f} at "
            f"k={best.k}); the smallest k of the sweep was taken",
        )
    plateau = [s for s in defined if _silhouette(s) >= PLATEAU * _silhouette(best)]
    known = [s for s in plateau if s.stability is not None]
    steadiest = max(map(_stability, known), default=0.0)
    stable = [s for s in known if _stability(s) >= steadiest - AS_STABLE]
    taken = stable[-1] if stable else plateau[0]
    return Choice(
        taken.k,
        _reason(taken, best, defined[-1], scores, least_stability=least_stability),
        coarse=_most_stable([s for s in defined if s.k * _OTHER <= taken.k]),
        fine=_most_stable(
            [
                s
                for s in defined
                if s.k >= taken.k * _OTHER and _silhouette(s) >= _FINE_PLATEAU * _silhouette(best)
            ]
        ),
    )


def _reason(
    taken: KScore,
    best: KScore,
    last: KScore,
    scores: Sequence[KScore],
    *,
    least_stability: float,
) -> str:
    k, value = taken.k, _silhouette(taken)
    if taken.stability is not None and taken.stability < least_stability:
        return (
            f"no clear k: at k={k} fits of two half-samples hardly agree (adjusted Rand index "
            f"{taken.stability:.2f}), as they do on noise; set clustering.k"
        )
    if taken.gap is not None and taken.gap <= 2 * (taken.gap_se or 0):
        return (
            f"no clear k: k={k} groups these images no better than it groups noise of the same "
            f"covariance (gap {taken.gap:.3f}, standard error {taken.gap_se:.3f}); set clustering.k"
        )
    if k == last.k and any(score.k < score.asked for score in scores):
        return f"k={k} is as far as these images differ; more clusters stayed empty"
    if k == last.k and len(scores) > 1:
        return (
            f"no clear k: the silhouette still rises at k={k} ({value:.3f}), the largest of the "
            "sweep, which was taken; widen the sweep by clustering.k_max, or set clustering.k"
        )
    reaching = f"whose silhouette ({value:.3f}) reaches {PLATEAU:.0%} of the best"
    peak = f"({_silhouette(best):.3f} at k={best.k})"
    if taken.stability is None:
        return f"k={k} is the smallest of the sweep {reaching} {peak}"
    return (
        f"k={k} is as stable as any of those {reaching} {peak}: fits of two half-samples agree "
        f"with an adjusted Rand index of {taken.stability:.2f}"
    )


def _silhouette(score: KScore) -> float:
    return score.silhouette if score.silhouette is not None else float("-inf")


def _stability(score: KScore) -> float:
    return score.stability if score.stability is not None else float("-inf")


def _most_stable(scores: Sequence[KScore]) -> int | None:
    known = [s for s in scores if s.stability is not None]
    return max(known, key=_stability).k if known else None
