"""Weights of the bootstrap, and what is computed under them, against NumPy and scikit-learn on copied rows."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from dpnet_lite.experiments.intervals import (
    bootstrap_weights,
    percentile_interval,
    run_weights,
    weighted_auc,
    weighted_correlation,
)


@pytest.fixture(scope="module")
def drawn() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Two measures with ties, yes or no, and weights of 8 resamples."""
    generator = np.random.default_rng(0)
    x, y = generator.integers(0, 6, 40), generator.random(40)
    return x, x + 5 * y, generator.random(40) < 0.6, bootstrap_weights(np.arange(40) % 4, 8)


@pytest.mark.parametrize("n", [6, 20])
def test_run_weights_show_the_whole_variance_of_a_mean(n):
    """And that of Student's t in place of the normal distribution: v / (v - 2) of it."""
    generator = np.random.default_rng(n)
    values = generator.normal(size=n)
    weights = run_weights(np.zeros(n), 100_000, generator)
    np.testing.assert_allclose(weights.sum(axis=1), n)
    expected = values.var(ddof=1) / n * (n - 1) / (n - 3)
    assert np.var(weights @ values / n) == pytest.approx(expected, rel=0.05)


@pytest.mark.parametrize(("n_seeds", "n_folds"), [(2, 1), (2, 2), (3, 2), (5, 2)])
def test_intervals_of_few_runs_hold_the_truth_as_often_as_they_say(n_seeds, n_folds):
    """Runs that scatter about 0, many times: without the stretch 52, 66, 88 and 91 % of the intervals hold 0."""
    generator = np.random.default_rng(n_seeds)
    folds = np.repeat(np.arange(n_folds), n_seeds)
    weights = run_weights(folds, 2_000, generator)
    means = weights @ generator.normal(size=(len(folds), 4_000)) / len(folds)  # [resamples, studies]
    low, high = np.quantile(means, [0.025, 0.975], axis=0)
    assert 0.93 < np.mean((low <= 0) & (high >= 0)) < 0.97


def test_a_fold_with_one_run_weighs_it_one():
    assert (run_weights([0, 1], 3, np.random.default_rng(0)) == 1).all()
    weights = run_weights([0, 1, 1], 3, np.random.default_rng(0))
    assert (weights[:, 0] == 1).all() and weights[:, 1:].sum(axis=1) == pytest.approx(2)


def test_bootstrap_draws_within_classes_with_replacement():
    labels = np.array([0, 1, 1, 0, 1, 2])
    weights = bootstrap_weights(labels, 4000, seed=1)
    assert weights.shape == (4000, 6)
    for label, size in ((0, 2), (1, 3), (2, 1)):
        assert (weights[:, labels == label].sum(axis=1) == size).all()
    assert np.allclose(weights.mean(axis=0), 1, atol=0.05)
    assert np.allclose(weights[:, 1].var(), 3 * (1 / 3) * (2 / 3), atol=0.05)  # binomial
    assert (bootstrap_weights(labels, 5, seed=1) == bootstrap_weights(labels, 5, seed=1)).all()
    assert (bootstrap_weights(labels, 5, seed=1) != bootstrap_weights(labels, 5, seed=2)).any()


def copies(weights: np.ndarray) -> np.ndarray:
    return np.repeat(np.arange(len(weights)), weights.astype(int))


def test_measures_under_weights_are_those_of_copied_rows(drawn):
    x, y, positive, weights = drawn
    rows = [copies(row) for row in weights]
    assert np.allclose(weighted_correlation(x, y, weights), [np.corrcoef(x[r], y[r])[0, 1] for r in rows])
    assert np.allclose(weighted_auc(x, positive, weights), [roc_auc_score(positive[r], x[r]) for r in rows])
    assert weighted_auc(x, positive, np.ones(40)) == pytest.approx(roc_auc_score(positive, x))


def test_an_auc_of_one_kind_alone_is_undefined():
    assert np.isnan(weighted_auc([1, 2, 3], [True, True, True], np.ones(3)))
    assert weighted_auc([1, 2, 2], [False, True, False], np.ones(3)) == 0.75  # one pair right, one tied


def test_interval_by_hand():
    assert percentile_interval(np.arange(101.0), level=0.9) == pytest.approx((5, 95))
    assert percentile_interval([*range(101), float("nan")], level=0.9) == pytest.approx((5, 95))
    assert np.isnan(percentile_interval([float("nan")])).all()
    with pytest.raises(ValueError, match="level is 95"):
        percentile_interval([1.0], level=95)
