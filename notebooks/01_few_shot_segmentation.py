# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 1. Few-shot segmentation: the task, the protocol, the obstacle
#
# [Start here](00_start_here.ipynb) | **1 The task** | [2 The support prototype](02_support_prototype.ipynb)
#
# **What you will learn.** How a few-shot task is put together from classes, folds and episodes; which rules keep the
# test fair; and why a difference in looks between support and query is the obstacle that DPNet is made for.
#
# **What you need.** [Start here](00_start_here.ipynb), some Python and NumPy. No GPU, no network connection.
#
# **Time.** About 30 minutes with the two exercises. The cells run in about half a minute.
#
# Claims on the method carry a mark: *(stated)*, the paper's abstract or the caption of its Figure 2 says so;
# *(precedent)*, a public relative does exactly this; *(our choice)*, neither. PANet, PFENet, HSNet, CyCTR and other
# names beside *precedent* are published few-shot networks; [the method](../docs/method.md#relatives-named-on-this-page)
# lists them.

# %%
# %matplotlib inline
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.colors import ListedColormap

from dpnet_lite.datasets.folds import base_classes, novel_classes
from dpnet_lite.datasets.toy import DEFAULT_GAP, ToyWorld, catalogue_names
from dpnet_lite.episodes import DEFAULT_MIN_AREA, draw_episodes

names = catalogue_names()
print(f"{len(names)} classes, from {names[0]!r} to {names[-1]!r}")

# %% [markdown]
# ## 1.1 Classes and folds
#
# Segmenting means to answer, for every pixel: does it belong to the class? A *few-shot* network must answer for a
# class that it was never trained on. To test that honestly, the classes are parted into **folds**. The classes of a
# fold are **novel** for the network that is tested on it; all others are its **base** classes, to train on. Every
# class is novel once.
#
# Two layouts are in use *(precedent for both)*:
#
# - **interleaved**: fold f holds the classes f, f + 4, f + 8 ... This is COCO-20^i, and the toy world's layout;
# - **blocked**: fold f holds a run of neighbours. This is PASCAL-5^i.
#
# These are the two usual benchmarks, made from the photographs of COCO (80 classes, 20 of them in each of four folds)
# and of PASCAL VOC (20 classes, 5 in each fold); i is the number of the fold.

# %%
layouts = {
    layout: np.array(
        [next(f for f in range(4) if c in novel_classes(len(names), f, 4, layout)) for c in range(len(names))]
    )
    for layout in ("interleaved", "blocked")
}
colours = ["#0072B2", "#E69F00", "#009E73", "#CC79A7"]
figure, grid = plt.subplots(1, 2, figsize=(9, 3.2), layout="constrained", sharey=True)
textures = [names[i].split()[0] for i in range(10)]
outlines = [names[10 * i].split()[-1] for i in range(8)]
for axes, (layout, fold_of) in zip(grid, layouts.items(), strict=True):
    axes.imshow(fold_of.reshape(8, 10), cmap=ListedColormap(colours))
    for c, fold in enumerate(fold_of):
        axes.text(c % 10, c // 10, str(fold), ha="center", va="center", color="white", fontsize=9, weight="bold")
    axes.set_xticks(range(10), textures, rotation=45, ha="right")
    axes.set_yticks(range(8), outlines)
    axes.set_title(f"{layout}: the fold in which a class is novel", fontsize=10)
plt.show()

for layout in layouts:
    for fold in range(4):
        novel = set(novel_classes(len(names), fold, 4, layout))
        base = set(base_classes(len(names), fold, 4, layout))
        assert not novel & base and len(novel | base) == len(names)

# %% [markdown]
# *What to see:* a class of the toy world is an outline (row) with a texture (column). Interleaved, each fold takes
# some classes of every outline: a novel class is a *new combination* of an outline and a texture that the network
# knows from other classes. Blocked, whole outlines are unknown, which is harder. The assertions in the cell prove
# that no class is both novel and base.

# %% [markdown]
# ### Exercise 1.1: the folds of COCO-20^i (easy, 5 minutes)
#
# Write `my_novel_classes(n_classes, fold, n_folds)` for the interleaved layout. It returns the class numbers, from 0,
# that are novel in `fold`.


# %% jupyter={"source_hidden": true}
def my_novel_classes(n_classes: int, fold: int, n_folds: int) -> list[int]:
    """The novel classes of an interleaved fold."""
    # BEGIN SOLUTION
    return list(range(fold, n_classes, n_folds))
    # END SOLUTION


# %% tags=["check"]
from dpnet_lite.course.exercises.lesson_01 import check_folds

check_folds(my_novel_classes)

# %% [markdown]
# ## 1.2 Episodes
#
# One test task is an **episode**: a class, K **support** images with masks of it (K is the number of **shots**), and
# one **query** without. A list of episodes is drawn once, from a seed, and then *frozen*: every method is scored on
# exactly the same tasks. Its fingerprint, a SHA-256, stands beside every table of this project, so that two people
# can tell whether they compare like with like.

# %%
FOLD = 0
novel = novel_classes(len(names), FOLD)
world = ToyWorld(100, seed=2022, targets=novel, others=range(len(names)))
episodes = draw_episodes(world, novel, fold=FOLD, n_shot=2, count=40, seed=3)
again = draw_episodes(world, novel, fold=FOLD, n_shot=2, count=40, seed=3)
other = draw_episodes(world, novel, fold=FOLD, n_shot=2, count=40, seed=4)
assert episodes == again and episodes.sha256 != other.sha256
print("the first episode:", episodes[0])
print("fingerprint, seed 3:", episodes.sha256[:16], "...   seed 4:", other.sha256[:16], "...")

classes, counts = np.unique([e.class_index for e in episodes], return_counts=True)
print(f"{len(episodes)} episodes over {len(classes)} classes, {counts.min()} to {counts.max()} of each")
print(f"a class counts in an image where it covers {100 * DEFAULT_MIN_AREA:g} % of it or more")
assert all(e.query not in e.support and len(set(e.support)) == 2 for e in episodes)

# %% [markdown]
# The rules of a list in this project: classes take turns, so none is tested more than another by chance; a class
# that covers less than a small share of an image (the cell prints it) does not count there; the query is never in its
# own support; and no image comes twice in a support while there are others *(our choice; public code differs in each of
# these)*.
#
# The next picture is an episode of another list, drawn in the same way, as the network gets it. The truth of the query
# is for scoring only.

# %%
from dpnet_lite.course.explorers.episode import episode_figure, toy_episodes

toy = toy_episodes(FOLD, gap=0.5)
episode_figure(toy.open(toy.episodes(n_shot=2)[0]))

# %% [markdown]
# *What to see:* two support images with the mask's outline; the query; in orange the mask that DPNet predicts, with
# its IoU (intersection over union, 1 is perfect); in green the truth. The network has seen neither the class nor any
# of these scenes.

# %% [markdown]
# ### Exercise 1.2: draw an episode (medium, 10 minutes)
#
# Write `my_episode(holders, n_shot, generator)`. `holders` is an array with the numbers of the images that show the
# class (always more than `n_shot`). Return `(query, support)`, drawn with NumPy's `generator`: any image may become
# the query, the support holds `n_shot` different images, and never the query.


# %% jupyter={"source_hidden": true}
def my_episode(holders: np.ndarray, n_shot: int, generator: np.random.Generator) -> tuple[int, list[int]]:
    """A query and its support, all different."""
    # BEGIN SOLUTION
    query, *support = generator.permutation(holders)[: n_shot + 1].tolist()
    return query, support
    # END SOLUTION


# %% tags=["check"]
from dpnet_lite.course.exercises.lesson_01 import check_episode

check_episode(my_episode)

# %% [markdown]
# ## 1.3 The score
#
# The pixels of all episodes of a class are added up first, then divided: that gives one IoU per class. The mean over
# the classes is the **mIoU** *(precedent: PFENet, HSNet)*. Averaging the IoU of single episodes instead gives another
# number, since then a tiny object weighs as much as a large one. Some published code does so; the next cell shows
# that it matters.

# %%
from dpnet_lite.scoring import head_segmenter, score_episodes

list_of_60 = toy.episodes(count=60)
scores = score_episodes(head_segmenter(toy.head), toy.bank, list_of_60)
print(f"mIoU: {100 * scores.miou:.1f} %   mean of the episodes' IoU: {100 * scores.episode_miou:.1f} %")

intersection, union = scores.counts[:, 0], scores.counts[:, 1]  # of the foreground, one row an episode
by_hand = np.mean(
    [
        intersection[scores.class_index == c].sum() / union[scores.class_index == c].sum()
        for c in np.unique(scores.class_index)
    ]
)
assert abs(by_hand - scores.miou) < 1e-12

# %% [markdown]
# ## 1.4 The obstacle: support and query look different
#
# The paper names the diversity between support and query as the obstacle: a prototype made from the support alone
# ignores how the class looks in the query *(stated)*. The toy world has a dial for it, the `gap`. At 0 the objects of
# a class look alike everywhere; at 1 their colour, light, texture scale and pose differ as much as they can *(our
# choice)*.

# %%
GAPS = (0.0, 0.5, 1.0)
figure, grid = plt.subplots(len(GAPS), 6, figsize=(9, 1.65 * len(GAPS)), layout="constrained")
for row, gap in zip(grid, GAPS, strict=True):
    scenes = ToyWorld(121, seed=7, targets=novel, others=range(len(names)), gap=gap)
    for position, axes in enumerate(row):
        axes.imshow(scenes[20 * position].image.permute(1, 2, 0))  # every 20th scene is made for the same class
        axes.set_xticks([])
        axes.set_yticks([])
    row[0].set_ylabel(f"gap {gap:g}", fontsize=11)
figure.suptitle(f"six scenes with a {names[novel[0]]} at three settings of the dial", fontsize=11)
plt.show()

# %% [markdown]
# *What to see:* the same six scenes in each row. From top to bottom the named class changes more and more from one
# scene to the next, in colour, light and pose, while its outline and texture stay.
#
# What does the gap do to a prototype? For each episode we take the mean feature of the class in the support, and
# the same in the query with the query's *true* mask, which no method may use. Their *cosine* (1 where two vectors
# point the same way, 0 where they have nothing in common) says how good a guide the support is. Beside it stands the
# mIoU of the simplest method, the training-free baseline: every query pixel goes to the nearer of two support
# prototypes, foreground or background *(precedent: PANet)*. In the cell, `masks_at` shrinks a mask to the grid of the
# features, and the last `deep` channels (entries of a feature) are those of the deepest stage of the *backbone*, the
# network that makes the features. [Lesson 2](02_support_prototype.ipynb) takes all this slowly.

# %%
import torch.nn.functional as functional

from dpnet_lite.model.prototypes import masked_average, masks_at
from dpnet_lite.scoring import training_free_segmenter

dial = (0.0, 0.25, 0.5, 0.75, 1.0)
cosines, baseline, dpnet = [], [], []
for gap in dial:
    at_gap = toy_episodes(FOLD, gap)
    tasks = at_gap.episodes(count=60)
    batch = at_gap.bank.batch(list(tasks))
    deep = at_gap.bank.backbone.deep_channels
    cells = tuple(batch.query_features.shape[-2:])
    support = masked_average(batch.support_features[:, 0, -deep:], batch.support_masks[:, 0])
    truth = masked_average(batch.query_features[:, -deep:], masks_at(batch.query_labels == 1, cells))
    cosines.append(functional.cosine_similarity(support, truth, dim=1).numpy())
    baseline.append(score_episodes(training_free_segmenter(deep), at_gap.bank, tasks).miou)
    dpnet.append(score_episodes(head_segmenter(at_gap.head), at_gap.bank, tasks).miou)

figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.2), layout="constrained")
left.boxplot(cosines, tick_labels=[f"{gap:g}" for gap in dial], medianprops={"color": "#0072B2", "linewidth": 2})
left.set(xlabel="gap", ylabel="cosine", title="support prototype against the query's own")
right.plot(dial, 100 * np.array(dpnet), "o-", color="#0072B2", label=f"DPNet (trained at gap {DEFAULT_GAP:g})")
right.plot(dial, 100 * np.array(baseline), "s:", color="black", label="training-free baseline")
right.set(xlabel="gap", ylabel="mIoU, %", title="score of the same episodes", ylim=(0, 100))
right.legend(frameon=False)
plt.show()
for gap, cosine, low, high in zip(dial, cosines, baseline, dpnet, strict=True):
    print(f"gap {gap:4g}: cosine {np.median(cosine):.2f}, training-free {100 * low:.1f} %, DPNet {100 * high:.1f} %")

# %% [markdown]
# *What to see:* left, one box a setting: half of the episodes lie in the box, the blue line is the median,
# circles are single episodes far off. As the gap
# grows, the support's summary of the class points less and less towards the class in the query. Right, DPNet loses
# with it. The baseline is low at every setting: its rule is at fault, not only its features; lesson 2.4 takes both
# apart. With so few episodes several points are chance; [Results](../docs/results.md) has long lists with intervals.

# %% [markdown]
# ## 1.5 Look around
#
# With a running kernel the next cell is an explorer: choose fold, class, gap, shots and seed. On a page without a
# kernel you see its first picture. Try: find a class that is segmented well at gap 0 and badly at gap 1; then add
# shots.

# %%
from dpnet_lite.course.explorers.apps import episode_explorer

episode_explorer()

# %% [markdown]
# ## Recap
#
# - Folds make every class novel once; base and novel classes never overlap.
# - An episode is a class, K support images with masks, and a query. Lists are frozen and carry a fingerprint.
# - mIoU adds up pixels per class before it divides.
# - The gap between support and query is the obstacle *(stated)*; the dial lets you turn it.
#
# **Further reading.** [The method](../docs/method.md) with the notation of all notebooks; Shaban et al., *One-shot
# learning for semantic segmentation*, BMVC 2017 (PASCAL-5^i); Nguyen and Todorovic, *Feature weighting and boosting for
# few-shot segmentation*, ICCV 2019 (COCO-20^i).
#
# Next: [2 The support prototype](02_support_prototype.ipynb)
