"""An opened episode: what it shows is what the network used, and the quality of a selection against scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import jaccard_score, precision_score, recall_score

from dpnet_lite.checkpoints import load_head, shipped_head
from dpnet_lite.course.opened_episode import best_threshold_iou, selection_quality, with_switches
from dpnet_lite.scoring import head_segmenter, score_episodes


def test_an_opened_episode_shows_the_scenes_and_the_networks_own_answer(toy):
    episodes = toy.episodes(n_shot=2, count=6)
    for number, episode in enumerate(episodes):
        opened = toy.open(episode)
        assert opened.class_name == toy.class_names[episode.class_index]
        assert opened.support_images.shape == (2, 96, 96, 3) and opened.support_masks.shape == (2, 96, 96)
        for image, mask, index in zip(opened.support_images, opened.support_masks, episode.support, strict=True):
            scene = toy.world[index]
            assert (image == scene.image.permute(1, 2, 0).numpy()).all()
            assert (mask == (scene.labels.numpy() == episode.class_index + 1)).all() and mask.any()
        step = 96 // opened.trace.reliable.shape[-1]
        for row, column in ((0, 0), (41, 77), (95, 95)):
            weight = opened.trace.reliable[0, row // step, column // step] / opened.trace.reliable.max()
            assert opened.selected[row, column] == pytest.approx(float(weight))
        assert opened.iou == pytest.approx(jaccard_score(opened.truth.ravel(), opened.prediction.ravel()))
        counts = score_episodes(head_segmenter(toy.head), toy.bank, episodes).counts[number]
        assert opened.iou == pytest.approx(counts[0] / counts[1])


def test_no_episode_is_of_a_class_that_its_head_was_trained_on(toy):
    base = load_head(shipped_head(0))[1]["base_classes"]
    assert len(base) == 60 and not {toy.class_names[index] for index in toy.novel} & set(base)
    assert {episode.class_index for episode in toy.episodes()} <= set(toy.novel)


def test_switches_change_the_selection_and_keep_the_weights(toy):
    episode = toy.episodes()[0]
    oracle, default = toy.open(episode, selection="oracle"), toy.open(episode)
    assert torch.allclose(oracle.trace.reliable[0] > 0, oracle.truth_shares > 0)
    assert not torch.equal(oracle.trace.pseudo_prototype, default.trace.pseudo_prototype)
    assert torch.equal(oracle.trace.prototype, default.trace.prototype)
    changed = with_switches(toy.head, selection="top_k").state_dict()
    assert all(torch.equal(changed[name], tensor) for name, tensor in toy.head.state_dict().items())


def test_switches_that_need_other_weights_are_refused(toy):
    with pytest.raises(ValueError, match=r"fusion='single' needs other weights than this head has; train a head"):
        with_switches(toy.head, fusion="single")
    with pytest.raises(ValueError, match="selection is 'best'; choose one of"):
        with_switches(toy.head, selection="best")


def test_no_threshold_parts_equal_values():
    truth = torch.tensor([[True, False], [False, False]])
    assert best_threshold_iou(torch.zeros(2, 2), truth) == pytest.approx(0.25)
    assert best_threshold_iou(torch.tensor([[3.0, 2.0], [2.0, 1.0]]), truth) == 1


def test_quality_of_a_yes_or_no_selection_is_that_of_scikit_learn():
    generator = np.random.default_rng(0)
    for _ in range(20):
        chosen, truth = generator.random(40) < 0.3, generator.random(40) < 0.5
        chosen[0] = truth[0] = True
        precision, recall = selection_quality(torch.tensor(chosen).float(), torch.tensor(truth).float())
        assert precision == pytest.approx(precision_score(truth, chosen))
        assert recall == pytest.approx(recall_score(truth, chosen))


def test_the_best_threshold_is_that_of_trying_all():
    generator = torch.Generator().manual_seed(0)
    for _ in range(10):
        similarity, truth = torch.rand(4, 5, generator=generator), torch.rand(4, 5, generator=generator) < 0.3
        truth[0, 0] = True
        tried = [jaccard_score(truth.flatten(), (similarity >= t).flatten()) for t in similarity.flatten()]
        assert best_threshold_iou(similarity, truth) == pytest.approx(max(tried))


def test_quality_of_weights_by_hand():
    weights = torch.tensor([[4.0, 2.0], [1.0, 1.0]])
    shares = torch.tensor([[1.0, 0.5], [0.5, 0.0]])
    # On the object: 4 + 1 + 0.5 of 8. Half full: three cells, of which two weigh at least 2.
    assert selection_quality(weights, shares) == pytest.approx((5.5 / 8, 2 / 3))
    precision, recall = selection_quality(torch.zeros(2), torch.zeros(2))
    assert np.isnan(precision) and np.isnan(recall)
