"""The training loop: resume, determinism, loss and schedule against plain formulas, held-out base classes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from dpnet_lite.comparison import FoldData, support_only, toy_fold, train_head
from dpnet_lite.config import ModelConfig, TrainingConfig
from dpnet_lite.model.backbone import build_backbone
from dpnet_lite.model.dpnet import Head
from dpnet_lite.training import Trainer, TrainingStopped, episode_loss, learning_rate

MODEL = ModelConfig(channels=8, dropout=0.3)
TRAINING = TrainingConfig(steps=8, batch_size=2, warmup_steps=2, checkpoint_every=3, flip=False, seed=5)


@pytest.fixture(scope="module")
def data() -> FoldData:
    backbone = build_backbone("tiny", "random", seed=1)
    return toy_fold(backbone, 2, seed=0, n_train=150, n_test=40)


def weights(head: Head) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in head.state_dict().items()}


def assert_same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> None:
    assert a.keys() == b.keys()
    for name in a:
        assert torch.equal(a[name], b[name]), name


@pytest.mark.parametrize("held_out", [0, 4])
def test_a_resumed_run_ends_with_the_weights_of_an_uninterrupted_one(data, tmp_path, held_out):
    config = replace(TRAINING, n_held_out=held_out, validate_every=2 if held_out else 0)
    whole = train_head(data, MODEL, config)

    def interrupt(items):
        for number, item in enumerate(items):
            if number == 5:
                raise KeyboardInterrupt
            yield item

    with pytest.raises(TrainingStopped, match=r"step 5 of 8.*--resume"):
        train_head(data, MODEL, config, folder=tmp_path, stage=lambda name: interrupt)
    resumed = train_head(data, MODEL, config, folder=tmp_path, resume=True)
    assert_same(weights(whole.head), weights(resumed.head))
    assert whole.validation == resumed.validation
    assert whole.step == resumed.step
    assert len((tmp_path / "log.jsonl").read_text().splitlines()) == len(whole.losses)


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(data):
    first, again = (train_head(data, MODEL, TRAINING).head for _ in range(2))
    other = train_head(data, MODEL, replace(TRAINING, seed=6)).head
    assert_same(weights(first), weights(again))
    assert not torch.equal(first.state_dict()["reduce.0.weight"], other.state_dict()["reduce.0.weight"])


def test_the_rival_starts_from_the_same_weights(data):
    heads = [
        Trainer(model, TRAINING, data.train, data.base, fold=2).head.module for model in (MODEL, support_only(MODEL))
    ]
    assert_same(*(weights(head) for head in heads))


def test_resuming_with_other_settings_is_refused(data, tmp_path):
    train_head(data, MODEL, replace(TRAINING, steps=2), folder=tmp_path)
    with pytest.raises(ValueError, match="another training; resume with the same settings"):
        train_head(data, MODEL, replace(TRAINING, steps=3), folder=tmp_path, resume=True)
    with pytest.raises(FileNotFoundError, match="nothing to resume"):
        train_head(data, MODEL, TRAINING, folder=tmp_path / "none", resume=True)


def slow_cross_entropy(logits: np.ndarray, target: np.ndarray, foreground_weight: float) -> float:
    """Weighted mean over the pixels that are not 255, one pixel at a time."""
    losses, weights = [], []
    for b, y, x in np.ndindex(target.shape):
        if target[b, y, x] != 255:
            z = logits[b, :, y, x].astype(np.float64)
            losses.append(np.log(np.exp(z).sum()) - z[target[b, y, x]])
            weights.append(foreground_weight if target[b, y, x] == 1 else 1.0)
    return float(np.average(losses, weights=weights))


@pytest.mark.parametrize(("auxiliary", "foreground_weight"), [("query", 1.0), ("support", 3.0), ("none", 2.0)])
def test_the_loss_equals_a_slow_loop(data, auxiliary, foreground_weight):
    model = replace(MODEL, auxiliary=auxiliary, dropout=0.0)
    torch.manual_seed(0)
    head = Head(model, 144, 96).train()
    batch = data.train.batch([Trainer(model, TRAINING, data.train, data.base, fold=2).episodes[i] for i in range(2)])
    labels = batch.query_labels.clone()
    labels[:, :20, :30] = 255
    batch = batch._replace(query_labels=labels)
    output = head(batch.support_features, batch.support_masks, batch.query_features, size=(96, 96))
    total, main = episode_loss(
        output, batch, model, replace(TRAINING, auxiliary_weight=0.5, foreground_weight=foreground_weight)
    )
    expected = slow_cross_entropy(output.logits.detach().numpy(), labels.numpy(), foreground_weight)
    assert main.item() == pytest.approx(expected, rel=1e-5)
    if auxiliary == "none":
        assert total.item() == main.item()
        return
    if auxiliary == "support":
        shares = batch.support_masks[:, 0].numpy()
    else:
        shares = (labels == 1).numpy().reshape(2, 24, 4, 24, 4).mean(axis=(2, 4))  # [B, 96, 96] -> [B, 24, 24]
    assert output.auxiliary_logits is not None
    auxiliary_loss = slow_cross_entropy(
        output.auxiliary_logits.detach().numpy(), (shares >= 0.5).astype(int), foreground_weight
    )
    assert total.item() == pytest.approx(expected + 0.5 * auxiliary_loss, rel=1e-5)


def test_schedules():
    cosine = TrainingConfig(steps=100, warmup_steps=10, learning_rate=0.5)
    assert learning_rate(0, cosine) == pytest.approx(0.05)
    assert learning_rate(50, cosine) == pytest.approx(0.25)
    poly = replace(cosine, schedule="poly")
    assert learning_rate(50, poly) == pytest.approx(0.5 * 0.5**0.9)
    assert [learning_rate(s, cosine) for s in range(10, 100)] == sorted(
        (learning_rate(s, cosine) for s in range(10, 100)), reverse=True
    )


def test_training_lowers_the_loss_and_leaves_the_backbone_alone(data):
    before = {name: tensor.clone() for name, tensor in data.train.backbone.state_dict().items()}
    losses = train_head(data, replace(MODEL, dropout=0.0), replace(TRAINING, steps=40, warmup_steps=5)).losses
    assert losses[-1]["main"] < 0.95 * losses[0]["main"]  # rows at steps 10 and 40
    assert_same(before, data.train.backbone.state_dict())


def test_no_novel_class_is_trained_on_or_chosen_by(data):
    assert not set(data.base) & set(data.novel)
    trainer = Trainer(MODEL, TRAINING, data.train, data.base, fold=2)
    novel_values = torch.tensor([index + 1 for index in data.novel])
    assert {e.class_index for e in trainer.episodes} <= set(data.base)
    assert not torch.isin(data.train.labels, novel_values).any()  # no novel object in any training scene
    assert torch.isin(data.test.labels, novel_values).any()


def test_validation_needs_both_settings():
    with pytest.raises(ValueError, match="set both or neither"):
        TrainingConfig(validate_every=5)


def test_bf16_mixed_precision_trains(data):
    result = train_head(data, MODEL, replace(TRAINING, steps=2, precision="bf16-mixed"))
    assert all(torch.isfinite(tensor).all() for tensor in result.head.state_dict().values())
