"""Names proposed for clusters, zero-shot: a phrase is near the cluster's pictures, not the others'.

C: clusters, D: dimensions, T: names. What comes out is for people to take or leave, never a label.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clusterlib.errors import InputError

MAX_NAMES = 50_000
MAX_NAME = 200  # characters
PLACE = "{}"  # in a prompt, where the name goes


@dataclass(frozen=True)
class Proposal:
    """A name for a cluster.

    `inside` and `outside` are the mean cosines of the name with pictures of the cluster and with
    all others; `score` is their difference.
    """

    name: str
    score: float
    inside: float
    outside: float


def read_vocabulary(data: bytes, *, where: str) -> tuple[str, ...]:
    """The names in a text file, one a line, each once, in the file's order.

    Raises:
        InputError: not UTF-8, no name, too many, or a line that is no name.
    """
    try:
        lines = data.decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise InputError(f"manifests.vocabulary: {where} is not UTF-8 text: {error}") from None
    names = tuple(dict.fromkeys(line.strip() for line in lines if line.strip()))
    if not names:
        raise InputError(f"manifests.vocabulary: {where} holds no name; write one a line")
    if len(names) > MAX_NAMES:
        raise InputError(
            f"manifests.vocabulary: {where} has {len(names):,} names; at most {MAX_NAMES:,} are "
            "compared, so shorten it"
        )
    longest = max(names, key=len)
    if len(longest) > MAX_NAME:
        raise InputError(
            f"manifests.vocabulary: {where} has a line of {len(longest):,} characters, which is no "
            f"name; write one name a line, at most {MAX_NAME} characters long"
        )
    return names


def phrases(names: Sequence[str], prompts: Sequence[str]) -> list[str]:
    """Every name in every prompt: all prompts of the first name, then of the second."""
    return [prompt.replace(PLACE, name) for name in names for prompt in prompts]


def name_vectors(texts_XD: NDArray[np.float32], *, prompts: int) -> NDArray[np.float32]:
    """Unit rows (T, D): the mean over the prompts of each name, of unit rows of `phrases`."""
    mean_TD = texts_XD.reshape(-1, prompts, texts_XD.shape[1]).mean(axis=1)
    unit_TD: NDArray[np.float32] = mean_TD / np.linalg.norm(mean_TD, axis=1, keepdims=True)
    return unit_TD


def propose(
    sums_CD: NDArray[np.floating],
    counts_C: NDArray[np.integer],
    rest_D: NDArray[np.floating],
    rest: int,
    *,
    names: Sequence[str],
    names_TD: NDArray[np.float32],
    count: int,
) -> list[list[Proposal]]:
    """For each cluster the `count` names that tell it best from the others; none for an empty one.

    Args:
        sums_CD: Sums of the unit picture vectors of each cluster.
        counts_C: How many those are.
        rest_D: The same of pictures in no cluster, `rest` of them.
        rest: See above.
        names: The vocabulary.
        names_TD: Their unit vectors.
        count: Names for each cluster.
    """
    cosines_CT = sums_CD @ names_TD.T  # a sum of cosines, since both are unit vectors
    all_T = cosines_CT.sum(axis=0) + rest_D @ names_TD.T
    total = int(counts_C.sum()) + rest
    found: list[list[Proposal]] = []
    for cosines_T, inside in zip(cosines_CT, counts_C.tolist(), strict=True):
        if inside == 0:
            found.append([])
            continue
        inside_T = cosines_T / inside
        outside_T = (all_T - cosines_T) / max(total - inside, 1)
        score_T = inside_T - outside_T
        best = np.argsort(-score_T, kind="stable")[:count]
        found.append(
            [
                Proposal(names[t], *(round(float(v[t]), 5) for v in (score_T, inside_T, outside_T)))
                for t in best
            ]
        )
    return found
