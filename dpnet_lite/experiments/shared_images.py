"""How far a mean over episodes may be off where episodes share images.

Episodes drawn from few images are not independent: an image that is hard is hard in all of its episodes, as query and
as support. So what an episode adds to a mean is taken as the sum of three random parts: one of its query image, one of
its support images (their mean), and one of its own; the first two of the same image may go together. Their variances
are estimated by moments, as the one combination of quadratic forms that is right on average (Rao 1971, MINQUE), over
all classes together. How sure one is of the variance of the mean comes after Satterthwaite (1946), as degrees of
freedom of Student's t. The model is our choice; tests/experiments/test_coverage.py holds how often its intervals hold
the truth.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dpnet_lite.evaluation import Floats

# Where few support images are in nearly every episode, fewer degrees are found: intervals three times too wide.
LEAST_FREEDOM = 4.0
Images = NDArray[np.int64]  # [m, 1 + K]: the query image and the support images of each episode


class Spread(NamedTuple):
    """Of a sum over episodes, had other images been drawn and other episodes of them."""

    variance: float
    freedom: float


def spread(parts: Sequence[Floats], images: Sequence[Images | None]) -> Spread:
    """The spread of the sum of all `parts`, which is known up to the mean of each class.

    Args:
        parts: for each class, what its episodes add to the sum, float64 [m], less its mean.
        images: for each class, those of its episodes, or None: then episodes are taken as independent.
    """
    keys = [None if own is None else own.tobytes() for own in images]
    known = None not in keys
    designs = [_design(key if known else None, len(x)) for key, x in zip(keys, parts, strict=True)]
    forms = sum(np.einsum("iab,jab->ij", own, own) for _, own in designs)  # expected value of each form, by component
    found = sum(np.einsum("a,iab,b->i", x, own, x) for x, (own, _) in zip(parts, designs, strict=True))
    whole = sum(own.sum(axis=(1, 2)) for own, _ in designs)  # what each component adds to the variance of the sum
    components, weights = np.linalg.lstsq(forms, np.stack([found, whole], axis=1), rcond=1e-10)[0].T
    alone = sum(len(x) / max(1, len(x) - 1) * float(x @ x) for x in parts)
    variance = max(float(components @ whole), alone)
    possible = _possible(components)
    noise = 0.0
    for _, centred in designs:
        product = np.tensordot(weights, centred, 1) @ np.tensordot(possible, centred, 1)  # [m, m]
        noise += 2 * float((product * product.T).sum())
    freedom = 2 * float(possible @ whole) ** 2 / noise if noise else 1.0
    return Spread(variance, max(freedom, LEAST_FREEDOM))


@lru_cache(maxsize=512)  # of the lists in use: every metric and every pair of methods asks again
def _design(images: bytes | None, m: int) -> tuple[Floats, Floats]:
    """Which parts two episodes share, [components, m, m], and the same less the means of rows and columns.

    Components: the query's, query with support, the support's, the episode's own.
    """
    shared = [np.eye(m)]
    if images is not None:
        numbers = np.unique(np.frombuffer(images, np.int64), return_inverse=True)[1].reshape(m, -1)  # [m, 1 + K]
        places = np.eye(numbers.max() + 1)[numbers]  # [m, 1 + K, images]
        query, support = places[:, 0], places[:, 1:].mean(axis=1)  # [m, images] each
        both = query @ support.T
        shared = [query @ query.T, both + both.T, support @ support.T, *shared]
    design = np.stack(shared)
    rows, columns = design.mean(axis=1, keepdims=True), design.mean(axis=2, keepdims=True)
    return design, design - rows - columns + design.mean(axis=(1, 2), keepdims=True)


def _possible(components: Floats) -> Floats:
    """The nearest variances that can be: none below 0, and a covariance that two of them allow."""
    found = components.copy()
    found[-1] = max(found[-1], 1e-300)
    if len(found) > 1:
        found[[0, 2]] = np.maximum(found[[0, 2]], 0)
        found[1] = np.clip(found[1], *(np.sqrt(found[0] * found[2]) * np.array([-1, 1])))
    return found
