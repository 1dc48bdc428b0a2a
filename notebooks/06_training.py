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
# [Start here](00_start_here.ipynb) | [5b Build it yourself](05b_build_it_yourself.ipynb) | **6 Training** |
# [7 Evaluation](07_evaluation.ipynb)
#
# ![The network from images to mask. Outlined, what training changes: the 1 x 1 convolution, PIM, MSF, the decoder and
# the auxiliary branch; and the loss. The frozen backbone is faded](../figures/network_6.svg)
#
# **What you will learn.** What one training step does, and that a dozen lines of PyTorch train the network that you
# built in lesson 5b as the package trains its own; how to watch a run, stop it and go on; what over-fitting to the base
# classes looks like; and how your network compares with the one that comes with the package.
#
# **What you need.** [Notebook 5b](05b_build_it_yourself.ipynb), and how a network is trained in PyTorch: loss,
# gradient, optimiser.
#
# **Time.** About 55 minutes: 25 to read, 30 for the exercises. The cells run in little more than a
# minute.

# %%
# %matplotlib inline
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
import torch.nn.functional as functional

from dpnet_lite.config import ModelConfig
from dpnet_lite.course.explorers.panels import show_image, show_map
from dpnet_lite.course.live_training import Score, small_toy_fold
from dpnet_lite.course.page import claim, table
from dpnet_lite.course.plain_dpnet import PlainDPNet
from dpnet_lite.experiments.intervals import bootstrap_interval, paired_difference, percent
from dpnet_lite.experiments.plots import BLACK, BLUE, ORANGE, overlay
from dpnet_lite.experiments.presets import TOY

plt.rcParams.update({"font.size": 12, "axes.spines.top": False, "axes.spines.right": False})
FOLD = 0
data = small_toy_fold(FOLD)
settings = replace(TOY.training, steps=120, batch_size=4)
print(f"{len(data.train.dataset)} training scenes, {len(data.base)} base classes; {len(data.novel)} novel classes")
print(f"a step takes {settings.batch_size} episodes of {settings.n_shot} shot; {settings.steps} steps")

# %% [markdown]
# ## 6.1 What is trained, and on what
#
# - The **backbone** is frozen. ![precedent](../figures/badges/precedent.svg) *PFENet, HSNet*. It is run once over every
#   scene, and its features are kept in a `FeatureBank`: that is why training takes seconds here.
# - The **head** is everything else: the reduction, the interaction, the fusion, the decoder. It has all the weights
#   that learn.
# - Training is made of **episodes**, as the test is. Each has a *base* class, K support images with masks and a query;
#   here the query's mask is known too. No scene of the training set shows a novel class.
#
# **What is a good answer?** The network gives every pixel of the query a probability of being the object. It should be
# near 1 on the object and near 0 elsewhere. Where the *true* label has the probability p, the pixel pays
# $-\log p$: nothing for p = 1, more and more as p goes to 0. The right panel below shows what each pixel pays.

# %%
from dpnet_lite.checkpoints import load_head, shipped_head
from dpnet_lite.episodes import draw_episodes

shipped, facts = load_head(shipped_head(FOLD))
size = (data.train.size, data.train.size)
count = settings.steps * settings.batch_size
episodes = draw_episodes(data.train.dataset, data.base, fold=FOLD, n_shot=1, count=count, seed=settings.seed)
batch = data.train.batch([episodes[0], episodes[1]])
with torch.no_grad():
    logits = shipped(batch, size).logits  # [2, 2, H, W]
probability = logits.softmax(dim=1)[:, 1]  # of the object, [2, H, W]
paid = functional.cross_entropy(logits, batch.query_labels, reduction="none")  # [2, H, W]
assert paid[1].mean() > 4 * paid[0].mean()
print("mean over all pixels:", *(f"{pays.mean():.3f}" for pays in paid))

# %% jupyter={"source_hidden": true} alt=["Two training episodes, one per row: the query with the outline of the true mask, the probability of the object, and what each pixel pays. Above, the object is found and only its border pays a little. Below, the network is rather sure of another object: the whole true object pays much"]
figure, grid = plt.subplots(2, 3, figsize=(9.5, 6.2), layout="constrained")
for row, episode, seen, pays, labels in zip(grid, episodes[:2], probability, paid, batch.query_labels, strict=True):
    image = data.train.dataset[episode.query].image.permute(1, 2, 0).numpy()
    show_image(row[0], image, "query, truth outlined", outline=(labels == 1).numpy())
    show_map(row[1], seen.numpy(), "probability of the object", size=size[0], limits=(0, 1))
    show_map(row[2], pays.numpy(), "what a pixel pays", size=size[0], limits=(0, float(paid.max())))
    for panel in row:
        panel.title.set_fontsize(14)
plt.show()

# %% [markdown]
# *What to see:* above, the network is right and sure, and pays a little along the border. Below it is rather sure of
# another object: every pixel of the true one pays much, and those of the wrong one pay too. Being sure and wrong is the most
# expensive answer, so this is where the gradient comes from.
#
# The **loss** is the mean of what the pixels pay, the *cross-entropy*:
#
# $$\mathrm{CE} = -\frac{1}{|V|}\sum_{x \in V} \log \mathrm{softmax}(\text{logits})_{y(x)}(x)$$
#
# y(x) is the label of pixel x, 0 or 1. V is the set of pixels that count: those with the label 255 (*ignored*) do not.
# It is taken twice, of the decoder's logits and of an **auxiliary branch**, which segments the query coarsely with P'
# alone and is thrown away after training:
#
# $$L = \mathrm{CE}(\text{main}) + \lambda\,\mathrm{CE}(\text{auxiliary})$$
#
# That there is such a branch in training is ![stated](../figures/badges/stated.svg); what it does, and its weight
# $\lambda$, are ![our choice](../figures/badges/ours.svg).

# %% [markdown]
# ### Exercise 6.1: the loss (write, easy, 10 minutes)
#
# Write `my_loss(logits, labels)` for logits [B, 2, H, W] and labels, int64 [B, H, W] with 0, 1 and 255. Return the mean
# cross-entropy over the pixels that are not 255. `torch.log_softmax` is allowed, `cross_entropy` is not.
#
# <details><summary>Hint 1</summary>
# First the logarithms of both probabilities, [B, 2, H, W]. Over which dimension must they add up to 1?
# </details>
#
# <details><summary>Hint 2</summary>
# <code>torch.where(labels == 1, a, b)</code> takes from each pixel the logarithm of its own label. A bool index,
# <code>[labels != 255]</code>, keeps the pixels that count; the mean comes after that.
# </details>


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
# ## 6.2 How large a step
#
# At the start the gradients are large and point anywhere, so the **learning rate** rises over the first steps
# (*warm-up*). Towards the end small steps settle what large ones keep stirring, so it falls along half a cosine
# ![our choice](../figures/badges/ours.svg).

# %% alt=["The learning rate against the step: a rise over the warm-up steps, up to a dotted line, then a fall along half a cosine to 0; its highest point lies below a dashed line at eta"]
from dpnet_lite.losses import learning_rate

figure, axes = plt.subplots(figsize=(6, 2.8), layout="constrained")
axes.plot([learning_rate(t, settings) for t in range(settings.steps)], color=BLUE, linewidth=2)
axes.axvline(settings.warmup_steps, color=BLACK, linewidth=1, linestyle=":")
axes.axhline(settings.learning_rate, color=ORANGE, linewidth=1.5, linestyle="--", label=r"$\eta$")
axes.set(xlabel="step", ylabel="learning rate")
axes.ticklabel_format(axis="y", scilimits=(0, 0))
axes.legend(frameon=False)
plt.show()
reached = {}
for steps in (settings.steps, facts["step"]):
    run = replace(settings, steps=steps)
    reached[steps] = max(learning_rate(t, run) for t in range(steps)) / run.learning_rate
    print(f"a run of {steps} steps reaches {100 * reached[steps]:.1f} % of eta")
assert reached[settings.steps] < 0.95 and reached[facts["step"]] > 0.99

# %% [markdown]
# With the step t counted from 0, w warm-up steps and T steps in all, the rise (up to the dotted line) times the fall is
#
# $$\eta_t = \eta\,\min\left(1, \frac{t+1}{w}\right)\,\frac{1 + \cos(\pi t / T)}{2}$$
#
# Why does the curve stay below $\eta$, the dashed line? When the rise ends, the cosine has already fallen: a short run
# never reaches $\eta$; one as long as the shipped network's nearly does.
#
# ### Exercise 6.2: the learning rate (write, easy, 5 minutes)
#
# Write `my_rate(step, steps, peak, warmup_steps)` after the formula; `peak` is $\eta$. With no warm-up steps the first
# factor is 1. Afterwards: where would the cosine have to begin, so that a short run reaches $\eta$ as well?
#
# <details><summary>Hint 1</summary>
# Two factors times the peak. Compute each by itself and look at its value at steps 0, w - 1 and T - 1.
# </details>
#
# <details><summary>Hint 2</summary>
# <code>max(1, warmup_steps)</code> in the denominator saves the case without warm-up. The cosine takes the step from
# the very start, not from the end of the warm-up.
# </details>


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
# <details><summary>Answer to the second question</summary>
#
# At the end of the warm-up: from step w on with (t - w) / (T - w) in place of t / T, and at its top before. When the rise
# ends, the cosine is then still at 1. For a long run it makes hardly any difference.
# </details>

# %% jupyter={"source_hidden": true}
w, T = settings.warmup_steps, settings.steps
begun_later = [min(1, (t + 1) / w) * (1 + np.cos(np.pi * max(0, t - w) / (T - w))) / 2 for t in range(T)]
assert max(begun_later) == 1 > reached[T]

# %% [markdown]
# ## 6.3 Your network, your loop
#
# The loop below is the whole training, with no frills, and what it trains is the plain network of lesson 5b,
# `PlainDPNet`. Two more terms:
#
# - **Gradient clipping** scales the gradient down where its length is above a bound, so that one odd episode cannot
#   throw the weights far away.
# - **Dropout** sets whole feature channels to 0 at random. Its random numbers are seeded anew at each step from the
#   seed and the step's number. So a resumed run needs no saved random state.

# %%
from dpnet_lite.training import Trainer, initial_network

backbone = data.train.backbone


def train(base: tuple[int, ...], rate_factor: float = 1.0) -> Iterator[tuple[PlainDPNet, float]]:
    """One training step per turn: the network so far, and the cross-entropy of the step's episodes."""
    episodes = draw_episodes(data.train.dataset, base, fold=FOLD, n_shot=1, count=count, seed=settings.seed)
    head = PlainDPNet(backbone.out_channels, backbone.deep_channels)
    head.load(initial_network(ModelConfig(), backbone, settings.seed))  # only to start where the package starts
    optimiser = torch.optim.AdamW(head.parameters(), weight_decay=settings.weight_decay)
    for t in range(settings.steps):
        head.train()
        optimiser.param_groups[0]["lr"] = rate_factor * learning_rate(t, settings)
        batch = data.train.batch([episodes[t * settings.batch_size + i] for i in range(settings.batch_size)])
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
        yield head, float(main.detach())


# %% [markdown]
# The package's `Trainer` does the same with the package's DPNet, on Lightning Fabric, which adds GPUs and mixed
# precision. Three steps of each end with the same weights, up to rounding:


# %%
def largest_difference(a: torch.nn.Module, b: torch.nn.Module) -> float:
    """Between the weights of two networks, which have them in the same order."""
    with torch.no_grad():
        return max(float((x - y).abs().max()) for x, y in zip(a.parameters(), b.parameters(), strict=True))


by_hand = train(data.base)
for step in range(1, 4):
    mine, main = next(by_hand)
    print(f"step {step}: cross-entropy {main:.3f}")
start = initial_network(ModelConfig(), backbone, settings.seed)
network = initial_network(ModelConfig(), backbone, settings.seed)
packaged = Trainer(network, settings, data.train, data.base, fold=FOLD).run(stop_after=3).head
moved, largest = largest_difference(mine, start), largest_difference(mine, packaged)
assert largest < 1e-5 < moved / 10
print(
    f"{sum(p.numel() for p in mine.parameters()):,} weights; they moved by up to {moved:.0e}, differ by {largest:.0e}"
)

# %% [markdown]
# ## 6.4 Watch it train
#
# `watch` runs all steps and scores the weights now and then: on episodes of the base classes, drawn from the training
# scenes themselves, and on episodes of novel classes. The second score is for *looking*. Whoever chooses the step by it
# has looked at the answer; [lesson 7](07_evaluation.ipynb) shows what such a choice does to a score.

# %%
from dpnet_lite.experiments.experiment import TEST_SEED
from dpnet_lite.model.dpnet import DPNet
from dpnet_lite.scoring import head_segmenter, score_episodes

EVERY = 30  # steps between two scores


def with_your_weights(plain: PlainDPNet) -> DPNet:
    """The package's network with the weights of a plain one: the same logits (lesson 5b), sooner."""
    network = initial_network(ModelConfig(), backbone, settings.seed).eval()
    network.load_state_dict(dict(zip(network.state_dict(), plain.state_dict().values(), strict=True)))
    return network


def watch(base: tuple[int, ...], rate_factor: float = 1.0) -> tuple[DPNet, list[dict], list[Score]]:
    """Train on the base classes: the network, a row for steps 1 to 10 and every tenth, and the scores."""
    seen, unseen = (
        draw_episodes(bank.dataset, classes, fold=FOLD, n_shot=1, count=100, seed=TEST_SEED)
        for bank, classes in ((data.train, base), (data.test, data.novel))
    )
    losses, scores = [], []
    for step, (head, main) in enumerate(train(base, rate_factor), start=1):
        if step <= 10 or step % 10 == 0:
            losses.append({"step": step, "main": main})
        if step % EVERY == 0:
            segment = head_segmenter(with_your_weights(head))
            on_base, on_novel = (
                score_episodes(segment, *pair).miou for pair in ((data.train, seen), (data.test, unseen))
            )
            scores.append(Score(step, on_base, on_novel))
    return with_your_weights(head), losses, scores


yours, losses, scores = watch(data.base)

# %% alt=["Left: the cross-entropy against the step falls quickly and stays rough. Right: mIoU of base classes, dashed, and of novel classes rise together"]
from dpnet_lite.course.explorers.training import training_figure

training_figure(losses, scores, settings.steps)

# %% [markdown]
# *What to see:* left the loss of the first ten steps and of every tenth. It falls quickly and stays rough, because every step has other
# episodes, and some are hard. Right, base classes (squares, dashed) and novel classes (circles): while both rise
# together, what is learned serves classes that were never seen. With few steps and few episodes several points up or
# down are chance.

# %% [markdown]
# ### Exercise 6.3: too large a step (break it on purpose, easy, 10 minutes)
#
# `watch(data.base, rate_factor=30)` trains with 30 times the learning rate. Predict: does the loss explode, as is
# so often said? What will the mIoU be? Then run it, and look at the loss *and* at what the network answers.
#
# <details><summary>Hint 1</summary>
# The gradient is clipped, and AdamW divides it by its own size. Can a single step be arbitrarily long?
# </details>
#
# <details><summary>Hint 2</summary>
# What is the cheapest answer of a network that knows nothing of the image, where most pixels are background? Look at
# the share of pixels that <code>head_segmenter(head)(batch).argmax(dim=1)</code> calls the object.
# </details>

# %%
# Room for exercise 6.3. To start from:
# bad, bad_losses, bad_scores = watch(data.base, rate_factor=30)
# training_figure(bad_losses, bad_scores, settings.steps)
# every_step = [main for _, main in train(data.base, 30)]; plt.semilogy(every_step)  # the loss of every step

# %% [markdown]
# <details><summary>Answer</summary>
#
# The loss falls at first, then leaps here and there, to many times what it was if you record every step (`watch` keeps
# every tenth), and settles: clipping and AdamW bound every step, so nothing explodes for good. Where it leaps and how
# high hangs on the last digit of every rounding, so your leaps may be others. But the weights are far from where they began, and what the network settles at is an answer
# that does not need the image: *background everywhere*. As most pixels *are* background, this is cheap: the last losses
# lie below those of the first steps of a healthy run. The mIoU is 0. A loss alone can look harmless where nothing has
# been learned.
# </details>

# %% [markdown]
# ## 6.5 Stop and go on
#
# A run of the package with a folder keeps its state there. The same run, stopped after 12 of 20 steps and resumed by a
# *new* trainer, ends with the weights of one that was never stopped: not nearly, but exactly.

# %%
short = replace(settings, steps=20)


def new_trainer(folder: Path | None = None) -> Trainer:
    """A trainer with a new network, which keeps its state in the folder."""
    network = initial_network(ModelConfig(), backbone, short.seed)
    return Trainer(network, short, data.train, data.base, fold=FOLD, folder=folder)


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
# ## 6.6 Over-fitting to the base classes
#
# A network can segment novel classes only if it has learned to *compare*. With few base classes it can also learn what
# these classes look like. The same run again, with 4 base classes drawn at random in place of all of them:

# %%
N_BASE = 4
few = tuple(sorted(np.random.default_rng(0).choice(data.base, N_BASE, replace=False).tolist()))
narrow, _, narrow_scores = watch(few)
print("base classes:", ", ".join(data.train.dataset.class_names[index] for index in few))

# %% jupyter={"source_hidden": true} alt=["mIoU against the step for a training on all base classes and for one on 4. Left the curves of base and novel classes lie together; right the base classes, dashed, lie far above the novel ones"]
figure, grid = plt.subplots(1, 2, figsize=(8.5, 3.4), layout="constrained", sharey=True)
for axes, (n, seen) in zip(grid, {len(data.base): scores, N_BASE: narrow_scores}.items(), strict=True):
    steps = [score.step for score in seen]
    axes.plot(steps, [score.base for score in seen], "s--", color=ORANGE, label="base classes")
    axes.plot(steps, [score.novel for score in seen], "o-", color=BLUE, label="novel classes")
    axes.set(xlabel="step", ylim=(0, 1), xlim=(0, settings.steps + 4))
    axes.set_title(f"trained on {n} base classes", fontsize=14)
grid[0].set_ylabel("mIoU")
grid[0].legend(frameon=False, loc="upper left")
plt.show()

# %%
on_four = draw_episodes(data.train.dataset, few, fold=FOLD, n_shot=1, count=100, seed=TEST_SEED)
of_all, of_few = (score_episodes(head_segmenter(head), data.train, on_four) for head in (yours, narrow))
ends = scores[-1], narrow_scores[-1]
assert of_few.miou == ends[1].base
gained = of_few.miou - of_all.miou
parts = gained, ends[0].novel - ends[1].novel, of_all.miou - ends[0].novel
gap = ends[1].base - ends[1].novel
assert abs(sum(parts) - gap) < 1e-9 and min(parts) > 0.03
print(
    "{:.1f} points between the four and the novel classes: {:.1f} gained on the four, {:.1f} lost on novel classes, and "
    "{:.1f} because these four are easier".format(*(100 * part for part in (gap, *parts)))
)
rows = {
    "trained on": [f"all {len(data.base)}", f"{N_BASE} classes"],
    "its own base classes": [100 * end.base for end in ends],
    "the four": [100 * score.miou for score in (of_all, of_few)],
    "novel classes": [100 * end.novel for end in ends],
}
table(rows, "mIoU in % after the last step; one training each", formats="{:.1f}")

# %% [markdown]
# *What to see:* right, the curve of the base classes rises far above the other. Not all of this distance is
# over-fitting: the base classes of the two panels are not the same, and these four are easy, as the column *the four*
# shows, where both networks are scored on the same episodes. On these the narrow training gains, on novel classes it
# loses; the line above the table splits this distance into three parts, on these 100 episodes of each kind; section
# 6.7 has 200 of novel classes. The base score is taken on the scenes of the training, so a part of the gain may be
# scenes learned by heart. The loss alone does not tell: it is the loss of base classes.

# %% [markdown]
# ### Exercise 6.4: which curve may choose? (explain, medium, 5 minutes)
#
# You want to stop where the network is best. Three curves offer themselves: the loss, the mIoU of base classes, the
# mIoU of novel classes. Why is none of them the right one, and which fourth one would be?
#
# <details><summary>Hint 1</summary>
# Ask of each curve: on which *classes* and on which *images* is it taken, and what is the final score to speak about?
# </details>
#
# <details><summary>Hint 2</summary>
# Classes that training does not see, but that are not those of the test either: where could they come from?
# </details>

# %% [markdown]
# <details><summary>Answer</summary>
#
# The loss and the base score are taken on classes, and even on scenes, that are being trained: both go on improving
# while the network learns four classes by heart. The novel score measures the right thing, but a step chosen by it is
# chosen on the test; the score that is reported is then too high (lesson 7.6). The fourth curve is that of base classes
# *held out* from training: as new to the network as novel ones, and not the test's. The package has it:
# <code>--training n_held_out=6 validate_every=50</code>. It costs the held-out classes, which train no more.
# </details>

# %% [markdown]
# ## 6.7 Yours beside the shipped one
#
# Your network of section 6.4 and the one that comes with the package, on the same novel episodes. The shipped
# one was trained longer, the cell says how long, and on more scenes.

# %%
from dpnet_lite.scoring import predicted_mask

test_episodes = draw_episodes(data.test.dataset, data.novel, fold=FOLD, n_shot=1, count=200, seed=TEST_SEED)
heads = {"yours": yours, "yours, 4 base classes": narrow, "shipped": shipped}
final = {name: score_episodes(head_segmenter(head), data.test, test_episodes) for name, head in heads.items()}
steps = {"yours": settings.steps, "yours, 4 base classes": settings.steps, "shipped": facts["step"]}
table(
    {
        "network": list(final),
        "steps": [steps[name] for name in final],
        "mIoU on novel classes [95 %]": [percent(score.miou, bootstrap_interval(score)) for score in final.values()],
    },
    f"On {len(test_episodes)} episodes of novel classes",
)

# %% jupyter={"source_hidden": true} alt=["Three test episodes, one per row: the support with the outline of its mask, the query with the outline of the truth, your prediction and that of the shipped network, with their IoU"]
figure, grid = plt.subplots(3, 4, figsize=(9, 7.6), layout="constrained")
for row, episode in zip(grid, test_episodes[:3], strict=True):
    support, query = (data.test.dataset[index] for index in (episode.support[0], episode.query))
    masks = [(view.labels == episode.class_index + 1).numpy() for view in (support, query)]
    for axes, view, mask, title in zip(
        row, (support, query), masks, ("support", "query, truth outlined"), strict=False
    ):
        show_image(axes, view.image.permute(1, 2, 0).numpy(), title, outline=mask)
    for axes, name in zip(row[2:], ("yours", "shipped"), strict=True):
        with torch.no_grad():
            answer = predicted_mask(head_segmenter(heads[name])(data.test.batch([episode]))[0], size).numpy() == 1
        iou = (answer & masks[1]).sum() / (answer | masks[1]).sum()
        show_image(axes, overlay(query.image.permute(1, 2, 0).numpy(), answer, ORANGE), f"{name}: IoU {iou:.2f}")
    for axes in row:
        axes.title.set_fontsize(15)
plt.show()

# %% [markdown]
# *What to see:* the first three episodes of the list, not chosen. Where both answers go wrong in the same way, the
# features or the selection mislead them; where only yours does, longer training on more scenes may help. The brackets
# are 95 % intervals over episodes; lesson 7 says what they cover and what not.

# %% [markdown]
# ## 6.8 Train it yourself
#
# With a running kernel: *Start*, watch the curves, *Pause*, go on, *Stop*. The run goes on in the background, a few
# steps at a time; another cell that you run meanwhile makes it wait. Until you start, the picture shows the run of
# section 6.4. The two choices are for the next run that you start (*Stop* first, where one is paused).
#
# *Find* the largest learning rate that still learns, with all base classes. Does it learn best? Then with four: which
# curve tells you that something is wrong, and which does not?

# %% jupyter={"source_hidden": true}
from dpnet_lite.course.explorers.shell import dropdown, in_a_row
from dpnet_lite.course.explorers.training import LiveTrainer
from dpnet_lite.course.live_training import LiveTraining

rate = dropdown("learning rate", [(f"x {factor}", factor) for factor in (1, 2, 5, 10, 30)])
classes = dropdown("base classes", [(f"all {len(data.base)}", data.base), (f"{N_BASE}", few)])


def new_run() -> LiveTraining:
    """A run with the two choices, otherwise as in section 6.4."""
    chosen = replace(settings, learning_rate=rate.value * settings.learning_rate)
    return LiveTraining(replace(data, base=classes.value), ModelConfig(), chosen, score_every=EVERY)


trainer = LiveTrainer(new_run, (losses, scores, settings.steps))
trainer.children = (in_a_row([rate, classes]), *trainer.children)
trainer

# %% [markdown]
# <details><summary>Answer</summary>
#
# With all base classes x 5 still learns, though not better than x 1; at x 10 the network answers *background everywhere*
# after half of the steps, and its mIoU is 0. (With another seed the border may lie elsewhere.) With four classes loss and
# base score look better than with all; only the novel classes tell.
# </details>

# %% [markdown]
# ## Recap
#
# - A step takes a few episodes of base classes. The loss is the query's cross-entropy plus the auxiliary branch's: the
#   branch is ![stated](../figures/badges/stated.svg), its form ![our choice](../figures/badges/ours.svg). The backbone
#   stays as it is ![precedent](../figures/badges/precedent.svg) *PFENet, HSNet*.
# - A small loss does not say that anything was learned: *background everywhere* is cheap.
# - Same seed, same weights, stopped or not.
# - A network that over-fits to its base classes looks better on them than it is. Only classes that it never saw can tell.
#
# **Further reading.** [The method](../docs/method.md#auxiliary-branch-and-loss); Lightning Fabric's documentation; Tian
# et al., *Prior guided feature enrichment network for few-shot segmentation*, TPAMI 2020 (PFENet), for the frozen
# backbone.

# %%
lost, lost_interval = paired_difference(final["yours, 4 base classes"], final["yours"])
n = len(test_episodes)
of_four = draw_episodes(data.train.dataset, few, fold=FOLD, n_shot=1, count=n, seed=TEST_SEED)
gained, gained_interval = paired_difference(
    *(score_episodes(head_segmenter(head), data.train, of_four) for head in (narrow, yours))
)
assert lost_interval.high < 0 < gained_interval.low
claim(
    f"The plain network of lesson 5b, trained by a loop of a dozen lines, has after three steps the weights of the "
    f"package's, up to {largest:.0e}. Trained on {N_BASE} base classes in place of all {len(data.base)}, it changes by "
    f"{percent(gained, gained_interval, signed=True)} points of mIoU on these {N_BASE} and by "
    f"{percent(lost, lost_interval, signed=True)} on novel classes (95 % intervals over {n} "
    f"episodes each, one training each)."
)

# %% [markdown]
# ## Five questions

# %%
from dpnet_lite.course.quiz import quiz

quiz("06")

# %% [markdown]
# Previous: [5b Build it yourself](05b_build_it_yourself.ipynb). Next: [7 Evaluation](07_evaluation.ipynb)
