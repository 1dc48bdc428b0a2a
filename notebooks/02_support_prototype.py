# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 2. The support prototype: a class as one vector
#
# [Start here](00_start_here.ipynb) | [1 The task](01_few_shot_segmentation.ipynb) | **2 The support prototype** |
# [3 Cycle comparison](03_cycle_comparison.ipynb)
#
# **What you will learn.** How the support is summarised as one vector, the prototype P; how a query is compared with
# it, pixel by pixel; and where that fails.
#
# **What you need.** [Notebook 1](01_few_shot_segmentation.ipynb); what a convolutional network's feature map is; a
# little PyTorch.
#
# **Time.** About 30 minutes with the two exercises. The cells run in about half a minute.

# %%
# %matplotlib inline
import matplotlib.pyplot as plt
import numpy as np
import torch
import torch.nn.functional as functional

from dpnet_lite.course.explorers.episode import toy_episodes
from dpnet_lite.course.explorers.panels import draw_outline, show_image, show_map

FOLD = 0
toy = toy_episodes(FOLD, gap=0.5)
opened = toy.open(toy.episodes()[0])  # one-shot: one support image
print(f"class: {opened.class_name}")

# %% [markdown]
# ## 2.1 Features
#
# A **backbone**, a network trained for another purpose, turns an image into a grid of **features**: one vector for a
# small patch of pixels, a *cell*. It is frozen: nothing below changes it *(precedent: PFENet, HSNet)*. A small trained
# layer reduces the vectors to fewer numbers *(our choice)*. In symbols, with one notation for all notebooks
# ([the table](../docs/method.md#notation)):
#
# | symbol | what |
# |---|---|
# | $F_s$, $F_q$ | features of the support and of the query |
# | $M_s$ | the support's mask on the same grid: which share of each cell is foreground |
# | $P$ | the support prototype |

# %%
F_s, F_q = opened.trace.support[0, 0], opened.trace.query[0]  # [C, h, w] each
M_s = opened.trace.support_masks[0, 0]  # [h, w], in [0, 1]
channels, rows, columns = F_q.shape
size = opened.query_image.shape[0]
print(f"image {size} x {size} pixels -> {rows} x {columns} cells with {channels} numbers each")

figure, axes = plt.subplots(1, 3, figsize=(9, 3), layout="constrained")
show_image(axes[0], opened.support_images[0], f"support: {opened.class_name}", outline=opened.support_masks[0])
show_map(axes[1], M_s.numpy(), "$M_s$: share of foreground", size=size)
show_map(axes[2], F_s.norm(dim=0).numpy(), "$F_s$: length of each vector", size=size)
plt.show()

# %% [markdown]
# *What to see:* the mask on the grid of cells is a share, not a yes or no: cells on the border are partly foreground.
# So a thin object keeps its weight *(our choice)*. Right, the length of the feature vectors; where there is texture,
# the network has more to say.

# %% [markdown]
# ## 2.2 The masked average
#
# That a prototype of the support is one of the two prototypes is *(stated)*. Its formula is not public; the masked
# average is what prototype networks commonly use *(precedent: PANet)*:
#
# $$P = \frac{\sum_j M_s(j)\, F_s(j)}{\sum_j M_s(j) + \varepsilon}$$
#
# The sum runs over the cells j. $\varepsilon$ is a tiny number that keeps an empty mask from dividing by zero: its
# prototype is 0.
#
# ### Exercise 2.1: write it (easy, 5 minutes)
#
# Write `my_masked_average(features, mask)` for `features` [C, h, w] and `mask` [h, w] with values from 0 to 1. Return
# the prototype, [C].


# %% jupyter={"source_hidden": true}
def my_masked_average(features: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Mean of the features, each cell counted with its share of foreground."""
    # BEGIN SOLUTION
    weighted = (features * mask).sum(dim=(1, 2))  # [C, h, w] -> [C]
    return weighted / (mask.sum() + 1e-6)
    # END SOLUTION


# %% tags=["check"]
from dpnet_lite.course.exercises.lesson_02 import check_masked_average

check_masked_average(my_masked_average)

# %% [markdown]
# The same in plain loops, beside what the package computes. The assertion fails if they differ.

# %%
from dpnet_lite.model.prototypes import masked_average

by_hand = torch.zeros(channels)
for row in range(rows):
    for column in range(columns):
        by_hand += M_s[row, column] * F_s[:, row, column]
by_hand /= M_s.sum() + 1e-6

P = masked_average(F_s, M_s)
assert torch.allclose(by_hand, P, atol=1e-4)
assert torch.allclose(P, opened.trace.prototype[0], atol=1e-4)  # what the network itself used
print(f"P has {len(P)} numbers, the first are {[round(float(x), 2) for x in P[:5]]}")

# %% [markdown]
# ## 2.3 Dense comparison: how alike is every query cell to P?
#
# The **cosine** of two vectors is 1 where they point the same way, whatever their lengths, and 0 where they have
# nothing in common:
#
# $$\cos(a, b) = \frac{a \cdot b}{\lVert a \rVert\, \lVert b \rVert}$$
#
# Comparing every query cell with P gives a **similarity map**.

# %%
from dpnet_lite.model.prototypes import cosine_map

lengths = F_q.norm(dim=0) * P.norm()
similarity = (F_q * P[:, None, None]).sum(dim=0) / lengths.clamp_min(1e-12)
assert torch.allclose(similarity, cosine_map(F_q[None], P[None])[0], atol=1e-5)

figure, axes = plt.subplots(1, 3, figsize=(9, 3), layout="constrained")
show_image(axes[0], opened.support_images[0], f"support: {opened.class_name}", outline=opened.support_masks[0])
show_image(axes[1], opened.query_image, "query with the true mask", outline=opened.truth)
show_map(axes[2], similarity.numpy(), "cosine with $P$", size=size)
draw_outline(axes[2], opened.truth)
plt.show()

inside = opened.truth_shares >= 0.5
print(f"mean cosine on the object {similarity[inside].mean():.2f}, elsewhere {similarity[~inside].mean():.2f}")

# %% [markdown]
# *What to see:* the map is brightest where the query looks like the support's object. The outline is the true mask.
# Bright cells outside of it are other objects that share something with the class; dark cells inside are where the
# object looks different from the support.
#
# How bright is bright enough? A threshold would have to be chosen, and the next query needs another. Two prototypes
# need none: one of the foreground, one of everything else, and every cell goes to the nearer *(precedent: PANet)*.
#
# ### Exercise 2.2: the nearer of two prototypes (medium, 10 minutes)
#
# Write `my_nearest_prototype(query, foreground, background)` for a query [C, h, w] and two prototypes [C]. Return a
# mask [h, w], True where the cosine with `foreground` is the larger one.


# %% jupyter={"source_hidden": true}
def my_nearest_prototype(query: torch.Tensor, foreground: torch.Tensor, background: torch.Tensor) -> torch.Tensor:
    """True where the foreground prototype is nearer, by cosine."""
    # BEGIN SOLUTION
    directions = functional.normalize(query, dim=0)  # [C, h, w], each cell of length 1
    to_foreground = torch.einsum("chw,c->hw", directions, functional.normalize(foreground, dim=0))
    to_background = torch.einsum("chw,c->hw", directions, functional.normalize(background, dim=0))
    return to_foreground > to_background
    # END SOLUTION


# %% tags=["check"]
from dpnet_lite.course.exercises.lesson_02 import check_two_prototypes

check_two_prototypes(my_nearest_prototype)

# %% [markdown]
# ## 2.4 Where it fails
#
# To see what a similarity map is worth without arguing about thresholds, give it the *best* threshold that exists for
# this very query, found with the truth. No method may do that; it bounds them all. The next cell takes this best IoU
# over many episodes, for a growing gap between support and query, for three prototypes:
#
# - P in the features of the frozen backbone, all of them;
# - P in the reduced features, which were trained together with the rest of DPNet;
# - the prototype that the query itself would give, with its *true* mask, in the reduced features.
#
# The distance between the last two is what the *support* does not know about the query. Beside them stands the rule of
# exercise 2.2, which needs no threshold.

# %%
from dpnet_lite.course.opened_episode import best_threshold_iou
from dpnet_lite.model.prototypes import masks_at


def slow_best_iou(similarity: torch.Tensor, truth: torch.Tensor) -> float:
    """The largest IoU over all thresholds, tried one by one: similarity [h, w], truth bool [h, w]."""
    masks = [similarity >= threshold for threshold in similarity.unique()]
    return max(float((mask & truth).sum() / (mask | truth).sum()) for mask in masks)


def nearest_iou(query: torch.Tensor, foreground: torch.Tensor, background: torch.Tensor, truth: torch.Tensor) -> float:
    """IoU of the nearer of two prototypes, one episode."""
    mask = cosine_map(query[None], foreground[None])[0] > cosine_map(query[None], background[None])[0]
    return float((mask & truth).sum() / (mask | truth).sum().clamp_min(1))


object_cells = opened.truth_shares >= 0.5
assert abs(slow_best_iou(similarity, object_cells) - best_threshold_iou(similarity, object_cells)) < 1e-6

dial = (0.0, 0.25, 0.5, 0.75, 1.0)
STYLES = {
    "query's own prototype": ("D--", "#009E73"),
    "P, reduced features": ("o-", "#0072B2"),
    "P, frozen features": ("s:", "black"),
    "nearer of two, reduced": ("v-.", "#D55E00"),
}
curves: dict[str, list[float]] = {label: [] for label in STYLES}
for gap in dial:
    at_gap = toy_episodes(FOLD, gap)
    batch = at_gap.bank.batch(list(at_gap.episodes(count=60)))
    cells = tuple(batch.query_features.shape[-2:])
    shares = masks_at(batch.query_labels == 1, cells)
    masks, truth = batch.support_masks[:, 0], shares >= 0.5
    frozen_support, frozen_query = batch.support_features[:, 0], batch.query_features
    with torch.no_grad():
        support, query = (at_gap.head.reduce(x) for x in (batch.support_features[:, 0], batch.query_features))
    maps = {
        "query's own prototype": cosine_map(query, masked_average(query, shares)),
        "P, reduced features": cosine_map(query, masked_average(support, masks)),
        "P, frozen features": cosine_map(frozen_query, masked_average(frozen_support, masks)),
    }
    for label, similarity in maps.items():
        curves[label].append(
            100 * float(np.mean([best_threshold_iou(s, t) for s, t in zip(similarity, truth, strict=True)]))
        )
    pairs = zip(query, masked_average(support, masks), masked_average(support, 1 - masks), truth, strict=True)
    curves["nearer of two, reduced"].append(100 * float(np.mean([nearest_iou(*pair) for pair in pairs])))

figure, axes = plt.subplots(figsize=(6, 3.6), layout="constrained")
for label, (style, colour) in STYLES.items():
    axes.plot(dial, curves[label], style, color=colour, label=label)
axes.set(xlabel="gap", ylabel="mean IoU of the episodes, %", ylim=(0, 100))
axes.legend(frameon=False, fontsize=9, loc="lower left", bbox_to_anchor=(0, 1.0), ncols=2)
plt.show()
for label, values in curves.items():
    print(f"{label:24}", ", ".join(f"{value:.0f}" for value in values))

# %% [markdown]
# *What to see:* at the left end, where all objects of a class look alike, P is nearly as good as the query's own
# prototype. As the gap grows, P loses much and the query's own prototype hardly anything: the object in the query
# still resembles *itself*. This is the opening for a second prototype, made from the query: the pseudo-prototype of
# [notebook 3](03_cycle_comparison.ipynb). Trained features are a better ground than frozen ones throughout
# this world.
#
# The rule of two prototypes stays far below: the background is many different things, and their mean is like none
# of them. So DPNet does not decide by it. It hands the similarity maps to a small network that learns to read them
# ([The method](../docs/method.md#comparison-maps)) *(our choice)*.
#
# ## 2.5 On photographs
#
# Now 13 objects before several backgrounds each; the head for photographs saw none of them in training. Of sixty
# one-shot episodes the code takes the one whose map is worth most and the one whose map is worth least, by the best
# threshold of 2.4, and says what that threshold gets wrong. The map is that of P in the reduced features.

# %%
from dpnet_lite.course.opened_episode import ObjectEpisodes
from dpnet_lite.datasets import OBJECTS_CREDIT
from dpnet_lite.experiments.plots import ORANGE, overlay

photographs = ObjectEpisodes()
photo_episodes = [photographs.open(episode) for episode in photographs.episodes(count=60)]
maps = [cosine_map(v.trace.query, v.trace.prototype)[0] for v in photo_episodes]  # [h, w] each
worth = np.array([best_threshold_iou(m, v.truth_shares >= 0.5) for m, v in zip(maps, photo_episodes, strict=True)])
limits = (min(float(m.min()) for m in maps), 1.0)
figure, grid = plt.subplots(2, 4, figsize=(9.5, 5), layout="constrained")
for row, name, number in zip(grid, ("best map", "worst map"), (worth.argmax(), worth.argmin()), strict=True):
    v, similarity, truth = photo_episodes[number], maps[number], photo_episodes[number].truth_shares >= 0.5
    show_image(row[0], v.support_images[0], f"support: {v.class_name}", outline=v.support_masks[0])
    show_image(row[1], v.query_image, "query with the true mask", outline=v.truth)
    style = {"size": v.truth.shape[0], "limits": limits, "colour_bar": name == "best map"}
    show_map(row[2], similarity.numpy(), f"{name}: cosine with $P$", **style)
    draw_outline(row[2], v.truth)
    show_image(row[3], overlay(v.query_image, v.prediction, ORANGE), f"DPNet: IoU {v.iou:.2f}", outline=v.truth)
    cut = max(similarity.unique(), key=lambda t: ((similarity >= t) & truth).sum() / ((similarity >= t) | truth).sum())
    missed, extra = int((truth & (similarity < cut)).sum()), int((~truth & (similarity >= cut)).sum())
    print(
        f"{name}: best IoU {worth[number]:.2f}, threshold {cut:.2f}; of the object's {int(truth.sum())} cells "
        f"it misses {missed}, and takes {extra} others"
    )
plt.show()
print(f"all {len(worth)}: best IoU {worth.mean():.2f} on average; a half or less in {(worth <= 0.5).sum()}")
print(OBJECTS_CREDIT)

# %% [markdown]
# *What to see:* the same colours mean the same cosine in both maps. In a good map the object is bright all over and
# nothing else is. A map can fail in two ways: parts of the object are dark, since they are not like the mean of the
# support; or other things are bright, since they share what the mean has kept. The numbers say how much of each; in the
# worst map it is both, and the object cannot be seen in it. Compare the two thresholds: what counts as bright in one
# query need not in another.
#
# Last, the trained network's answer. It finds the object, roughly: it reads other maps beside this one, and adds a
# score made from the frozen features. (Do not compare its IoU with the best one of the map: that counts cells, and its
# threshold knows the truth.)

# %% [markdown]
# ## Recap
#
# - The support prototype P is a masked average: one vector for a class.
# - Comparing it densely with the query, by cosine, gives a similarity map; with a second prototype for the
#   background it gives a mask without a threshold.
# - P knows nothing of how the class looks in the query. The larger the gap, the more that costs.
#
# **Further reading.** Snell et al., *Prototypical networks for few-shot learning*, NeurIPS 2017; Wang et al.,
# *PANet*, ICCV 2019; [The method](../docs/method.md#prototype).
#
# Previous: [1 The task](01_few_shot_segmentation.ipynb). Next: [3 Cycle comparison](03_cycle_comparison.ipynb)
