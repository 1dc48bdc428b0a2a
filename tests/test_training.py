"""The training loop: resume, determinism, signals, a step in parts, loss and schedule against plain formulas."""

from __future__ import annotations

import copy
import json
import math
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from core_fixtures import CELLS, SIDE, ToyFold, assert_same, block_means, numpy64, toy_fold, trainer, weights
from torch import nn

from dpnet_lite.backbones.backbone import build_backbone
from dpnet_lite.config import ModelConfig, TrainingConfig
from dpnet_lite.episodes import StepParts, draw_episodes
from dpnet_lite.features import FeatureBank
from dpnet_lite.losses import Targets, episode_loss, episode_targets, learning_rate, target_weights
from dpnet_lite.model.episode_batch import Output
from dpnet_lite.scoring import head_segmenter, score_episodes
from dpnet_lite.storage.run_folder import load_training_state, save_training_state
from dpnet_lite.training import TrainingResult, TrainingStopped, initial_network

MODEL = ModelConfig(channels=8, dropout=0.3)
TRAINING = TrainingConfig(steps=8, batch_size=2, warmup_steps=2, checkpoint_every=3, flip=False, seed=5)


@pytest.fixture(scope="module")
def data() -> ToyFold:
    return toy_fold()


@pytest.fixture(scope="module")
def whole() -> TrainingResult:
    """An uninterrupted run."""
    torch.manual_seed(1)  # dropout must not depend on the global state, which a new process would not have
    return trainer(MODEL, TRAINING).run()


def stop_at(step: int, error: type[BaseException]) -> Callable[[range], Iterator[int]]:
    """A progress bar that raises before a step."""

    def progress(steps):
        for number in steps:
            if number == step:
                raise error
            yield number

    return progress


def total_weight(network: nn.Module) -> float:
    """Something to choose a checkpoint by that depends on every weight."""
    return float(sum(tensor.double().sum() for tensor in network.state_dict().values()))


def rows_of(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


# Stopping and resuming


@pytest.mark.parametrize("validates", [False, True])
def test_a_resumed_run_ends_with_the_weights_of_an_uninterrupted_one(whole, tmp_path, validates):
    config, more = TRAINING, {}
    if validates:
        config, more = replace(TRAINING, n_held_out=4, validate_every=2), {"validate": total_weight}
        whole = trainer(MODEL, config, **more).run()
    torch.manual_seed(2)
    stopped = trainer(MODEL, config, folder=tmp_path, **more)
    with pytest.raises(TrainingStopped, match=r"stopped at step 5 of 8; go on with --resume"):
        stopped.run(progress=stop_at(5, KeyboardInterrupt))
    resumed = trainer(MODEL, config, folder=tmp_path, **more).run(resume=True)
    assert_same(weights(whole.head), weights(resumed.head))
    assert (whole.validation, whole.step, whole.losses) == (resumed.validation, resumed.step, resumed.losses)
    assert len(whole.validation) == 4 * validates and rows_of(tmp_path) == whole.losses


@pytest.mark.usefixtures("default_interrupt")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("where", ["optimiser", "validation"])
def test_a_signal_within_a_step_waits_for_its_end(tmp_path, where, number):
    config, pressed = replace(TRAINING, n_held_out=4, validate_every=2), []
    usual = signal.getsignal(number)

    def press(name, step):
        if name == where and step == 4 and not pressed:
            pressed.append(step)
            signal.raise_signal(number)

    def validate(network):
        press("validation", stopped.step)
        return total_weight(network)

    stopped = trainer(MODEL, config, folder=tmp_path, validate=validate)
    stopped.optimiser.optimizer.register_step_post_hook(lambda *_: press("optimiser", stopped.step))
    with pytest.raises(TrainingStopped, match=r"step (4|5) of 8"):
        stopped.run()
    assert signal.getsignal(number) is usual
    resumed = trainer(MODEL, config, folder=tmp_path, validate=total_weight).run(resume=True)
    once = trainer(MODEL, config, validate=total_weight).run()
    assert_same(weights(once.head), weights(resumed.head))
    assert resumed.validation == once.validation


@pytest.mark.usefixtures("default_interrupt")
def test_a_second_signal_waits_for_the_end_of_the_step_as_well(tmp_path):
    """Torchrun passes on the Ctrl-C that its processes had from the terminal already."""
    stopped = trainer(MODEL, replace(TRAINING, checkpoint_every=2), folder=tmp_path)
    reached = []

    def press_twice(*_):
        if stopped.step == 5:
            for number in (signal.SIGINT, signal.SIGINT, signal.SIGTERM):
                signal.raise_signal(number)
                reached.append(number)

    stopped.optimiser.optimizer.register_step_post_hook(press_twice)
    with pytest.raises(TrainingStopped, match="stopped at step 6 of 8"):
        stopped.run()
    assert len(reached) == 3
    assert load_training_state(tmp_path / "state.bin")["step"] == 6


@pytest.mark.usefixtures("default_interrupt")
def test_an_ignored_ctrl_c_stays_ignored():
    """As in a background job: the run goes to its end, and the signal is still ignored afterwards."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    ignoring = trainer(MODEL, replace(TRAINING, steps=2))
    ignoring.optimiser.optimizer.register_step_post_hook(lambda *_: signal.raise_signal(signal.SIGINT))
    assert ignoring.run().step == 2
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN


def test_going_on_after_a_crash_repeats_the_lost_steps_without_doubling_the_log(tmp_path):
    config = replace(TRAINING, steps=24, batch_size=1, checkpoint_every=8)
    with pytest.raises(MemoryError):  # rows of steps 10 and 20 are written, the state is that of step 16
        trainer(MODEL, config, folder=tmp_path).run(progress=stop_at(22, MemoryError))
    resumed = trainer(MODEL, config, folder=tmp_path).run(resume=True)
    assert_same(weights(resumed.head), weights(trainer(MODEL, config).run().head))
    assert rows_of(tmp_path) == resumed.losses and [row["step"] for row in resumed.losses] == [10, 20, 24]
    trainer(MODEL, replace(config, steps=10), folder=tmp_path).run()  # anew: the old rows go
    assert [row["step"] for row in rows_of(tmp_path)] == [10]


def test_a_run_in_two_parts_is_the_run_in_one(whole, tmp_path):
    first = trainer(MODEL, TRAINING, folder=tmp_path).run(stop_after=3)
    second = trainer(MODEL, TRAINING, folder=tmp_path).run(resume=True)
    assert first.step == 3 and second.step == 8
    assert_same(weights(whole.head), weights(second.head))
    going_on = trainer(MODEL, TRAINING)
    again, last = going_on.run(stop_after=3), going_on.run()
    assert_same(weights(whole.head), weights(last.head))
    assert_same(weights(first.head), weights(again.head))  # what was handed out is not trained on
    assert not torch.equal(again.head.state_dict()["reduce.0.weight"], last.head.state_dict()["reduce.0.weight"])


def test_a_stopped_run_is_not_overwritten_without_resume(tmp_path):
    config = replace(TRAINING, steps=3)
    trainer(MODEL, config, folder=tmp_path).run(stop_after=1)
    before = (tmp_path / "state.bin").read_bytes(), (tmp_path / "log.jsonl").read_bytes()
    with pytest.raises(ValueError, match=r"stopped at step 1 of 3; go on with --resume, or delete that folder"):
        trainer(MODEL, config, folder=tmp_path).run()
    assert ((tmp_path / "state.bin").read_bytes(), (tmp_path / "log.jsonl").read_bytes()) == before
    trainer(MODEL, config, folder=tmp_path).run(resume=True)
    trainer(MODEL, config, folder=tmp_path).run()  # a finished one is


def test_how_a_step_is_computed_may_change_at_a_resume(whole, tmp_path):
    trainer(MODEL, TRAINING, folder=tmp_path).run(stop_after=3)
    parts = trainer(MODEL, replace(TRAINING, accumulate=2), folder=tmp_path).run(resume=True)
    assert parts.step == TRAINING.steps
    assert_same(parts.head.state_dict(), whole.head.state_dict(), atol=1e-5)  # sums in another order


def test_resuming_another_run_is_refused(data, tmp_path):
    trainer(MODEL, TRAINING, folder=tmp_path).run(stop_after=1)
    other_backbone, other_size = copy.copy(data.train), copy.copy(data.train)
    other_backbone.backbone, other_size.size = build_backbone("tiny", "random"), SIDE - 1
    for message, arguments in {
        r"trained with steps 8 \(now 9\); resume with the same settings": (MODEL, replace(TRAINING, steps=9)),
        r"trained with channels 8 \(now 16\)": (replace(MODEL, channels=16), TRAINING),
        "trained with other episodes": (MODEL, TRAINING, data.train, data.base[:-1]),
        "trained with other backbone": (MODEL, TRAINING, other_backbone),
        "trained with other size": (MODEL, TRAINING, other_size),
    }.items():
        with pytest.raises(ValueError, match=message):
            trainer(*arguments, folder=tmp_path).run(resume=True)
    with pytest.raises(FileNotFoundError, match=r"nothing to resume in .*none; leave out --resume"):
        trainer(MODEL, TRAINING, folder=tmp_path / "none").run(resume=True)


def test_an_error_before_an_update_keeps_the_last_whole_step(data, whole, tmp_path, monkeypatch):
    batches = FeatureBank.training_batches

    def broken(self, parts, config):
        for part, batch in zip(parts, batches(self, parts, config), strict=True):
            if part.step == 5:
                raise OSError("image 7 is gone")
            yield batch

    with monkeypatch.context() as patch:
        patch.setattr(FeatureBank, "training_batches", broken)
        with pytest.raises(OSError, match="image 7 is gone"):
            trainer(MODEL, TRAINING, folder=tmp_path).run()
    assert load_training_state(tmp_path / "state.bin")["step"] == 5
    assert_same(trainer(MODEL, TRAINING, folder=tmp_path).run(resume=True).head.state_dict(), whole.head.state_dict())


def test_an_error_at_the_first_step_leaves_nothing_to_resume(tmp_path):
    for name in ("scale", "rotation", "blur"):
        with pytest.raises(ValueError, match=rf"{name} is 0\.1, but kept features cannot be augmented so; set it to 0"):
            trainer(MODEL, replace(TRAINING, **{name: 0.1}), folder=tmp_path).run()
    trainer(MODEL, TRAINING, folder=tmp_path).run(stop_after=1)  # not refused


def test_an_update_that_breaks_off_is_not_saved(tmp_path, monkeypatch):
    broken_off = trainer(MODEL, replace(TRAINING, checkpoint_every=2), folder=tmp_path)
    update = torch.optim.AdamW.step

    def broken(self, *arguments, **options):
        result = update(self, *arguments, **options)
        if broken_off.step == 5:
            raise RuntimeError("out of memory")
        return result

    monkeypatch.setattr(torch.optim.AdamW, "step", broken)
    with pytest.raises(RuntimeError, match="out of memory"):
        broken_off.run()
    assert load_training_state(tmp_path / "state.bin")["step"] == 4  # the last one that was saved in time


# What determines a run


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(whole):
    torch.manual_seed(3)
    assert_same(weights(whole.head), weights(trainer(MODEL, TRAINING).run().head))
    other = trainer(MODEL, replace(TRAINING, seed=6, steps=1)).network
    assert not torch.equal(trainer(MODEL, TRAINING).network.state_dict()["reduce.0.weight"], other.reduce[0].weight)


def test_a_network_takes_the_initial_weights_that_fit_it(data):
    state = torch.get_rng_state()
    first = initial_network(MODEL, data.train.backbone, 5)
    rival = initial_network(replace(MODEL, pseudo_prototype=False), data.train.backbone, 5)
    assert_same(weights(first), weights(rival))
    assert torch.equal(state, torch.get_rng_state())
    other = replace(MODEL, interaction="off", fusion="single", prior=True)  # another width of the maps
    made = initial_network(other, data.train.backbone, 6, initial_weights=first.state_dict())
    plain = initial_network(other, data.train.backbone, 6)
    taken = {name for name, tensor in made.state_dict().items() if not torch.equal(tensor, weights(plain)[name])}
    assert {"reduce.0.weight", "decoder.classifier.weight"} <= taken and "fusion.levels.0.maps.weight" not in taken
    assert all(torch.equal(made.state_dict()[name], first.state_dict()[name]) for name in taken)


def test_the_best_step_on_held_out_classes_is_returned(whole):
    scores = iter([0.1, 0.3, 0.3, 0.2])  # after steps 2, 4, 6 and 8; ties: the earlier
    config = replace(TRAINING, n_held_out=4, validate_every=2)
    result = trainer(MODEL, config, validate=lambda network: next(scores)).run()
    assert result.step == 4 and [row["miou"] for row in result.validation] == [0.1, 0.3, 0.3, 0.2]
    assert_same(weights(result.head), weights(trainer(MODEL, TRAINING).run(stop_after=4).head))


def test_a_score_of_nan_is_never_the_best_and_numbers_of_numpy_are_saved(tmp_path):
    scores = iter(np.float64([float("nan"), 0.3, float("nan"), 0.2]))
    config = replace(TRAINING, n_held_out=4, validate_every=2)
    with torch.no_grad():  # of the caller, which is not meant for the training
        result = trainer(MODEL, config, folder=tmp_path, validate=lambda network: next(scores)).run()
    assert result.step == 4


def test_validate_goes_with_its_setting():
    with pytest.raises(ValueError, match="validate_every is 0, but a validation was given; give both or neither"):
        trainer(MODEL, TRAINING, validate=total_weight)
    with pytest.raises(ValueError, match="validate_every is 2, but a validation was not given"):
        trainer(MODEL, replace(TRAINING, validate_every=2, n_held_out=3))


def test_training_lowers_the_loss_and_leaves_the_backbone_alone(data):
    before = weights(data.train.backbone)
    losses = trainer(replace(MODEL, dropout=0.0), replace(TRAINING, steps=40, warmup_steps=5)).run().losses
    assert losses[-1]["main"] < 0.95 * losses[0]["main"]  # rows at steps 10 and 40
    assert_same(before, data.train.backbone.state_dict())


def test_only_the_given_classes_are_trained_on(data):
    assert {e.class_index for e in trainer(MODEL, replace(TRAINING, steps=40)).episodes} == set(data.base)
    novel_values = torch.tensor([index + 1 for index in data.novel])
    assert not torch.isin(data.train.labels, novel_values).any()  # no novel object in any training scene
    assert torch.isin(data.test.labels, novel_values).any()


def test_two_steps_drop_different_channels(monkeypatch):
    masks, bernoulli = [], torch.Tensor.bernoulli
    monkeypatch.setattr(torch.Tensor, "bernoulli", lambda p: masks.append(bernoulli(p)) or masks[-1])
    trainer(replace(MODEL, dropout=0.5), TRAINING).run(stop_after=2)
    assert len(masks) == 2 and not torch.equal(masks[0], masks[1])


def test_bf16_mixed_precision_trains():
    result = trainer(MODEL, replace(TRAINING, steps=2, precision="bf16-mixed")).run()
    assert all(torch.isfinite(tensor).all() for tensor in result.head.state_dict().values())


def test_a_compiled_network_trains_to_the_same_weights(monkeypatch):
    """Without code generation, which takes a minute: what is traced, what is not, and who holds the weights."""
    compile_module, traced = torch.compile, []

    def eager(graph, inputs):
        traced.append(graph)
        return graph.forward

    backend = {"backend": eager}
    monkeypatch.setattr(torch, "compile", lambda module, **options: compile_module(module, **options | backend))
    plain, compiled = (trainer(MODEL, replace(TRAINING, steps=2, compile=flag)).run().head for flag in (False, True))
    assert_same(compiled.state_dict(), plain.state_dict(), atol=1e-6)
    assert traced and not hasattr(compiled, "_orig_mod")


@pytest.mark.parametrize("optimiser", ["adamw", "sgd"])
def test_the_optimiser_has_the_settings(optimiser):
    config = replace(TRAINING, optimiser=optimiser, weight_decay=0.03, momentum=0.7)
    group = trainer(MODEL, config).optimiser.param_groups[0]
    assert group["weight_decay"] == 0.03
    assert (group["momentum"] == 0.7) if optimiser == "sgd" else ("betas" in group)


def test_a_gradient_that_is_not_finite_is_told():
    infinite = trainer(MODEL, replace(TRAINING, steps=2, warmup_steps=0))
    with torch.no_grad():
        next(infinite.network.parameters()).fill_(float("inf"))
    with pytest.raises(ValueError, match=r"the gradient of step 1 is not finite .* lower learning_rate"):
        infinite.run()


def test_a_loss_that_is_nan_names_its_episodes_and_keeps_the_last_good_step(data, tmp_path, monkeypatch):
    whole = trainer(MODEL, TRAINING, folder=tmp_path)
    first, second = (f"class {e.class_index} images {list(e.images)}" for e in whole.episodes[10:12])  # of step 6
    batches = FeatureBank.training_batches

    def broken(self, parts, config):
        for part, batch in zip(parts, batches(self, parts, config), strict=True):
            yield batch._replace(query_features=batch.query_features / (0 if part.step == 5 else 1))

    monkeypatch.setattr(FeatureBank, "training_batches", broken)
    with pytest.raises(ValueError) as caught:
        whole.run()
    rate = learning_rate(5, TRAINING)
    assert str(caught.value) == (
        f"the loss or the gradient of step 6 is not finite (learning rate {rate:.3g}; episodes: {first}, {second}); "
        "the features are not either: look at the backbone's weights"
    )
    assert load_training_state(tmp_path / "state.bin")["step"] == 5


@pytest.mark.parametrize(
    ("error", "remedy"),
    [
        (torch.OutOfMemoryError("CUDA out of memory.\nTried"), "raise accumulate .* or lower batch_size or the size"),
        (RuntimeError("[enforce fail at alloc_cpu.cpp:117] can't allocate"), "raise accumulate"),
        (RuntimeError("DataLoader worker (pid(s) 7) exited unexpectedly"), "with --resume and fewer --workers"),
    ],
)
def test_memory_that_is_full_and_a_lost_process_are_told_with_what_helps(data, tmp_path, monkeypatch, error, remedy):
    def broken(self, parts, config):
        yield self.batch(parts[0].episodes)
        raise error

    monkeypatch.setattr(FeatureBank, "training_batches", broken)
    with pytest.raises(RuntimeError, match=f"^step 2 broke off: .*{remedy}") as caught:
        trainer(MODEL, TRAINING, folder=tmp_path).run()
    assert "\n" not in str(caught.value) and load_training_state(tmp_path / "state.bin")["step"] == 1


def test_double_precision_trains_and_is_scored(data):
    episodes = draw_episodes(data.train.dataset, data.base, fold=0, n_shot=1, count=4, seed=0)
    config = replace(TRAINING, steps=2, precision="64-true", validate_every=1, n_held_out=1)
    made = trainer(MODEL, config, validate=lambda head: score_episodes(head_segmenter(head), data.train, episodes).miou)
    result = made.run()
    assert [row["step"] for row in result.validation] == [1, 2]
    batch = data.train.batch(episodes.episodes)
    assert result.head(batch, batch.cells).logits.dtype == torch.float32  # as pictures and the saved file have it


@pytest.mark.parametrize("part", ["head", "optimiser", "best"])
def test_a_state_of_another_network_is_told(tmp_path, part):
    trainer(MODEL, TRAINING, folder=tmp_path).run(stop_after=1)
    state = load_training_state(tmp_path / "state.bin")
    own = state.pop(part)
    for changes in ({part: [1] if own is None else {"odd": 1}}, {part: 3}, {}):  # the last: it is missing
        save_training_state(tmp_path / "state.bin", state | changes)
        with pytest.raises(ValueError, match="holds a state of another network; delete it to start anew"):
            trainer(MODEL, TRAINING, folder=tmp_path).run(resume=True)


def test_a_batch_that_processes_cannot_share_is_told():
    with pytest.raises(ValueError, match="batch_size is 2, but 2 processes take it in 3 parts each; give a multiple"):
        trainer(MODEL, replace(TRAINING, accumulate=3), fabric=SimpleNamespace(world_size=2, is_global_zero=True))


# Loss and schedule


def slow_cross_entropy(logits: np.ndarray, target: np.ndarray, foreground_weight: float) -> float:
    """Weighted mean over the pixels that are not 255, one pixel at a time."""
    losses, pixels = [], []
    for b, y, x in np.ndindex(target.shape):
        if target[b, y, x] != 255:
            z = logits[b, :, y, x].astype(np.float64)
            losses.append(np.log(np.exp(z).sum()) - z[target[b, y, x]])
            pixels.append(foreground_weight if target[b, y, x] == 1 else 1.0)
    return float(np.average(losses, weights=pixels))


def slow_overlap_loss(logits: np.ndarray, target: np.ndarray) -> float:
    """Mean over the episodes of 1 - soft IoU, with 1 added to both of its sums, one pixel at a time."""
    losses = []
    for scores, labels in zip(logits.astype(np.float64), target, strict=True):
        intersection = union = 1.0
        for y, x in np.ndindex(labels.shape):
            if labels[y, x] != 255:
                p = 1 / (1 + np.exp(scores[0, y, x] - scores[1, y, x]))
                intersection += p if labels[y, x] == 1 else 0.0
                union += 1.0 if labels[y, x] == 1 else p  # p + y - p y
        losses.append(1 - intersection / union)
    return float(np.mean(losses))


@pytest.mark.parametrize(
    ("auxiliary", "foreground_weight", "overlap_weight"),
    [("query", 1.0, 0.0), ("support", 3.0, 0.25), ("none", 2.0, 0.0), ("none", 1.0, 4.0)],
)
def test_the_loss_equals_a_slow_loop(data, auxiliary, foreground_weight, overlap_weight):
    model = replace(MODEL, auxiliary=auxiliary, dropout=0.0)
    run = trainer(model, TRAINING)
    batch = data.train.batch([run.episodes[i] for i in range(2)])
    labels, background = batch.query_labels.clone(), batch.support_background.clone()
    labels[:, :10, :15] = 255
    background[:, :, :, :3] = 0  # ignored where it is not foreground
    batch = batch._replace(query_labels=labels, support_background=background)
    output = run.network.train()(batch, (SIDE, SIDE))
    weights = {"foreground_weight": foreground_weight, "overlap_weight": overlap_weight}
    config = replace(TRAINING, auxiliary_weight=0.5, **weights)
    total, main = episode_loss(output, episode_targets(batch, auxiliary), config)
    expected = slow_cross_entropy(numpy64(output.logits), labels.numpy(), foreground_weight)
    assert main.item() == pytest.approx(expected, rel=1e-5)
    if overlap_weight:
        overlap_loss = slow_overlap_loss(numpy64(output.logits), labels.numpy())
        assert 0.1 < overlap_loss < 0.99
        expected += overlap_weight * overlap_loss
    if auxiliary == "none":
        assert total.item() == pytest.approx(expected, rel=1e-5) and (overlap_weight or total.item() == main.item())
        return
    if auxiliary == "support":
        foreground, rest = batch.support_masks[:, 0].numpy(), background[:, 0].numpy()
    else:
        foreground, rest = (block_means((labels == k).numpy(), (CELLS, CELLS)) for k in (1, 0))
    cells = np.where(foreground >= rest, 1, 0)
    cells[foreground + rest < 0.5] = 255
    assert (cells == 255).any() and (cells == 1).any()
    auxiliary_loss = slow_cross_entropy(numpy64(output.auxiliary_logits), cells, foreground_weight)
    assert total.item() == pytest.approx(expected + 0.5 * auxiliary_loss, rel=1e-5)


def test_the_overlap_asks_nothing_of_ignored_pixels_and_all_episodes_alike():
    """Worked by hand: probability 1/2 everywhere, 4 pixels an episode; IoU with 1 added to both sums."""
    labels = torch.tensor([[[1, 0], [255, 255]], [[1, 1], [1, 0]], [[255, 255], [255, 255]]])
    logits = torch.zeros(3, 2, 2, 2, requires_grad=True)
    config, targets = replace(TRAINING, overlap_weight=1.0), Targets(labels, None)
    assert target_weights([targets], 3.0).tolist() == [3 * 4 + 2, 0, 3]
    total, main = episode_loss(Output(logits), targets, config)
    assert (total - main).item() == pytest.approx(((1 - 1.5 / 2.5) + (1 - 2.5 / 4.5) + 0) / 3)
    (total - main).backward()
    assert ((logits.grad != 0).any(dim=1) == (labels != 255)).all()
    shares = target_weights([targets, targets, targets], 1.0)  # as one of three parts, or processes
    part, main = episode_loss(Output(logits), targets, config, shares)
    assert (part - main).item() == pytest.approx((1 - 1.5 / 2.5 + 1 - 2.5 / 4.5) / 9)


def test_the_logged_loss_of_the_first_step_is_that_of_the_first_weights(data):
    """From episodes to number with a network that was built here and a loss that NumPy computed."""
    model, config = replace(MODEL, dropout=0.0, auxiliary="none"), replace(TRAINING, steps=1)
    run = trainer(model, config)
    network = initial_network(model, data.train.backbone, config.seed).train()
    batch = data.train.batch(list(run.episodes)[: config.batch_size])
    with torch.no_grad():
        logits = network(batch, (SIDE, SIDE)).logits
    row = run.run().losses[0]
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


def test_every_step_uses_its_rate():
    run, used = trainer(MODEL, TRAINING), []
    run.optimiser.optimizer.register_step_pre_hook(lambda o, *_: used.append(o.param_groups[0]["lr"]))
    run.run()
    assert used == [learning_rate(step, TRAINING) for step in range(8)]


# A step in parts

IN_PARTS = replace(TRAINING, steps=6, batch_size=4, foreground_weight=3.0, optimiser="sgd", learning_rate=0.05)


@pytest.fixture(scope="module")
def uneven(data) -> FeatureBank:
    """With ignored pixels, so that the parts of a step weigh differently."""
    labels = data.train.labels.clone()
    labels[:, :15, ::3] = 255
    labels[::2, 20:, :] = 255
    return replace(data.train, labels=labels)


@pytest.mark.parametrize(("auxiliary", "overlap_weight"), [("query", 1.0), ("support", 0.0)])
def test_a_step_in_parts_equals_a_step_at_once(uneven, auxiliary, overlap_weight):
    model, config = replace(MODEL, auxiliary=auxiliary), replace(IN_PARTS, overlap_weight=overlap_weight)
    at_once = trainer(model, config, uneven).run()
    far = 0.0
    for accumulate in (2, 4):
        parts = trainer(model, replace(config, accumulate=accumulate), uneven).run()
        assert_same(parts.head.state_dict(), at_once.head.state_dict(), atol=1e-5)
        assert parts.losses[-1]["loss"] == pytest.approx(at_once.losses[-1]["loss"], rel=1e-4)
        wrong = trainer(model, replace(config, batch_size=4 // accumulate), uneven).run().head.state_dict()
        far = max(float((wrong[name] - tensor).abs().max()) for name, tensor in at_once.head.state_dict().items())
        assert far > 1e-3  # other episodes give other weights


def test_a_part_in_which_every_pixel_is_ignored_adds_nothing(uneven):
    config = replace(IN_PARTS, steps=1, accumulate=4, overlap_weight=1.0)
    labels = uneven.labels.clone()
    labels[trainer(MODEL, config, uneven).episodes[0].query] = 255
    result = trainer(MODEL, config, replace(uneven, labels=labels)).run()
    assert all(torch.isfinite(tensor).all() for tensor in result.head.state_dict().values())
    assert result.losses[0]["main"] > 0


def test_mirroring_does_not_depend_on_the_division(data):
    """Told from the bank's batches, whose mirrored features are marked."""
    config = replace(TRAINING, steps=4, batch_size=8, n_shot=2, flip=True)
    features = np.zeros((len(data.train.labels), 2, 1, 1, 1), dtype=np.float16)
    features[:, 1] = 1
    bank = replace(data.train, features=features)
    episodes = trainer(MODEL, config).episodes

    def views(accumulate: int, n_processes: int) -> dict[int, list[float]]:
        found = {}
        divided = replace(config, accumulate=accumulate)
        for rank in range(n_processes):
            parts = StepParts(episodes.episodes, divided, range(4), rank=rank, n_processes=n_processes)
            for part, batch in zip(parts, bank.training_batches(parts, divided), strict=True):
                for row in range(len(part.episodes)):
                    marks = [batch.query_features[row], *batch.support_features[row]]
                    found[8 * part.step + part.first + row] = [float(mark) for mark in marks]
        return found

    at_once = views(1, 1)
    assert at_once == views(2, 2) == views(1, 4) and len(at_once) == 32
    assert len(set(map(tuple, at_once.values()))) > 2  # and it does vary
