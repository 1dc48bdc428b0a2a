"""How often 95 % intervals hold the truth, in simulations where it is known, and what `spread` is made of."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from dpnet_lite.evaluation import EpisodeScores
from dpnet_lite.experiments import shared_images
from dpnet_lite.experiments.intervals import bootstrap_interval, influence, mean_paired_difference, paired_difference
from dpnet_lite.experiments.shared_images import LEAST_FREEDOM, _possible, spread

N_CLASSES, PIXELS = 5, 9216
LEADS = (0.55, 0.50)  # mean IoU of two methods
QUERY, SUPPORT, OWN = 0.045, 0.03, 0.12  # how far an image or an episode moves the IoU, common to both methods
APART = 0.6  # and how far one method alone, as a share of that


def image_effects(generator: np.random.Generator, scale: float, n: int) -> np.ndarray:
    """Effects of n images of every class on two methods, which have most of them in common: [2, classes, n]."""
    common = generator.normal(0, scale, (N_CLASSES, n))
    return np.stack([common + generator.normal(0, APART * scale, (N_CLASSES, n)) for _ in LEADS])


def simulated_pair(generator: np.random.Generator, n_images: int, n_episodes: int, n_shot: int):
    """Scores of two methods on episodes drawn from few images of each class, as the package draws them."""
    query_effects, support_effects = (image_effects(generator, scale, n_images) for scale in (QUERY, SUPPORT))
    sizes = 1000 * np.exp(generator.normal(0, 0.6, (N_CLASSES, n_images))).clip(0.1, 9)
    classes = np.repeat(np.arange(N_CLASSES), n_episodes)
    images = []
    for _ in classes:
        query = int(generator.integers(n_images))
        rest = np.delete(np.arange(n_images), query)
        images.append([query, *generator.choice(rest, n_shot, replace=False)])
    images = np.array(images)  # [n, 1 + K], numbered within the class
    unions = np.rint(sizes[classes, images[:, 0]]).astype(int)
    own = generator.normal(0, 0.7 * OWN, len(classes))
    numbers = images + n_images * classes[:, None]
    pair = []
    for lead, of_query, of_support in zip(LEADS, query_effects, support_effects, strict=True):
        iou = lead + of_query[classes, images[:, 0]] + of_support[classes[:, None], images[:, 1:]].mean(axis=1)
        iou = np.clip(iou + own + generator.normal(0, 0.7 * OWN, len(classes)), 0, 1)
        hits = np.rint(iou * unions).astype(int)
        counts = np.stack([hits, unions, PIXELS - unions, PIXELS - hits], axis=1)
        pair.append(EpisodeScores(classes, counts, tuple("abcde"), "list", numbers))
    return pair


def without_images(scores: EpisodeScores) -> EpisodeScores:
    return EpisodeScores(scores.class_index, scores.counts, scores.class_names, scores.episodes_sha256)


def coverage(n_repeats: int, n_images: int, n_episodes: int, n_shot: int, known: bool = True) -> tuple[float, float]:
    """Share of intervals, of a score and of a difference, that hold the truth. An IoU is clipped too seldom to tell."""
    generator, held = np.random.default_rng(n_images + 1000 * n_shot), []
    for repeat in range(n_repeats):
        pair = simulated_pair(generator, n_images, n_episodes, n_shot)
        full, control = pair if known else map(without_images, pair)
        score = bootstrap_interval(full, n_resamples=1000, seed=repeat)
        _, difference = paired_difference(full, control, n_resamples=1000, seed=repeat)
        truths = LEADS[0], LEADS[0] - LEADS[1]
        held.append([low <= truth <= high for truth, (low, high) in zip(truths, (score, difference), strict=True)])
    of_score, of_difference = np.mean(held, axis=0)
    return float(of_score), float(of_difference)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("n_images", "n_episodes", "n_shot"),
    [(10, 100, 1), (20, 100, 1), (30, 100, 1), (6, 100, 5), (10, 100, 5), (30, 100, 5), (300, 100, 1), (300, 5, 1)],
)
def test_intervals_hold_the_truth_as_often_as_they_say(n_images, n_episodes, n_shot):
    """Of 95 % intervals 93 to 97 %."""
    held = coverage(600, n_images, n_episodes, n_shot)
    assert min(held) >= 0.93 and max(held) <= 0.97, held


@pytest.mark.slow
def test_without_the_images_intervals_of_few_images_are_too_short():
    """What the images are for: the simulation must be one in which they matter."""
    assert max(coverage(200, 10, 100, 1, known=False)) < 0.9


@pytest.mark.slow
def test_two_seeds_and_many_images_hold_the_truth():
    """Trainings scatter too: two seeds on each of four folds, which share their episodes."""
    generator, held = np.random.default_rng(5), []
    for repeat in range(400):
        runs: list[list[EpisodeScores]] = [[], []]
        for fold in range(4):
            names = tuple(f"{fold}{c}" for c in "abcde")
            pair = simulated_pair(generator, 300, 20, 1)
            for _, (own, scores) in itertools.product(range(2), zip(runs, pair, strict=True)):
                share = np.clip(scores.counts[:, 0] / scores.counts[:, 1] + generator.normal(0, 0.02), 0, 1)
                hits, unions = np.rint(share * scores.counts[:, 1]).astype(int), scores.counts[:, 1]
                counts = np.stack([hits, unions, PIXELS - unions, PIXELS - hits], axis=1)
                own.append(EpisodeScores(scores.class_index, counts, names, f"list {fold}", scores.images))
        _, (low, high) = mean_paired_difference(*runs, n_resamples=1000, seed=repeat)
        held.append(low <= LEADS[0] - LEADS[1] <= high)
    assert 0.93 <= np.mean(held) <= 0.98, np.mean(held)


def test_spread_of_independent_episodes_is_that_of_a_mean():
    """By hand: without images, the variance of a sum is m / (m - 1) of its squares, with m - 1 degrees of freedom."""
    x = np.array([0.3, -0.1, -0.4, 0.2, 0.0])
    found = spread([x], [None])
    assert found.variance == pytest.approx(5 / 4 * float(x @ x)) and found.freedom == pytest.approx(4)
    apart = np.arange(10).reshape(5, 2)  # every image in one episode: the same
    assert spread([x], [apart]).variance == pytest.approx(found.variance)
    assert spread([x, x], [apart, None]) == spread([x, x], [None, None])


def test_spread_where_nothing_can_be_estimated():
    assert spread([np.zeros(1)], [None]) == (0, LEAST_FREEDOM)  # one episode
    pairs = list(itertools.permutations(range(4), 2))
    added = {(0, 1): 1.0, (0, 2): -1.0, (3, 1): -1.0, (3, 2): 1.0}  # cancels out in every query and every support
    assert spread([np.array([added.get(pair, 0.0) for pair in pairs])], [np.array(pairs)]).variance == 12 / 11 * 4
    for found, possible in (
        ((4, 9, 0.25, 1), (4, 1, 0.25, 1)),
        ((4, -9, 0.25, 1), (4, -1, 0.25, 1)),
        ((0.5, 0.1, 0.25, 3), (0.5, 0.1, 0.25, 3)),
        ((-1, 1, 2, -3), (0, 0, 2, 1e-300)),
        ((0.5, 3), (0.5, 3)),
        ((-1, -2), (0, 1e-300)),
    ):
        assert tuple(_possible(np.array(found, dtype=float))) == possible  # variances that can be


def minque(x, images, first, apart=True):
    """The variance of the sum, written out: components of the first episodes, applied to all."""
    query, support = np.eye(images.max() + 1)[images[:, 0]], np.eye(images.max() + 1)[images[:, 1:]].mean(axis=1)
    parts = [query @ query.T, query @ support.T + support @ query.T, support @ support.T, np.eye(len(x))]
    if not apart:
        parts = [parts[0] + parts[2], parts[3]]
    centring = np.eye(first) - 1 / first
    centred = [centring @ part[:first, :first] @ centring for part in parts]
    forms = [[np.trace(a @ b) for b in centred] for a in centred]
    return np.linalg.solve(forms, [x[:first] @ c @ x[:first] for c in centred]) @ [part.sum() for part in parts]


def test_spread_is_right_on_average(monkeypatch):
    """Many draws of images and episodes with known variances: the mean of what is found is what it is."""
    generator = np.random.default_rng(3)
    images = np.array([generator.choice(40, 2, replace=False) for _ in range(200)])
    sums, found, added = [], [], []
    for _ in range(1000):
        query, support = generator.normal(0, 1.0, 40), generator.normal(0, 0.8, 40)
        x = query[images[:, 0]] + support[images[:, 1]] + generator.normal(0, 0.5, len(images))
        sums.append(x.sum())
        added.append(x - x.mean())
        found.append(spread([added[-1]], [images]).variance)
    chosen = added[np.argmax(found)]
    assert max(found) == pytest.approx(minque(chosen, images, 200))
    assert np.mean(found) == pytest.approx(np.var(sums), rel=0.1)  # three times what resampled episodes show
    assert np.var(sums) > 3 * len(images) * np.var(x)
    monkeypatch.setattr(shared_images, "MOST_EPISODES", 160)
    assert spread([chosen], [images + 1]).variance == pytest.approx(minque(chosen, images, 160))  # not kept yet


def test_where_every_episode_shows_all_images_support_and_query_are_taken_as_equally_large():
    """Three images, two shots: what the support adds cannot be told, and counts as much as the query's."""
    generator = np.random.default_rng(0)
    images = np.array([generator.permutation(3) for _ in range(60)])
    x = generator.normal(size=3)[images[:, 0]] + generator.normal(0, 0.3, 60)
    x -= x.mean()
    assert spread([x], [images]).variance == pytest.approx(minque(x, images, 60, apart=False))


def test_few_images_leave_few_degrees_of_freedom_but_not_below_the_floor():
    generator, found = np.random.default_rng(0), {}
    for n_images in (3, 8, 80):
        images = np.array([generator.choice(n_images, 2, replace=False) for _ in range(60)])
        x = generator.normal(size=n_images)[images[:, 0]] + generator.normal(0, 0.1, 60)
        found[n_images] = spread([x - x.mean()], [images]).freedom
    assert found[3] == LEAST_FREEDOM < found[8] < 8 and found[80] > 12


def test_influence_is_how_far_the_metric_falls_without_an_episode():
    scores, _ = simulated_pair(np.random.default_rng(1), 10, 6, 1)
    for metric in ("miou", "fb_iou", "episode_miou"):
        slow = np.zeros(len(scores.counts))
        for episode in range(len(slow)):
            rest = np.delete(np.arange(len(slow)), episode)
            without = EpisodeScores(scores.class_index[rest], scores.counts[rest], scores.class_names)
            slow[episode] = (getattr(scores, metric) - getattr(without, metric)) * 5 / 6
        for c in range(N_CLASSES):
            slow[scores.class_index == c] -= slow[scores.class_index == c].mean()
        assert influence(scores, metric) == pytest.approx(slow, abs=1e-12)
