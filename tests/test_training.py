"""The training loop: resume, determinism, loss and schedule against plain formulas, held-out base classes."""

from __future__ import annotations

import copy
import json
import math
import signal
from dataclasses import replace

import numpy as np
import pytest
import torch
from dpnet_lite.model.head import Head
from dpnet_lite.training_setup import hash_seed

from dpnet_lite import training_setup
from dpnet_lite.backbones.backbone import build_backbone
from dpnet_lite.checkpoints import load_training_state
from dpnet_lite.config import ModelConfig, TrainingConfig
from dpnet_lite.experiments import jobs
from dpnet_lite.experiments.experiment import FoldData, toy_fold
from dpnet_lite.experiments.jobs import support_only, train_head
from dpnet_lite.losses import episode_loss, episode_targets, learning_rate
from dpnet_lite.training import Trainer, TrainingStopped, is_lost_connection

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


@pytest.fixture(autouse=True)
def few_validation_episodes(monkeypatch):
    draw = jobs.draw_episodes
    monkeypatch.setattr(jobs, "draw_episodes", lambda *a, count, **k: draw(*a, count=min(count, 15), **k))


@pytest.mark.parametrize("held_out", [0, 4])
def test_a_resumed_run_ends_with_the_weights_of_an_uninterrupted_one(data, tmp_path, held_out):
    config = replace(TRAINING, n_held_out=held_out, validate_every=2 if held_out else 0)
    torch.manual_seed(1)  # dropout must not depend on the global state, which a new process would not have
    whole = train_head(data, MODEL, config)
    torch.manual_seed(2)

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
    assert resumed.losses == whole.losses


def total_weight(head: Head) -> float:
    """Something to choose a checkpoint by that depends on every weight."""
    return float(sum(tensor.double().sum() for tensor in head.state_dict().values()))


@pytest.mark.usefixtures("default_interrupt")
@pytest.mark.parametrize("where", ["optimiser", "validation"])
def test_ctrl_c_within_a_step_waits_for_its_end(data, tmp_path, where):
    config = replace(TRAINING, n_held_out=4, validate_every=2)
    pressed = []

    def press(name, step):
        if name == where and step == 4 and not pressed:
            pressed.append(step)
            signal.raise_signal(signal.SIGINT)

    def validate(head):
        press("validation", trainer.step)
        return total_weight(head)

    whole = Trainer(MODEL, config, data.train, data.base[:-4], fold=2, validate=total_weight).run()
    trainer = Trainer(MODEL, config, data.train, data.base[:-4], fold=2, folder=tmp_path, validate=validate)
    trainer.optimiser.optimizer.register_step_post_hook(lambda *_: press("optimiser", trainer.step))
    with pytest.raises(TrainingStopped, match=r"step (4|5) of 8"):
        trainer.run()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    again = Trainer(MODEL, config, data.train, data.base[:-4], fold=2, folder=tmp_path, validate=total_weight)
    resumed = again.run(resume=True)
    assert_same(weights(whole.head), weights(resumed.head))
    assert resumed.validation == whole.validation


@pytest.mark.usefixtures("default_interrupt")
def test_an_ignored_ctrl_c_stays_ignored(data):
    """As in a background job: the run goes to its end, and the signal is still ignored afterwards."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    trainer = Trainer(MODEL, TRAINING, data.train, data.base, fold=2)
    trainer.optimiser.optimizer.register_step_post_hook(lambda *_: signal.raise_signal(signal.SIGINT))
    assert trainer.run().step == TRAINING.steps
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN


def test_going_on_after_a_crash_repeats_the_lost_steps_without_doubling_the_log(data, tmp_path):
    config = replace(TRAINING, steps=24, batch_size=1, checkpoint_every=8)

    def crash(items):
        for item in items:
            if item == 22:  # rows of steps 10 and 20 are written, the state is that of step 16
                raise MemoryError
            yield item

    with pytest.raises(MemoryError):
        train_head(data, MODEL, config, folder=tmp_path, stage=lambda name: crash)
    resumed = train_head(data, MODEL, config, folder=tmp_path, resume=True)
    assert_same(weights(resumed.head), weights(train_head(data, MODEL, config).head))
    assert [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()] == resumed.losses
    train_head(data, MODEL, replace(config, steps=10), folder=tmp_path)  # anew: the old rows go
    assert [json.loads(line)["step"] for line in (tmp_path / "log.jsonl").read_text().splitlines()] == [10]


def test_a_run_in_two_parts_is_the_run_in_one(data, tmp_path):
    whole = train_head(data, MODEL, TRAINING).head
    first = Trainer(MODEL, TRAINING, data.train, data.base, fold=2, folder=tmp_path).run(stop_after=3)
    early = weights(first.head)
    second = Trainer(MODEL, TRAINING, data.train, data.base, fold=2, folder=tmp_path).run(resume=True)
    assert first.step == 3 and second.step == 8
    assert_same(weights(whole), weights(second.head))
    assert_same(early, weights(first.head))
    trainer = Trainer(MODEL, TRAINING, data.train, data.base, fold=2)
    first, second = trainer.run(stop_after=3), trainer.run()
    assert_same(weights(whole), weights(second.head))
    assert_same(early, weights(first.head))  # what was handed out is not trained on
    assert not torch.equal(early["reduce.0.weight"], second.head.state_dict()["reduce.0.weight"])


def test_the_best_step_on_held_out_classes_is_returned(data):
    scores = iter([0.1, 0.3, 0.3, 0.2])  # after steps 2, 4, 6 and 8; ties: the earlier
    config = replace(TRAINING, n_held_out=4, validate_every=2)
    result = Trainer(MODEL, config, data.train, data.base, fold=2, validate=lambda head: next(scores)).run()
    assert result.step == 4 and [row["miou"] for row in result.validation] == [0.1, 0.3, 0.3, 0.2]
    stopped = Trainer(MODEL, TRAINING, data.train, data.base, fold=2).run(stop_after=4)
    assert_same(weights(result.head), weights(stopped.head))


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(data):
    first, again = (train_head(data, MODEL, TRAINING).head for _ in range(2))
    other = train_head(data, MODEL, replace(TRAINING, seed=6)).head
    assert_same(weights(first), weights(again))
    assert not torch.equal(first.state_dict()["reduce.0.weight"], other.state_dict()["reduce.0.weight"])


def test_the_rival_starts_from_the_same_weights(data):
    heads = [Trainer(model, TRAINING, data.train, data.base, fold=2).network for model in (MODEL, support_only(MODEL))]
    assert_same(*(weights(head) for head in heads))


def test_resuming_with_other_settings_is_refused(data, tmp_path):
    train_head(data, MODEL, replace(TRAINING, steps=2), folder=tmp_path)
    with pytest.raises(ValueError, match=r"trained with steps 2 \(now 3\); resume with the same settings"):
        train_head(data, MODEL, replace(TRAINING, steps=3), folder=tmp_path, resume=True)
    with pytest.raises(ValueError, match=r"trained with channels 8 \(now 16\); resume with"):
        train_head(data, replace(MODEL, channels=16), replace(TRAINING, steps=2), folder=tmp_path, resume=True)
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
    background = batch.support_background.clone()
    background[:, :, :, :6] = 0  # ignored where it is not foreground
    batch = batch._replace(query_labels=labels, support_background=background)
    output = head(batch.support_features, batch.support_masks, batch.query_features, size=(96, 96))
    total, main = episode_loss(
        output,
        episode_targets(batch, auxiliary),
        replace(TRAINING, auxiliary_weight=0.5, foreground_weight=foreground_weight),
    )
    expected = slow_cross_entropy(output.logits.detach().numpy(), labels.numpy(), foreground_weight)
    assert main.item() == pytest.approx(expected, rel=1e-5)
    if auxiliary == "none":
        assert total.item() == main.item()
        return
    if auxiliary == "support":
        foreground, background = batch.support_masks[:, 0].numpy(), batch.support_background[:, 0].numpy()
    else:  # [B, 96, 96] -> [B, 24, 24]
        foreground, background = ((labels == k).numpy().reshape(2, 24, 4, 24, 4).mean(axis=(2, 4)) for k in (1, 0))
    cells = np.where(foreground >= background, 1, 0)
    cells[foreground + background < 0.5] = 255
    assert (cells == 255).any() and (cells == 1).any()
    assert output.auxiliary_logits is not None
    auxiliary_loss = slow_cross_entropy(output.auxiliary_logits.detach().numpy(), cells, foreground_weight)
    assert total.item() == pytest.approx(expected + 0.5 * auxiliary_loss, rel=1e-5)


def test_the_logged_loss_of_the_first_step_is_that_of_the_first_weights(data):
    """From episodes to number with a network that was built here and a loss that NumPy computed."""
    model, config = replace(MODEL, dropout=0.0, auxiliary="none"), replace(TRAINING, steps=1)
    trainer = Trainer(model, config, data.train, data.base, fold=2)
    torch.manual_seed(config.seed)
    head = Head(model, data.train.backbone.out_channels, data.train.backbone.deep_channels).train()
    batch = data.train.batch(list(trainer.episodes)[: config.batch_size])
    with torch.no_grad():
        logits = head(batch.support_features, batch.support_masks, batch.query_features, size=(96, 96)).logits
    row = trainer.run().losses[0]
    assert row["main"] == pytest.approx(slow_cross_entropy(logits.numpy(), batch.query_labels.numpy(), 1.0), rel=1e-5)
    assert row["loss"] == row["main"] and row["step"] == 1


def test_schedules():
    cosine = TrainingConfig(steps=100, warmup_steps=10, learning_rate=0.5)
    poly = replace(cosine, schedule="poly")
    for step in (0, 4, 9, 10, 37, 50, 99):
        warm = (step + 1) / 10 if step < 10 else 1.0
        assert learning_rate(step, cosine) == pytest.approx(warm * 0.5 * (1 + math.cos(math.pi * step / 100)) / 2)
        assert learning_rate(step, poly) == pytest.approx(warm * 0.5 * math.exp(0.9 * math.log(1 - step / 100)))
    assert learning_rate(0, replace(cosine, warmup_steps=0)) == 0.5


def test_every_step_uses_its_rate(data):
    trainer = Trainer(MODEL, TRAINING, data.train, data.base, fold=2)
    used = []
    trainer.optimiser.optimizer.register_step_pre_hook(lambda o, *_: used.append(o.param_groups[0]["lr"]))
    trainer.run()
    assert used == [learning_rate(step, TRAINING) for step in range(8)]


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


def test_neither_training_nor_validation_is_given_a_novel_class(data, monkeypatch):
    """The lists are told apart by the module that draws them."""
    asked = {}
    for module in (jobs, training_setup):

        def spy(dataset, classes, *, name=module.__name__, draw=module.draw_episodes, **settings):
            asked[name] = set(classes)
            assert not any(dataset.class_areas[:, index].any() for index in data.novel)
            return draw(dataset, classes, **settings)

        monkeypatch.setattr(module, "draw_episodes", spy)
    train_head(data, MODEL, replace(TRAINING, steps=2, n_held_out=5, validate_every=1))
    held_out, trained = asked["dpnet_lite.experiments.jobs"], asked["dpnet_lite.training_setup"]
    assert len(held_out) == 5 and not held_out & trained and held_out | trained == set(data.base)


def test_holding_out_every_class_is_refused(data):
    with pytest.raises(ValueError, match="n_held_out is 60, but fold 2 has 60 base classes; hold out fewer"):
        train_head(data, MODEL, replace(TRAINING, n_held_out=60, validate_every=1))


def test_validate_goes_with_its_setting(data):
    with pytest.raises(ValueError, match="validate_every is 0, but a validation was given; give both or neither"):
        Trainer(MODEL, TRAINING, data.train, data.base, fold=2, validate=lambda head: 0.0)


def test_validation_needs_both_settings():
    with pytest.raises(ValueError, match="set both or neither"):
        TrainingConfig(validate_every=5)


def test_bf16_mixed_precision_trains(data):
    result = train_head(data, MODEL, replace(TRAINING, steps=2, precision="bf16-mixed"))
    assert all(torch.isfinite(tensor).all() for tensor in result.head.state_dict().values())


def test_a_stopped_run_is_not_overwritten_without_resume(data, tmp_path):
    trainer = Trainer(MODEL, TRAINING, data.train, data.base, fold=2, folder=tmp_path)
    trainer.run(stop_after=1)
    before = (tmp_path / "state.bin").read_bytes(), (tmp_path / "log.jsonl").read_bytes()
    again = Trainer(MODEL, TRAINING, data.train, data.base, fold=2, folder=tmp_path)
    with pytest.raises(ValueError, match=r"stopped at step 1 of \d+; go on with --resume, or delete that folder"):
        again.run()
    assert ((tmp_path / "state.bin").read_bytes(), (tmp_path / "log.jsonl").read_bytes()) == before
    again.run(resume=True)
    Trainer(MODEL, TRAINING, data.train, data.base, fold=2, folder=tmp_path).run()  # a finished one is


def test_resume_refuses_other_episodes_and_another_backbone(data, tmp_path):
    Trainer(MODEL, TRAINING, data.train, data.base, fold=2, folder=tmp_path).run(stop_after=1)
    other = Trainer(MODEL, TRAINING, data.train, data.base[:-1], fold=2, folder=tmp_path)
    with pytest.raises(ValueError, match="with other episodes; resume"):
        other.run(resume=True)
    bank = copy.copy(data.train)
    bank.backbone = build_backbone("tiny", "random")
    other = Trainer(MODEL, TRAINING, bank, data.base, fold=2, folder=tmp_path)
    with pytest.raises(ValueError, match="with other backbone; resume"):
        other.run(resume=True)


def test_every_step_draws_its_own_dropout():
    seeds = {hash_seed(0, step, 0) for step in range(200)}
    assert len(seeds) == 200 and hash_seed(0, 3, 0) == hash_seed(0, 3, 0) != hash_seed(1, 3, 0)


def test_two_steps_drop_different_channels(data, monkeypatch):
    masks = []
    bernoulli = torch.Tensor.bernoulli
    monkeypatch.setattr(torch.Tensor, "bernoulli", lambda p: masks.append(bernoulli(p)) or masks[-1])
    Trainer(replace(MODEL, dropout=0.5), TRAINING, data.train, data.base, fold=2).run(stop_after=2)
    assert len(masks) == 2 and not torch.equal(masks[0], masks[1])


def test_a_compiled_head_trains_to_the_same_weights(data, monkeypatch):
    """Without code generation, which takes a minute: what is traced, what is not, and who holds the weights."""
    compile_module = torch.compile
    eager = {"backend": "eager"}
    monkeypatch.setattr(torch, "compile", lambda module, **options: compile_module(module, **options | eager))
    plain, compiled = (
        Trainer(MODEL, replace(TRAINING, steps=3, compile=flag), data.train, data.base, fold=2).run()
        for flag in (False, True)
    )
    for name, tensor in plain.head.state_dict().items():
        torch.testing.assert_close(compiled.head.state_dict()[name], tensor, rtol=0, atol=1e-6)
    assert not hasattr(compiled.head, "_orig_mod")


@pytest.mark.parametrize("optimiser", ["adamw", "sgd"])
def test_the_optimiser_has_the_settings(data, optimiser):
    config = replace(TRAINING, optimiser=optimiser, weight_decay=0.03, momentum=0.7)
    group = Trainer(MODEL, config, data.train, data.base, fold=2).optimiser.param_groups[0]
    assert group["weight_decay"] == 0.03
    assert (group["momentum"] == 0.7) if optimiser == "sgd" else ("betas" in group)


def test_an_error_before_an_update_keeps_the_last_whole_step(data, tmp_path, monkeypatch):
    trainer = Trainer(MODEL, TRAINING, data.train, data.base, fold=2, folder=tmp_path)
    whole = Trainer(MODEL, TRAINING, data.train, data.base, fold=2).run()
    batches = data.train.training_batches

    def broken(parts, config):
        for part, batch in zip(parts, batches(parts, config), strict=True):
            if part.step == 5:
                raise OSError("image 7 is gone")
            yield batch

    monkeypatch.setattr(data.train, "training_batches", broken)
    with pytest.raises(OSError, match="image 7 is gone"):
        trainer.run()
    assert load_training_state(tmp_path / "state.bin")["step"] == 5
    monkeypatch.undo()
    resumed = Trainer(MODEL, TRAINING, data.train, data.base, fold=2, folder=tmp_path).run(resume=True)
    assert_same(resumed.head.state_dict(), whole.head.state_dict())


def test_an_error_at_the_first_step_leaves_nothing_to_resume(data, tmp_path):
    trainer = Trainer(MODEL, replace(TRAINING, scale=0.1), data.train, data.base, fold=2, folder=tmp_path)
    with pytest.raises(ValueError, match="kept features cannot be augmented so"):
        trainer.run()
    Trainer(MODEL, TRAINING, data.train, data.base, fold=2, folder=tmp_path).run(stop_after=1)  # not refused


def test_an_update_that_breaks_off_is_not_saved(data, tmp_path, monkeypatch):
    config = replace(TRAINING, checkpoint_every=2)
    trainer = Trainer(MODEL, config, data.train, data.base, fold=2, folder=tmp_path)
    update = torch.optim.AdamW.step

    def broken(self, *arguments, **options):
        result = update(self, *arguments, **options)
        if trainer.step == 5:
            raise RuntimeError("out of memory")
        return result

    monkeypatch.setattr(torch.optim.AdamW, "step", broken)
    with pytest.raises(RuntimeError, match="out of memory"):
        trainer.run()
    assert load_training_state(tmp_path / "state.bin")["step"] == 4  # the last one that was saved in time


def test_a_gradient_that_is_not_finite_is_told(data, monkeypatch):
    trainer = Trainer(MODEL, replace(TRAINING, steps=2, warmup_steps=0), data.train, data.base, fold=2)
    with torch.no_grad():
        next(trainer.network.parameters()).fill_(float("inf"))
    with pytest.raises(ValueError, match=r"the gradient of step 1 is not finite .* lower learning_rate"):
        trainer.run()


def test_resume_refuses_another_size(data, tmp_path):
    Trainer(MODEL, TRAINING, data.train, data.base, fold=2, folder=tmp_path).run(stop_after=2)
    bank = copy.copy(data.train)
    bank.size = 95
    with pytest.raises(ValueError, match="other size"):
        Trainer(MODEL, TRAINING, bank, data.base, fold=2, folder=tmp_path).run(resume=True)


@pytest.mark.parametrize("text", ["Connection closed by peer", "NCCL communicator was aborted", "gloo: Read error"])
def test_what_says_that_another_process_is_gone(text):
    assert is_lost_connection(RuntimeError(text))
    assert not is_lost_connection(RuntimeError("CUDA out of memory"))
