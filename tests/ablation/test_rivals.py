"""The trained rivals and the rules without training, against plain NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from dpnet_lite.ablation.rivals import NETWORKS, _self_support_cosines, _trusted, untrained_segmenter
from dpnet_lite.config import ModelConfig
from dpnet_lite.model.episode_batch import EpisodeBatch

B, K, D, DEEP, SIDE = 2, 3, 7, 4, 6


@pytest.fixture(scope="module")
def batch() -> EpisodeBatch:
    generator = torch.Generator().manual_seed(0)
    labels = (torch.rand(B, K, SIDE, SIDE, generator=generator) < 0.3).float()
    labels[:, :, 0, 0] = 1
    ignored = torch.rand(B, K, SIDE, SIDE, generator=generator) < 0.1
    masks = labels.masked_fill(ignored, 0)
    return EpisodeBatch(
        torch.randn(B, K, D, SIDE, SIDE, generator=generator),
        masks,
        (1 - labels).masked_fill(ignored, 0),
        torch.randn(B, D, SIDE, SIDE, generator=generator),
        torch.zeros(B, SIDE, SIDE, dtype=torch.int64),
    )


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    """0 with a vector of zeros, which a ReLU can give."""
    return float(a @ b / max(np.linalg.norm(a) * np.linalg.norm(b), 1e-12))


def slow_prototype(features: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """[K, D, h, w], [K, h, w] -> [D], the mean over shots of the masked mean."""
    return np.mean([(f * w).sum(axis=(1, 2)) / w.sum() for f, w in zip(features, weights, strict=True)], axis=0)


def built(**settings):
    """A rival in training mode."""
    config = ModelConfig(dropout=0.0, **settings)
    return NETWORKS[config.network](config, D, DEEP).train()


@pytest.mark.parametrize(("name", "wrong", "right"), [("panet", "query", "support"), ("ssp", "support", "query")])
def test_an_auxiliary_loss_that_the_rival_does_not_have(name, wrong, right):
    with pytest.raises(ValueError, match=f"auxiliary is '{wrong}', but the network '{name}' has '{right}' or 'none'"):
        built(network=name, auxiliary=wrong)


def test_panet_decides_by_the_nearer_prototype_and_segments_the_support_back(batch):
    network = built(network="panet", auxiliary="support", channels=5)
    output = network(batch, (SIDE, SIDE))
    reduce = lambda x: network.reduce(x).detach().double().numpy()  # noqa: E731
    for b in range(B):
        support, query = reduce(batch.support_features[b]), reduce(batch.query_features[b : b + 1])[0]
        pair = [slow_prototype(support, part[b].numpy()) for part in (batch.support_background, batch.support_masks)]
        expected = np.array(
            [[[20 * cosine(query[:, y, x], p) for x in range(SIDE)] for y in range(SIDE)] for p in pair]
        )
        np.testing.assert_allclose(output.logits[b].detach(), expected, atol=1e-3)
        won = expected.argmax(axis=0)
        back = [query[:, won == k].mean(axis=1) if (won == k).any() else np.zeros(5) for k in (0, 1)]
        for shot in range(K):
            logits = output.auxiliary_logits[b * K + shot].detach()
            for k, y, x in ((0, 1, 2), (1, 3, 4), (1, 5, 0)):
                if (won == k).any():
                    assert logits[k, y, x] == pytest.approx(20 * cosine(support[shot][:, y, x], back[k]), abs=1e-3)
    assert network.eval()(batch, (SIDE, SIDE)).auxiliary_logits is None


def test_self_support_is_the_plain_loop():
    generator = torch.Generator().manual_seed(1)
    query, prototypes = torch.randn(1, 5, 4, 4, generator=generator), torch.randn(1, 2, 5, generator=generator)
    foreground = torch.rand(1, 4, 4, generator=generator)
    probabilities = torch.stack([1 - foreground, foreground], dim=1)
    found = _self_support_cosines(query, prototypes, probabilities)[0].numpy()
    pixels, share = query[0].flatten(1).double().numpy(), foreground.flatten().numpy()
    sure_foreground, sure_background = share > 0.7, (1 - share) > 0.6
    assert sure_foreground.any() and sure_background.any()
    own = 0.5 * prototypes[0, 1].numpy() + 0.5 * pixels[:, sure_foreground].mean(axis=1)
    general = pixels[:, sure_background].mean(axis=1)
    for number in range(16):
        pixel = pixels[:, number]
        weights = np.array([np.exp(2 * cosine(pixel, pixels[:, i])) if sure_background[i] else 0 for i in range(16)])
        adaptive = pixels @ (weights / weights.sum())
        background = 0.3 * general + 0.7 * adaptive
        y, x = divmod(number, 4)
        assert found[:, y, x] == pytest.approx([cosine(pixel, background), cosine(pixel, own)], abs=1e-5)


def test_where_no_pixel_is_sure_the_twelve_most_probable_are_taken():
    probability = torch.linspace(0, 0.5, 16).reshape(1, 4, 4)
    assert _trusted(probability, 0.7).flatten().tolist() == [0.0] * 4 + [1.0] * 12
    assert _trusted(probability, 0.45).sum() == 2


def test_ssp_learns_from_its_first_prediction_too(batch):
    network = built(network="ssp")
    output = network(batch, (SIDE, SIDE))
    assert output.logits.shape == output.auxiliary_logits.shape == (B, 2, SIDE, SIDE)
    (output.logits.sum() + output.auxiliary_logits.sum()).backward()
    assert network.reduce[0].weight.grad.abs().sum() > 0
    with pytest.raises(ValueError, match="the network 'ssp' keeps no trace"):
        network(batch, (6, 6), trace=True)


def test_the_nearest_pixel_is_that_of_a_loop(batch):
    logits = untrained_segmenter("nearest pixel", DEEP)(batch)
    for b in range(B):
        support = batch.support_features[b, :, -DEEP:].permute(0, 2, 3, 1).reshape(-1, DEEP).numpy()
        inside = batch.support_masks[b].flatten().numpy() >= 0.5
        for y, x in ((0, 0), (2, 3), (5, 5)):
            pixel = batch.query_features[b, -DEEP:, y, x].numpy()
            cosines = np.array([cosine(pixel, other) for other in support])
            assert logits[b, :, y, x].numpy() == pytest.approx(
                [cosines[~inside].max(), cosines[inside].max()], abs=1e-5
            )


def test_self_support_without_training_uses_the_deep_features_alone(batch):
    segment = untrained_segmenter("self-support", DEEP)
    changed = batch._replace(query_features=batch.query_features.clone())
    changed.query_features[:, : D - DEEP] = 9.0
    assert torch.equal(segment(batch), segment(changed))
    deep = [t[..., -DEEP:, :, :] for t in (batch.support_features, batch.query_features)]
    pair = [
        np.stack([slow_prototype(deep[0][b].numpy(), part[b].numpy()) for b in range(B)])
        for part in (batch.support_background, batch.support_masks)
    ]
    prototypes = torch.from_numpy(np.stack(pair, axis=1)).float()
    first = torch.nn.functional.cosine_similarity(deep[1][:, None], prototypes[..., None, None], dim=2)
    expected = _self_support_cosines(deep[1], prototypes, (10 * first).softmax(dim=1))
    torch.testing.assert_close(segment(batch), expected, atol=1e-4, rtol=1e-4)
