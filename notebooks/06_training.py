# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 6. Training: the whole loop, live
#
# [Start here](00_start_here.ipynb) | [5 Multi-scale fusion](05_multi_scale_fusion.ipynb) | **6 Training** |
# [7 Evaluation](07_evaluation.ipynb)
#
# **What you will learn.** What one training step does, and that a dozen lines of PyTorch give the package's weights;
# how to watch a run, stop it and go on; what over-fitting to the base classes looks like; and how a network that you
# trained in this notebook compares with the one that comes with the package.
#
# **What you need.** [Notebook 5](05_multi_scale_fusion.ipynb), and how a network is trained in PyTorch: loss, gradient,
# optimiser.
#
# **Time.** About 30 minutes with the two exercises. The cells run in about a minute.

# %%
# %matplotlib inline
import tempfile
from dataclasses import replace
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
import torch.nn.functional as functional

from dpnet_lite.config import ModelConfig
from dpnet_lite.course.live_training import LiveTraining, small_toy_fold
from dpnet_lite.experiments.presets import TOY

FOLD = 0
data = small_toy_fold(FOLD)
model = ModelConfig()
settings = replace(TOY.training, steps=120, batch_size=4)
print(f"{len(data.train.dataset)} training scenes, {len(data.base)} base classes; {len(data.novel)} novel classes")
print(f"a step takes {settings.batch_size} episodes of {settings.n_shot} shot; {settings.steps} steps")

# %% [markdown]
# ## 6.1 What is trained, and on what
#
# - The **backbone** is frozen *(precedent: PFENet, HSNet)*. It is run once over every scene, and its features are kept
#   in a `FeatureBank`: that is why training takes seconds here.
# - The **head** is everything else: the reduction, the interaction, the fusion, the decoder.
# - Training is made of episodes, as the test is. Each has a *base* class, K support images with masks and a query; here
#   the query's mask is known too. No scene of the training set shows a novel class.
#
# The loss is the cross-entropy of the query's pixels, plus that of an **auxiliary branch**, which segments the query
# coarsely with P' alone and is thrown away after training. That there is such a branch in training is *(stated)*; what
# it does, and its weight $\lambda$, are *(our choice)*:
#
# $$L = \mathrm{CE}(\text{main}) + \lambda\,\mathrm{CE}(\text{auxiliary}),\qquad
# \mathrm{CE} = -\frac{1}{|V|}\sum_{x \in V} \log \mathrm{softmax}(\text{logits})_{y(x)}(x)$$
#
# y(x) is the label of pixel x, 0 or 1. V is the set of pixels that count: those with the label 255 (*ignored*) do not.

# %% [markdown]
# ### Exercise 6.1: the loss (easy, 10 minutes)
#
# Write `my_loss(logits, labels)` for logits [B, 2, H, W] and labels, int64 [B, H, W] with 0, 1 and 255. Return the mean
# cross-entropy over the pixels that are not 255. `torch.log_softmax` is allowed, `cross_entropy` is not.


# %% jupyter={"source_hidden": true}
def my_loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Mean over the pixels that count of minus the logarithm of the true label's probability."""
    # BEGIN SOLUTION
    logarithms = torch.log_softmax(logits, dim=1)  # [B, 2, H, W]
    of_truth = torch.where(labels == 1, logarithms[:, 1], logarithms[:, 0])  # [B, H, W]
    return -of_truth[labels != 255].mean()
    # END SOLUTION


# %% tags=["check"]
from dpnet_lite.course.exercises.lesson_06 import check_loss

check_loss(my_loss)

# %% [markdown]
# ## 6.2 Three steps by hand
#
# The loop below is the whole training, without comfort. The package's `Trainer` does the same on Lightning Fabric,
# which adds GPUs and mixed precision. The last cell of the section asserts that both end with the same weights.
#
# - The **learning rate** rises over the first steps (*warm-up*) and then falls along half a cosine *(our choice)*:
#   $\eta_t = \eta\,\min(1, \frac{t+1}{w})\,\frac{1 + \cos(\pi t / T)}{2}$, with the step t counted from 0, w warm-up
#   steps and T steps in all.
# - **Gradient clipping** scales the gradient down where its length is above a bound.
# - **Dropout** sets whole feature channels to 0 at random. Its random numbers are seeded anew at each step from the
#   seed and the step's number. So a resumed run needs no saved random state.

# %%
from dpnet_lite.episodes import draw_episodes
from dpnet_lite.model.dpnet import DPNet
from dpnet_lite.training import Trainer, initial_network

size = (data.train.size, data.train.size)
episodes = draw_episodes(
    data.train.dataset, data.base, fold=FOLD, n_shot=1, count=settings.steps * settings.batch_size, seed=settings.seed
)
backbone = data.train.backbone
torch.manual_seed(settings.seed)
head = DPNet(model, backbone.out_channels, backbone.deep_channels)
optimiser = torch.optim.AdamW(head.parameters(), weight_decay=settings.weight_decay)

for t in range(3):
    rise = min(1, (t + 1) / settings.warmup_steps)
    optimiser.param_groups[0]["lr"] = settings.learning_rate * rise * (1 + np.cos(np.pi * t / settings.steps)) / 2
    batch = data.train.batch([episodes[i] for i in range(t * settings.batch_size, (t + 1) * settings.batch_size)])
    mixed = np.random.SeedSequence((settings.seed, t, 0)).generate_state(1, np.uint64)[0]
    torch.manual_seed(int(mixed >> np.uint64(1)))  # for dropout
    output = head(batch, size)
    main = functional.cross_entropy(output.logits, batch.query_labels, ignore_index=255)
    share = functional.adaptive_avg_pool2d(batch.query_labels.float(), output.auxiliary_logits.shape[-2:])
    auxiliary = functional.cross_entropy(output.auxiliary_logits, (share >= 0.5).long())
    loss = main + settings.auxiliary_weight * auxiliary
    optimiser.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(head.parameters(), settings.gradient_clip)
    optimiser.step()
    print(f"step {t}: main {main:.3f}, auxiliary {auxiliary:.3f}")

# %%
trainer = Trainer(initial_network(model, backbone, settings.seed), settings, data.train, data.base, fold=FOLD)
packaged = trainer.run(stop_after=3).head
pairs = zip(head.parameters(), packaged.parameters(), strict=True)
largest = max(float((a - b).detach().abs().max()) for a, b in pairs)
assert largest < 1e-5
print(f"{sum(p.numel() for p in head.parameters()):,} weights; the largest difference is {largest:.1e}")

# %% [markdown]
# ### Exercise 6.2: the learning rate (easy, 5 minutes)
#
# Write `my_rate(step, steps, peak, warmup_steps)` after the formula above; `peak` is $\eta$. With no warm-up steps the
# first factor is 1.


# %% jupyter={"source_hidden": true}
def my_rate(step: int, steps: int, peak: float, warmup_steps: int) -> float:
    """Linear warm-up times half a cosine."""
    # BEGIN SOLUTION
    rise = min(1.0, (step + 1) / max(1, warmup_steps))
    return peak * rise * (1 + np.cos(np.pi * step / steps)) / 2
    # END SOLUTION


# %% tags=["check"]
from dpnet_lite.course.exercises.lesson_06 import check_learning_rate

check_learning_rate(my_rate)

# %% [markdown]
# ## 6.3 Watch it train
#
# `LiveTraining` runs the `Trainer` in pieces and scores the weights now and then: on episodes of the base classes,
# drawn from the training scenes themselves, and on episodes of novel classes. The second score is for *looking*. Who
# chooses the step by it has looked at the answer; [lesson 7](07_evaluation.ipynb) shows what such a choice does to a
# score.

# %%
from dpnet_lite.course.explorers.training import training_figure

run = LiveTraining(data, model, settings, score_every=40)
while not run.done:
    run.advance(40)
    score = run.scores[-1]
    print(
        f"step {score.step:3d}: loss {run.losses[-1]['main']:.3f}, mIoU {score.base:.2f} base, {score.novel:.2f} novel"
    )
training_figure(run.losses, run.scores, run.steps)

# %% [markdown]
# *What to see:* left the loss of every tenth step. It falls quickly and stays rough, because every step has other
# episodes, and some are hard. Right, base classes (squares, dashed) and novel classes (circles): while both rise
# together, what is learned serves classes that were never seen. With few steps and few episodes several points up or
# down are chance.

# %% [markdown]
# ## 6.4 Stop and go on
#
# A run with a folder keeps its state there. The same run, stopped after 12 of 20 steps and resumed by a *new* trainer,
# ends with the weights of one that was never stopped: not nearly, but exactly.

# %%
short = replace(settings, steps=20)


def new_trainer(folder=None):
    return Trainer(initial_network(model, backbone, short.seed), short, data.train, data.base, fold=FOLD, folder=folder)


with tempfile.TemporaryDirectory() as folder:
    new_trainer(Path(folder)).run(stop_after=12)
    print("kept:", *sorted(path.name for path in Path(folder).iterdir()))
    resumed = new_trainer(Path(folder)).run(resume=True)
whole = new_trainer().run()
assert all(torch.equal(a, b) for a, b in zip(resumed.head.parameters(), whole.head.parameters(), strict=True))
print(f"{resumed.step} steps with a stop and {whole.step} without give equal weights")

# %% [markdown]
# On the command line it is Ctrl-C and `--resume`:
#
# ```
# python -m dpnet_lite train --fold 0 --out outputs/mine.safetensors
# python -m dpnet_lite train --fold 0 --out outputs/mine.safetensors --resume
# ```

# %% [markdown]
# ## 6.5 Over-fitting to the base classes
#
# The novel classes are new only if the network has learned to *compare*. With few base classes it can also learn what
# these classes look like. The same run again, with 4 base classes drawn at random in place of all of them:

# %%
few = replace(data, base=tuple(sorted(np.random.default_rng(0).choice(data.base, 4, replace=False).tolist())))
narrow = LiveTraining(few, model, settings, score_every=40)
while not narrow.done:
    narrow.advance(40)
names = data.train.dataset.class_names
print("base classes:", ", ".join(names[index] for index in few.base))

figure, grid = plt.subplots(1, 2, figsize=(8, 3), layout="constrained", sharey=True)
for axes, (title, seen) in zip(
    grid, {f"{len(data.base)} base classes": run, "4 base classes": narrow}.items(), strict=True
):
    steps = [score.step for score in seen.scores]
    axes.plot(steps, [score.base for score in seen.scores], "s--", color="#E69F00", label="base")
    axes.plot(steps, [score.novel for score in seen.scores], "o-", color="#0072B2", label="novel")
    axes.set(title=title, xlabel="step", ylim=(0, 1))
grid[0].set_ylabel("mIoU")
grid[0].legend(frameon=False, loc="lower right")
plt.show()
for title, seen in (("all", run), ("4", narrow)):
    last = seen.scores[-1]
    print(
        f"{title:>3} base classes: mIoU {last.base:.2f} on base, {last.novel:.2f} on novel, "
        f"difference {100 * (last.base - last.novel):+.1f} points"
    )

# %% [markdown]
# *What to see:* the distance between the two curves of a panel, and its print below. On few classes the curve of the
# base classes rises far above the other: what the network gains there does not all serve other classes. (The base
# classes of the two panels are not the same, so compare within a panel.) The base score is taken on the scenes of the
# training, so a part of it may be scenes learned by heart. The loss alone does not tell: it is the loss of base
# classes. This is why a protocol must say which classes training has seen, and why the choice of a checkpoint needs
# base classes that are *held out* (`--training n_held_out=6 validate_every=50`).

# %% [markdown]
# ## 6.6 Yours beside mine
#
# Your network of section 6.3 and the one that comes with the package, on the same novel episodes. Mine was trained
# longer, the cell says how long, and on more scenes.

# %%
from dpnet_lite.checkpoints import load_head, shipped_head
from dpnet_lite.experiments.experiment import TEST_SEED
from dpnet_lite.experiments.intervals import bootstrap_interval
from dpnet_lite.experiments.plots import episodes_figure
from dpnet_lite.scoring import head_segmenter, score_episodes

shipped, facts = load_head(shipped_head(FOLD))
test_episodes = draw_episodes(data.test.dataset, data.novel, fold=FOLD, n_shot=1, count=200, seed=TEST_SEED)
for name, candidate, steps in (("yours", run.head, run.steps), ("mine", shipped, facts["step"])):
    scores = score_episodes(head_segmenter(candidate), data.test, test_episodes)
    low, high = bootstrap_interval(scores)
    print(f"{name:5}: {steps:4d} steps, mIoU {100 * scores.miou:.1f} [{100 * low:.1f}, {100 * high:.1f}]")
episodes_figure(data.test, test_episodes[:3], {"yours": run.head, "mine": shipped}, main="mine")
plt.show()

# %% [markdown]
# *What to see:* three episodes, the first of the list. Where both answers go wrong in the same way, the features or the
# selection mislead them; where only yours does, more training helps. The brackets are 95 % intervals over episodes;
# lesson 7 says what they cover and what not.

# %% [markdown]
# ## 6.7 Train it yourself
#
# With a running kernel: *Start*, watch the curves, *Pause*, go on, *Stop*. The run goes on in the background, a few
# steps at a time; another cell that you run meanwhile makes it wait. Without a kernel the picture below is empty; the
# one of section 6.3 shows what it draws.

# %%
from dpnet_lite.course.explorers.apps import live_trainer

live_trainer(FOLD)

# %% [markdown]
# ## Recap
#
# - A step takes a few episodes of base classes; the loss is the query's cross-entropy plus the auxiliary branch's
#   *(the branch is stated, its form is our choice)*. The backbone stays as it is *(precedent)*.
# - Same seed, same weights, stopped or not.
# - A network that over-fits to its base classes looks excellent on them. Only classes that it never saw can tell.
#
# **Further reading.** [The method](../docs/method.md#auxiliary-branch-and-loss); Lightning Fabric's documentation; Tian
# et al., *Prior guided feature enrichment network for few-shot segmentation*, TPAMI 2020 (PFENet), for the frozen
# backbone.
#
# Previous: [5 Multi-scale fusion](05_multi_scale_fusion.ipynb). Next: [7 Evaluation](07_evaluation.ipynb)
