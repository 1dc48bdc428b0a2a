"""Whether an answer is a success or a failure, and what its trace says of why. Bars and measures are our choice."""

from __future__ import annotations

import numpy as np

from dpnet_lite.course.opened_episode import OpenedEpisode

SUCCESS, FAILURE = 0.7, 0.5  # a success has at least the one IoU, a failure less than the other


def outcome(iou: float) -> str:
    """In a word: "success", "failure", or "in between"."""
    return "success" if iou >= SUCCESS else "failure" if iou < FAILURE else "in between"


def where(weights: np.ndarray, opened: OpenedEpisode) -> str:
    """What weights [H, W] in the query lie on: the object, and what most of the rest does if that is above a tenth."""
    rest = {f"another object ({name})": seen for name, seen in opened.others.items()}
    rest["the background"] = ~np.any([opened.truth, *rest.values()], axis=0)
    shares = {name: float(weights[seen].sum() / weights.sum()) for name, seen in rest.items()}
    most = max(shares, key=lambda name: shares[name])
    text = f"{100 * weights[opened.truth].sum() / weights.sum():.0f} % on the object"
    return f"{text} and {100 * shares[most]:.0f} % on {most}" if shares[most] > 0.1 else text


def why(opened: OpenedEpisode, perfect: OpenedEpisode | None = None) -> str:
    """An answer in a sentence or two of HTML, all numbers from its own trace.

    Args:
        perfect: the same episode with the query's true mask as the selection: is the selection to blame for a failure?
    """
    kind, found = outcome(opened.iou), opened.prediction
    missed = 1 - (found & opened.truth).sum() / opened.truth.sum()
    text = f"<b>{kind.capitalize()}</b>, IoU {opened.iou:.2f}: the selection lies {where(opened.selected, opened)}, "
    text += f"the mask {where(found, opened)}" if found.any() else "the mask is empty"
    text += f"; it misses {100 * missed:.0f} % of the object." if missed > 0.3 else "."
    if perfect is None or kind != "failure":
        return text
    blame = "the selection is to blame" if perfect.iou >= FAILURE else "a better selection alone would not do"
    return f"{text} With a perfect selection the same weights reach {perfect.iou:.2f}: {blame}."
