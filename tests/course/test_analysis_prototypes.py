"""Prototypes of many episodes: against slow loops, NumPy, scikit-learn and cases worked by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.neighbors import NearestCentroid

from dpnet_lite.course.analysis.prototypes import (
    KINDS,
    centred,
    class_table,
    collect_prototypes,
    cosines,
    disjoint_episodes,
    nearest_class,
    pair_means,
    pearson,
)
from dpnet_lite.episodes import Episode
from dpnet_lite.experiments.intervals import bootstrap_weights


def sample(seed: int, n: int = 24, channels: int = 7) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(4).repeat(n // 4)[torch.randperm(n, generator=generator)]
    a = torch.rand(n, channels, generator=generator) + torch.eye(4, channels)[labels]
    b = a + 0.6 * torch.randn(n, channels, generator=generator)
    return a, b, labels


def test_disjoint_episodes_by_hand():
    episodes = [
        Episode(3, 1, (2,)),
        Episode(3, 2, (4,)),  # image 2 is taken
        Episode(5, 4, (5,)),  # image 4 is not: the episode before was not kept
        Episode(3, 6, (7,)),
        Episode(3, 8, (9,)),  # the class is full
        Episode(5, 8, (9,)),
        Episode(5, 10, (6,)),  # the class is full, and 6 is taken
    ]
    kept = disjoint_episodes(episodes, per_class=2)
    assert kept == [episodes[0], episodes[2], episodes[3], episodes[5]]
    with pytest.raises(ValueError, match="per_class is 0; keep at least 1"):
        disjoint_episodes(episodes, per_class=0)


def test_collected_prototypes_are_those_of_the_opened_episodes(toy):
    episodes = disjoint_episodes(toy.episodes(count=100), per_class=1)[::-1][:8]
    found = collect_prototypes(toy, episodes)
    assert set(found.vectors) == set(KINDS) and all(v.shape == (8, 64) for v in found.vectors.values())
    assert [found.class_names[k] for k in found.labels] == [toy.class_names[e.class_index] for e in episodes]
    names = list(toy.class_names)
    assert list(found.class_names) == sorted(found.class_names, key=names.index)  # the catalogue's order
    for row, episode in enumerate(episodes):
        opened = toy.open(episode)
        oracle = toy.open(episode, selection="oracle")
        after = opened.trace.interaction
        given = (opened.trace.prototype, opened.trace.pseudo_prototype, after.prototype, after.pseudo_prototype)
        for kind, vectors in zip(KINDS, given, strict=False):
            assert torch.equal(found.vectors[kind][row], vectors[0])
        assert torch.allclose(found.vectors["own"][row], oracle.trace.pseudo_prototype[0], atol=1e-4)
        assert found.ious[row] == pytest.approx(opened.iou)
        on_object = (opened.trace.reliable[0] * opened.truth_shares).sum() / opened.trace.reliable[0].sum()
        assert found.precisions[row] == pytest.approx(float(on_object), abs=1e-5)
    with pytest.raises(ValueError, match="there are 0 episodes"):
        collect_prototypes(toy, [])


def test_cosines_and_pearson_are_those_of_numpy():
    a, b, _ = sample(0)
    wanted = [[np.dot(x, y) / np.linalg.norm(x) / np.linalg.norm(y) for y in b.numpy()] for x in a.numpy()]
    assert np.allclose(cosines(a, b), wanted, atol=1e-5)
    wanted = [[np.corrcoef(x, y)[0, 1] for y in b.numpy()] for x in a.numpy()]
    assert np.allclose(pearson(a, b), wanted, atol=1e-5)
    assert float(cosines(torch.zeros(1, 3), torch.ones(1, 3))) == 0


def test_centred_by_hand():
    assert centred(torch.tensor([[1.0, 6.0], [3.0, 2.0]])).tolist() == [[-1, 2], [1, -2]]


def test_class_table_is_that_of_loops_and_leaves_own_pairs_out():
    a, b, labels = sample(1, n=20)
    labels[labels == 3] = 2  # classes of different sizes
    similarity = cosines(a, b)
    table = class_table(similarity, labels)
    for x in range(3):
        for y in range(3):
            pairs = [
                float(similarity[i, j])
                for i in range(20)
                for j in range(20)
                if i != j and labels[i] == x and labels[j] == y
            ]
            assert float(table[x, y]) == pytest.approx(np.mean(pairs), abs=1e-5)
    alone = class_table(torch.tensor([[9.0, 1.0, 2.0], [3.0, 9.0, 5.0], [4.0, 7.0, 9.0]]), torch.tensor([0, 1, 1]))
    assert bool(alone[0, 0].isnan()) and alone[0, 1] == 1.5 and alone[1, 0] == 3.5 and alone[1, 1] == 6


def test_nearest_class_is_that_of_scikit_learn_on_points_of_length_one():
    differ = 0
    for seed in range(5):
        a, b, labels = sample(seed)
        unit = torch.nn.functional.normalize(a, dim=1).numpy()

        def predicted(rows: np.ndarray, point: np.ndarray, b: torch.Tensor, labels: torch.Tensor) -> int:
            model = NearestCentroid().fit(b.numpy()[rows], labels.numpy()[rows])
            model.centroids_ /= np.linalg.norm(model.centroids_, axis=1, keepdims=True)  # cosine order
            return int(model.predict(point[None])[0])

        every = np.arange(len(labels))
        own_out = [predicted(every[every != i], unit[i], b, labels) for i in every]
        with_own = [predicted(every, unit[i], b, labels) for i in every]
        assert nearest_class(a, b, labels).tolist() == own_out
        assert nearest_class(a, b, labels, leave_own_out=False).tolist() == with_own
        differ += own_out != with_own
    assert differ  # so the two can be told apart here


def test_a_class_without_another_episode_is_never_nearest_to_its_own_point():
    points = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-0.1, 1.0]])
    assert nearest_class(points, points, torch.tensor([0, 1, 1])).tolist() == [1, 1, 1]
    assert nearest_class(points, points, torch.tensor([0, 1, 1]), leave_own_out=False).tolist() == [0, 1, 1]
    opposite = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [-1.0, 0.0]])  # cosine -1 with all there is
    assert nearest_class(opposite, opposite, torch.tensor([0, 1, 1])).tolist()[0] == 1


def test_means_over_pairs_are_those_of_copied_episodes():
    a, b, labels = sample(2, n=12)
    values, same = cosines(a, b).double().numpy(), (labels[:, None] == labels[None]).numpy()
    weights = bootstrap_weights(labels, 6, seed=0)
    for chosen in (same, ~same):
        means = pair_means(values, chosen, weights)
        for mean, counts in zip(means, weights, strict=True):
            drawn = np.repeat(np.arange(12), counts.astype(int))
            pairs = [values[i, j] for i in drawn for j in drawn if i != j and chosen[i, j]]
            assert mean == pytest.approx(np.mean(pairs))
