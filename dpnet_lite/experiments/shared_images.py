"""How far a mean over episodes may be off where episodes share images.

Episodes drawn from few images are not independent: an image that is hard is hard in all of its episodes, as query and
as support. So what an episode adds to a mean is taken as the sum of three random parts: one of its query image, one of
its support images (their mean), and one of its own; the first two of the same image may go together. Their variances
are estimated by moments, as the one combination of quadratic forms that is right on average (Rao 1971, MINQUE), over
all classes together. How sure one is of the variance of the mean comes after Satterthwaite (1946), as degrees of
freedom of Student's t. The model is our choice; tests/experiments/test_coverage.py simulates how often its intervals
hold the truth, for some numbers of images, shots and episodes. That an image may be hard in several classes at once is
left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dpnet_lite.evaluation import Floats

LEAST_FREEDOM = 4.0  # fewer make intervals far too wide
# Support and query are told apart where episodes whose own luck is twice that of an image would leave so many degrees.
TELLING_FREEDOM, USUAL = 12.0, np.array([1.0, 0.0, 1.0, 4.0])
MOST_EPISODES = 400  # of a class, to estimate from: time and memory go with the square
Images = NDArray[np.int64]  # [m, 1 + K]: the query image and the support images of each episode


class Spread(NamedTuple):
    """Of a sum over episodes, had other images been drawn and other episodes of them."""

    variance: float
    freedom: float


def spread(parts: Sequence[Floats], images: Sequence[Images | None]) -> Spread:
    """The spread of the sum of all `parts`, which is known up to the mean of each class.

    Where nearly every episode of a class shows all of its images, the part of the support can hardly be told from that
    of the query: both are then taken as equally large, and apart.

    Args:
        parts: for each class, what its episodes add to the sum, float64 [m], less its mean.
        images: for each class, those of its episodes, or None: then episodes are taken as independent.
    """
    known = all(own is not None for own in images)
    designs = [
        _design(own.tobytes() if own is not None and known else None, len(x))
        for own, x in zip(images, parts, strict=True)
    ]
    whole = np.sum([own for own, _ in designs], axis=0)  # what each component adds to the variance of the sum
    shown = [centred for _, centred in designs]
    if known and _freedom(shown, whole, USUAL) < TELLING_FREEDOM:
        shown = [np.stack([own[0] + own[2], own[3]]) for own in shown]
        whole = np.array([whole[0] + whole[2], whole[3]])
    few = [x[: own.shape[1]] for x, own in zip(parts, shown, strict=True)]
    found = np.sum([np.einsum("a,iab,b->i", x, own, x) for x, own in zip(few, shown, strict=True)], axis=0)
    components = np.linalg.lstsq(_forms(shown), found, rcond=1e-10)[0]
    alone = sum(len(x) / max(1, len(x) - 1) * float(x @ x) for x in parts)
    freedom = _freedom(shown, whole, _possible(components))
    return Spread(max(float(components @ whole), alone), max(freedom, LEAST_FREEDOM))


def _forms(shown: Sequence[Floats]) -> Floats:
    """The expected value of each quadratic form, by component: [components, components]."""
    return np.sum([np.einsum("iab,jab->ij", own, own) for own in shown], axis=0)


def _freedom(shown: Sequence[Floats], whole: Floats, components: Floats) -> float:
    """How sure the variance of the sum can be known where these are the components; 0 where it cannot be known."""
    forms, noise = _forms(shown), 0.0
    weights = np.linalg.lstsq(forms, whole, rcond=1e-10)[0]
    for centred in shown:
        product = np.tensordot(weights, centred, 1) @ np.tensordot(components, centred, 1)  # [m, m]
        noise += 2 * float((product * product.T).sum())
    return 2 * float(components @ whole) ** 2 / noise if noise > 0 and np.allclose(forms @ weights, whole) else 0.0


@lru_cache(maxsize=128)  # of the lists in use: every metric and every pair of methods asks again
def _design(images: bytes | None, m: int) -> tuple[Floats, Floats]:
    """What the components add to the variance of a sum, [components]; which of them two episodes share, centred.

    Components: the query's, query with support, the support's, the episode's own. The second is [components, m, m] less
    the means of rows and columns, of the first `MOST_EPISODES`: they are in random order, and tell the variances.
    """
    few = min(m, MOST_EPISODES)
    shared, whole = [np.eye(few)], [float(m)]
    if images is not None:
        numbers = np.unique(np.frombuffer(images, np.int64), return_inverse=True)[1].reshape(m, -1)  # [m, 1 + K]
        of_query, of_all = (np.bincount(own.ravel(), minlength=numbers.max() + 1) for own in (numbers[:, 0], numbers))
        of_support = (of_all - of_query) / (numbers.shape[1] - 1)  # [images], as the one before
        places = np.eye(len(of_all))[numbers[:few]]  # [few, 1 + K, images]
        query, support = places[:, 0], places[:, 1:].mean(axis=1)  # [few, images] each
        both = query @ support.T
        shared = [query @ query.T, both + both.T, support @ support.T, *shared]
        whole = [float(x @ y) for x, y in ((of_query, of_query), (2 * of_query, of_support), (of_support, of_support))]
        whole.append(float(m))
    design = np.stack(shared)
    rows, columns = design.mean(axis=1, keepdims=True), design.mean(axis=2, keepdims=True)
    return np.array(whole, dtype=float), design - rows - columns + design.mean(axis=(1, 2), keepdims=True)


def _possible(components: Floats) -> Floats:
    """The nearest variances that can be: none below 0, and a covariance that two of them allow."""
    found = components.copy()
    found[-1] = max(found[-1], 1e-300)
    if len(found) == 2:
        found[0] = max(found[0], 0)
    if len(found) == 4:
        found[[0, 2]] = np.maximum(found[[0, 2]], 0)
        found[1] = np.clip(found[1], *(np.sqrt(found[0] * found[2]) * np.array([-1, 1])))
    return found
