"""Whether an answer is a success or a failure, and what its trace says of why. Bars and measures are our choice."""

from __future__ import annotations

import numpy as np

from dpnet_lite.course.opened_episode import OpenedEpisode

SUCCESS, FAILURE = 0.7, 0.5  # a success has at least the one IoU, a failure less than the other


def outcome(iou: float) -> str:
    """In a word: "success", "failure", or "in between"."""
    return "success" if iou >= SUCCESS else "failure" if iou < FAILURE else "in between"


def where(weights: np.ndarray, opened: OpenedEpisode) -> str:
    """What share of weights [H, W] in the query lies on the object, on all others together, and on the background."""
    shares = {name: 100 * float(weights[seen].sum() / weights.sum()) for name, seen in opened.others.items()}
    own, others = 100 * float(weights[opened.truth].sum() / weights.sum()), sum(shares.values())
    text, ground = f"{own:.0f} % on the object", 100 - own - others
    hit = sorted((name for name in shares if shares[name] >= 0.5), key=lambda name: -shares[name])
    if hit:
        named = f"other objects (the {hit[0]} most)" if len(hit) > 1 else f"another object ({hit[0]})"
        text += f", {others:.0f} % on {named}"
    return f"{text}, {ground:.0f} % on the background" if ground >= 0.5 else text


def why(opened: OpenedEpisode, perfect: OpenedEpisode | None = None, whose: str = "") -> str:
    """An answer in a sentence or two of HTML, all numbers from its own trace.

    Args:
        perfect: the same episode with the query's true mask as the selection: would a better one mend a failure?
        whose: the network's name, to begin with.
    """
    kind, found = outcome(opened.iou), opened.prediction
    missed = 1 - (found & opened.truth).sum() / opened.truth.sum()
    text = f"{whose}: <b>{kind}</b>" if whose else f"<b>{kind.capitalize()}</b>"
    text += f", IoU {opened.iou:.2f}: the selection lies {where(opened.selected, opened)}, "
    text += f"the mask {where(found, opened)}" if found.any() else "the mask is empty"
    text += f"; it misses {100 * missed:.0f} % of the object." if missed > 0.3 else "."
    if perfect is None or kind != "failure":
        return text
    mends = "would have mended a part of it" if perfect.iou >= opened.iou + 0.05 else "alone would not do"
    mends = "would have mended it" if perfect.iou >= SUCCESS else mends
    return f"{text} With a perfect selection the same weights reach {perfect.iou:.2f}: a better selection {mends}."
