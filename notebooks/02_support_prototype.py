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
# ![The network from images to mask; lit are the frozen backbone, the features F_s and F_q, and the support
# prototype P](../figures/network_2.svg)
#
# **What you will learn.** What a backbone is, and what it has and has not seen; how the support is summarised as one
# vector, the prototype P; how a query is compared with it, cell by cell; and where that fails.
#
# **What you need.** [Notebook 1](01_few_shot_segmentation.ipynb); what a convolutional network's feature map is; a
# little PyTorch.
#
# **Time.** About 65 minutes: 30 to read, 35 for the exercises. The cells run in about half a minute.
#
# The next cell *opens* an episode: it runs the network on it and keeps everything that was made on the way. Such an
# `opened` episode has the images and masks, the prediction, its `iou`, and `opened.trace`: the tensors inside the
# network, each under a name of [one table](../docs/method.md#notation), such as `trace.query` for $F_q$. They have a
# first axis for episodes, here of length 1; supports have a second one for the shots.

# %%
# %matplotlib inline
import matplotlib.pyplot as plt
import numpy as np
import torch
import torch.nn.functional as functional

from dpnet_lite.course.explorers.episode import object_episodes, toy_episodes
from dpnet_lite.course.explorers.panels import draw_outline, show_image, show_map
from dpnet_lite.course.page import claim, table
from dpnet_lite.course.quiz import quiz
from dpnet_lite.datasets import OBJECTS_CREDIT

FOLD = 0
toy = toy_episodes(FOLD, gap=0.5)
opened = toy.open(toy.episodes()[0])  # one-shot: one support image
print(f"class: {opened.class_name}; the trace holds {', '.join(opened.trace._fields)}")

# %% [markdown]
# ## 2.1 Features, and where they come from
#
# A **backbone** is a network that was trained for another task, without its last layer. It turns an image into a grid
# of **features**: one vector for each small patch of pixels, a *cell*. Few-shot learning needs one: two masks are too
# few to learn to see from. It is **frozen**: nothing below changes it
# ![precedent](../figures/badges/precedent.svg) *PFENet, HSNet*.
#
# What the backbone learnt decides what can be told apart, and what may be called *novel*. Two come with the package.
# The cell reads what each was trained on from the files beside the weights, and asserts what the table says.

# %% jupyter={"source_hidden": true}
import json
from pathlib import Path

from IPython.display import Markdown
from torchvision.models import MobileNet_V2_Weights

import dpnet_lite
from dpnet_lite.datasets.toy import AUXILIARY_OUTLINES, AUXILIARY_TEXTURES, CATALOGUES, catalogue_names

WEIGHTS = Path(dpnet_lite.__file__).parent / "weights"
tiny, mobile = (json.loads((WEIGHTS / f"{name}.json").read_text()) for name in ("tiny_backbone", "mobilenet_v2"))
outlines, textures = CATALOGUES["classes"]
assert not set(outlines) & set(AUXILIARY_OUTLINES) and not set(textures) & set(AUXILIARY_TEXTURES)
imagenet = MobileNet_V2_Weights.IMAGENET1K_V1.meta["categories"]
known = ("backpack", "teddy", "candle", "running shoe", "toy poodle", "sports car")
assert set(known) <= set(imagenet) and "IMAGENET1K_V1: features.0 to features.14" in mobile["what"]
n_auxiliary = len(catalogue_names("auxiliary"))
photographs = object_episodes()
Markdown(
    f"""
| | drawn world | photographs |
|:---|:---|:---|
| network | a tiny ResNet, made for this course | MobileNetV2 of torchvision, its first fifteen blocks |
| trained on | {tiny["pretraining"]["n_scenes"]:,} drawn scenes | ImageNet |
| to do what | name each cell: {n_auxiliary} auxiliary classes | name each image: {len(imagenet):,} classes, no masks |
| has seen | {", ".join(AUXILIARY_OUTLINES)}; {", ".join(AUXILIARY_TEXTURES)} | like our objects: {", ".join(known)} |
| has *not* seen | any outline or texture of the {len(catalogue_names())} classes of the lessons |
  the task of outlining; our {len(photographs.dataset)} photographs, unless ImageNet has some of them |
""".replace(" |\n  ", " | ")
)

# %% [markdown]
# So *novel* means two things. On the drawn world a novel class is new to the backbone **and** to the head, the part of
# the network that is trained in lesson 6: the comparison is clean. On photographs it is new to the head alone: the
# backbone has learnt from ImageNet to tell a teddy from a candle. The same holds for the published benchmarks, whose
# backbones were trained on ImageNet as well. A good result on photographs thus rests on that, too.
#
# **What do features look like?** Vectors this long cannot be shown. **Principal component analysis** (PCA) finds the
# three directions in which the vectors of an image vary most; painted as red, green and blue they make a picture.
# Support and query share the directions, so the *same colour means a like feature*.

# %%
from sklearn.decomposition import PCA


def as_colours(*maps):
    """Feature maps [D, h, w] as pictures [h, w, 3] in common colours, and the share of the variance that they show."""
    cells = np.concatenate([one.flatten(1).T.numpy() for one in maps])  # [all cells, D]
    pca = PCA(3, random_state=0)
    values = pca.fit_transform(cells)
    low, high = np.quantile(values, [0.01, 0.99], axis=0)  # a few extreme cells would leave the rest grey
    pictures = np.clip((values - low) / (high - low), 0, 1).reshape(len(maps), *maps[0].shape[1:], 3)
    return pictures, pca.explained_variance_ratio_.sum()


# %% jupyter={"source_hidden": true} alt=["Three rows: a drawn scene, a toy robot and a sneaker. Each shows the support, its features in colours, the query, its features in colours. In the first row the support's kite is magenta, and so is the zigzag kite of the query, another class; the true kite is redder. On the photographs the object keeps roughly the same colours, which are grainy; the robot's pavement in the query is green, too. The true objects are outlined."]
photo_list = photographs.episodes(count=60)
shown = [opened, photographs.open(photo_list[0]), photographs.open(photo_list[7])]
figure, grid = plt.subplots(3, 4, figsize=(7.6, 6.2), layout="constrained")
for (a, b, c, d), one in zip(grid, shown, strict=True):
    pictures, share = as_colours(one.batch.support_features[0, 0], one.batch.query_features[0])
    show_image(a, one.support_images[0], f"support: {one.class_name}", outline=one.support_masks[0])
    step = one.truth.shape[0] // one.batch.cells[0]  # pixels a cell
    pictures = pictures.repeat(step, axis=1).repeat(step, axis=2)
    show_image(b, pictures[0], "its features", outline=one.support_masks[0])
    show_image(c, one.query_image, "query", outline=one.truth)
    show_image(d, pictures[1], f"its features ({share:.0%})", outline=one.truth)
plt.show()
print(f"in brackets: share of the variance in three directions\n{OBJECTS_CREDIT}")

# %% [markdown]
# *What to see:* each cell has one colour, so this is all the detail that a cell-wise comparison gets. The outlines are
# the true objects. On the photographs the object keeps roughly the same colours, though nobody told the backbone what
# to look for. (The robot's pavement in the query, too, is green: like features mislead here as well.) In the first row
# look twice: the support's kite is magenta, and so is the zigzag kite of the query, another class; the true one is
# redder. Like features are a hint, not a proof. In the drawn world each object is one smooth patch with a rim of other
# colours: a cell at a border sees both sides. On photographs the colours are grainier: a sneaker is sole, tongue and
# shadow, and three directions show less of what is there.
#
# A small trained layer, part of the head, *reduces* the vectors to fewer numbers
# ![our choice](../figures/badges/ours.svg). In symbols, with one notation for all notebooks:
#
# | symbol | what |
# |---|---|
# | $X_s$, $X_q$ | frozen features of the support and of the query, D numbers per cell |
# | $F_s$, $F_q$ | reduced features of the support and of the query |
# | $M_s$ | the support's mask on the same grid: which share of each cell is foreground |
# | $P$ | the support prototype |
# | $Y$ | comparison maps (in the picture above): lesson 5 |

# %%
F_s, F_q = opened.trace.support[0, 0], opened.trace.query[0]  # [C, h, w] each
M_s = opened.trace.support_masks[0, 0]  # [h, w], in [0, 1]
channels, rows, columns = F_q.shape
size = opened.query_image.shape[0]
frozen = opened.batch.query_features.shape[1]
print(f"image {size} x {size} pixels -> {rows} x {columns} cells with {frozen} numbers each, reduced to {channels}")

# %% [markdown]
# ## 2.2 The masked average
#
# **Idea.** Say what the class looks like in one vector: the mean feature of the object's cells. What differs from cell
# to cell cancels out, what they share stays. The picture shows it for one of the channels: its values over the support,
# the share of foreground, and the product of the two, the part that is averaged.

# %% jupyter={"source_hidden": true} alt=["Three maps of the support: the values of one channel, the share of foreground in each cell, and their product, which is 0 outside of the object."]
from dpnet_lite.model.prototypes import cosine_map, masked_average

P = masked_average(F_s, M_s)  # [C]
channel = int((P - F_s.mean(dim=(1, 2))).argmax())  # where the object differs most from the image
figure, axes = plt.subplots(1, 3, figsize=(7.6, 2.7), layout="constrained")
panels = {
    f"channel {channel} of $F_s$": F_s[channel],
    "$M_s$": M_s,
    f"product; $P$ there: {P[channel]:.2f}": F_s[channel] * M_s,
}
for one, (title, values) in zip(axes, panels.items(), strict=True):
    show_map(one, values.numpy(), title, size=size)
    draw_outline(one, opened.support_masks[0])
plt.show()

# %% [markdown]
# *What to see:* $M_s$ is a share, not a yes or no: cells on the border are partly foreground, and count less. A
# part thinner than a cell is not lost: it counts with its share ![our choice](../figures/badges/ours.svg).
#
# **Formula.** That a prototype of the support is one of the two prototypes is
# ![stated](../figures/badges/stated.svg). Its formula is not public; the masked average is what prototype networks
# commonly use ![precedent](../figures/badges/precedent.svg) *PANet*:
#
# $$P = \frac{\sum_j M_s(j)\, F_s(j)}{\sum_j M_s(j) + \varepsilon}$$
#
# The sums run over the cells j. $\varepsilon$ is a tiny number that keeps an empty mask from dividing by zero: its
# prototype is 0.
#
# ### Exercise 2.1: the masked average (write, easy, 5 minutes)
#
# Write `my_masked_average(features, mask)` for `features` [C, h, w] and `mask` [h, w] with values from 0 to 1. Return
# the prototype, [C].
#
# <details><summary>Hint 1</summary>
#
# `features * mask` multiplies every channel by the mask: PyTorch fits [h, w] to [C, h, w] by itself.
# </details>
#
# <details><summary>Hint 2</summary>
#
# Sum over the last two axes, `sum(dim=(1, 2))`, and divide by the sum of the mask plus `1e-6`.
# </details>


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
# ## 2.3 Dense comparison: how alike is every query cell to P?
#
# **Idea.** Hold P against every cell of the query. Two vectors are alike if they point the same way; their lengths
# should not count, since length speaks of contrast more than of class.
#
# **Formula.** The cosine of [lesson 1](01_few_shot_segmentation.ipynb) of every query cell i with P gives a
# **similarity map**:
#
# $$\cos(F_q(i), P) = \frac{F_q(i) \cdot P}{\lVert F_q(i) \rVert\, \lVert P \rVert}$$

# %%
lengths = F_q.norm(dim=0) * P.norm()  # [h, w]
similarity = (F_q * P[:, None, None]).sum(dim=0) / lengths.clamp_min(1e-12)  # [C, h, w] -> [h, w]
assert torch.allclose(similarity, cosine_map(F_q[None], P[None])[0], atol=1e-5)
inside = opened.truth_shares >= 0.5  # cells that are at least half object
print(f"mean cosine on the object {similarity[inside].mean():.2f}, elsewhere {similarity[~inside].mean():.2f}")

# %% jupyter={"source_hidden": true} alt=["The support with its mask, the query with the true mask, and the map of cosines with P: bright on the object, and in part on another one."]
figure, axes = plt.subplots(1, 3, figsize=(7.6, 2.7), layout="constrained")
show_image(axes[0], opened.support_images[0], f"support: {opened.class_name}", outline=opened.support_masks[0])
show_image(axes[1], opened.query_image, "query with the true mask", outline=opened.truth)
show_map(axes[2], similarity.numpy(), "cosine with $P$", size=size)
draw_outline(axes[2], opened.truth)
plt.show()

# %% [markdown]
# *What to see:* the map is brightest where the query looks like the support's object. The outline is the true mask.
# Bright cells outside of it are other things that share something with the class; dark cells inside are where the
# object looks different from the support.
#
# ### Exercise 2.2: a careless mask (predict, then run, medium, 10 minutes)
#
# Somebody paints the support's mask one cell too wide all around, somebody else one cell too narrow. *Write down before
# you run:* which of the two harms the similarity map more? By how much does the *best IoU* of its map, the IoU under
# the best of all thresholds (2.4 says more), fall on average over 60 episodes: hardly, by a quarter, by half?
#
# <details><summary>Hint 1</summary>
#
# The objects are small: stars, kites and the like, one or several in a scene. Is the rim of a thin shape smaller or
# larger than its inside?
# </details>
#
# <details><summary>Hint 2</summary>
#
# What does a cell of the rim show, and what else in the query looks like that?
# </details>


# %%
from IPython.display import HTML

from dpnet_lite.course.opened_episode import best_threshold_iou


def best_ious(prototypes, query, truth):
    """Best IoU of each map: prototypes [B, C], query [B, C, h, w], truth bool [B, h, w] -> [B]."""
    return np.array([best_threshold_iou(*pair) for pair in zip(cosine_map(query, prototypes), truth, strict=True)])


batch = toy.bank.batch(list(toy.episodes(count=60)))
with torch.no_grad():
    supports, queries = (toy.head.reduce(x) for x in (batch.support_features[:, 0], batch.query_features))
masks = batch.support_masks[:, 0]  # [60, h, w]
truths = functional.adaptive_avg_pool2d((batch.query_labels == 1).float(), (rows, columns)) >= 0.5
widened = functional.max_pool2d(masks[:, None], 3, stride=1, padding=1)[:, 0]  # the largest of 3 x 3 cells
narrowed = 1 - functional.max_pool2d(1 - masks[:, None], 3, stride=1, padding=1)[:, 0]
careless = {"one too narrow": narrowed, "as it is": masks, "one too wide": widened}
careless_ious = {name: best_ious(masked_average(supports, m), queries, truths) for name, m in careless.items()}
cells = [float(m.sum(dim=(1, 2)).mean()) for m in careless.values()]
rows_of_masks = {"mask": list(careless), "cells": cells, "best IoU": [v.mean() for v in careless_ious.values()]}
made = table(rows_of_masks, "Careless masks: cells that they cover, best IoU of the map; means of 60 episodes")
HTML(f"<details><summary>Your prediction first; then open this</summary>{made._repr_html_()}</details>")

# %% [markdown]
# <details><summary>Answer</summary>
#
# The wide mask does far more harm. Narrow: most of the cells are gone, but those that are left are all of the object;
# a mean of a few clean cells is nearly as good. Wide: the rim has as many cells as the object, and they show
# background or border, of which every query is full. P then stands for *object and background*, and is like both.
# When in doubt, paint inside the line.
# </details>

# %% [markdown]
# How bright is bright enough? A threshold would have to be chosen, and the next query needs another. Two prototypes
# need none: one of the foreground, one of everything else, and every cell goes to the nearer
# ![precedent](../figures/badges/precedent.svg) *PANet*.
#
# ### Exercise 2.3: the nearer of two prototypes (write, medium, 10 minutes)
#
# Write `my_nearest_prototype(query, foreground, background)` for a query [C, h, w] and two prototypes [C]. Return a
# mask [h, w], True where the cosine with `foreground` is the larger one.
#
# <details><summary>Hint 1</summary>
#
# The length of a query cell divides both cosines alike, those of the two prototypes do not: they must be divided by.
# </details>
#
# <details><summary>Hint 2</summary>
#
# `functional.normalize(vector, dim=0)` makes it length 1. Compare the two maps with `>`.
# </details>


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
# this very query, found with the truth. No method may do that. It bounds every threshold on *this map*; a method that
# reads more than the map can do better (2.5). The next cell takes this best IoU over 120 episodes, for a growing gap
# between support and query, for three prototypes:
#
# - P in the features of the frozen backbone, all of them;
# - P in the reduced features, which were trained together with the rest of DPNet;
# - the prototype that the query itself would give, with its *true* mask, in the reduced features.
#
# The distance between the last two is what the *support* does not know about the query. Beside them stand P of three
# shots, the mean of their three prototypes, and the rule of exercise 2.3, which needs no threshold.

# %%
from dpnet_lite.model.prototypes import masks_at

OWN, REDUCED, FROZEN, NEARER = "query's own prototype", "P, reduced features", "P, frozen features", "nearer of two"


def measured(gap: float) -> dict[str, np.ndarray]:
    """IoU of each of 120 episodes under each of the rules; and with three shots."""
    world, found = toy_episodes(FOLD, gap), {}
    for n_shot in (1, 3):
        batch = world.bank.batch(list(world.episodes(n_shot=n_shot, count=120)))
        cells = tuple(batch.query_features.shape[-2:])
        shares, masks = masks_at(batch.query_labels == 1, cells), batch.support_masks
        with torch.no_grad():
            query = world.head.reduce(batch.query_features)
            support = torch.stack([world.head.reduce(shot) for shot in batch.support_features.unbind(dim=1)], dim=1)
        each = masked_average(support, masks)  # [B, K, C]
        if n_shot == 3:
            found["first of three"], found["mean of three"] = (
                best_ious(p, query, shares >= 0.5) for p in (each[:, 0], each.mean(dim=1))
            )
            continue
        found[OWN] = best_ious(masked_average(query, shares), query, shares >= 0.5)
        found[REDUCED] = best_ious(each[:, 0], query, shares >= 0.5)
        frozen = masked_average(batch.support_features[:, 0], masks[:, 0])
        found[FROZEN] = best_ious(frozen, batch.query_features, shares >= 0.5)
        nearer = cosine_map(query, each[:, 0]) > cosine_map(query, masked_average(support[:, 0], 1 - masks[:, 0]))
        both, either = nearer & (shares >= 0.5), nearer | (shares >= 0.5)
        found[NEARER] = (both.sum(dim=(1, 2)) / either.sum(dim=(1, 2)).clamp_min(1)).numpy()
    return found


# %% alt=["Four curves of mean IoU over the gap from 0 to 1. The query's own prototype stays near 85 to 90 %. P in reduced features falls from about 85 to under 60 %, in frozen features it lies at or under that. The nearer of two prototypes is flat, near a third."]
dial = (0.0, 0.25, 0.5, 0.75, 1.0)
results = {gap: measured(gap) for gap in dial}
STYLES = {OWN: ("D--", "#009E73"), REDUCED: ("o-", "#0072B2"), FROZEN: ("s:", "black"), NEARER: ("v-.", "#D55E00")}
figure, axes = plt.subplots(figsize=(5.6, 3.6), layout="constrained")
for name, (style, colour) in STYLES.items():
    axes.plot(dial, [100 * results[gap][name].mean() for gap in dial], style, color=colour, label=name)
axes.set(xlabel="gap", ylabel="mean IoU of the episodes, %", ylim=(0, 100))
axes.legend(frameon=False, fontsize=10, loc="lower left", bbox_to_anchor=(0, 1.0), ncols=2)
plt.show()

# %%
mean = {name: np.array([100 * results[gap][name].mean() for gap in dial]) for name in results[0.0]}
table({"prototype": list(mean), **{f"gap {g}": [v[k] for v in mean.values()] for k, g in enumerate(dial)}},
      "Mean IoU, %, with the best threshold (the nearer of two needs none)", formats="{:.0f}")  # fmt: skip

# %%
trained, behind = mean[REDUCED] - mean[FROZEN], mean[OWN] - mean[REDUCED]
assert (trained > 0).all() and trained.argmax() == 2 and max(trained[[0, -1]]) < trained[2] / 2  # the text says so
assert (np.diff(behind) > 0).all() and mean[NEARER].max() < 0.5 * mean[FROZEN].max()
print("reduced minus frozen:", ", ".join(f"{value:+.1f}" for value in trained), "points")
print("own minus P:         ", ", ".join(f"{value:+.1f}" for value in behind), "points")

# %% [markdown]
# *What to see:* at the left end, where all objects of a class look alike, P is nearly as good as the query's own
# prototype. As the gap grows, P loses much and the query's own prototype little: the object in the query still
# resembles *itself*. This is the opening for a second prototype, made from the query: the pseudo-prototype of
# [notebook 3](03_cycle_comparison.ipynb).
#
# The trained reduction helps most in the middle, at the gap that it was trained with. At both ends it is worth less
# than half as much: where little differs the frozen features do nearly as well, and the widest gap it has not learnt
# to bridge. The cell above prints both distances. (On photographs the reduction does not help: see 2.5.)
#
# The rule of two prototypes stays far below: the background is many different things, and their mean is like none
# of them. So DPNet does not decide by it. It hands the similarity maps to a small network that learns to read them
# ([The method](../docs/method.md#comparison-maps)) ![our choice](../figures/badges/ours.svg).

# %% [markdown]
# **Several shots.** With K support images each gives a prototype $P_k$, and P is their mean
# ![our choice](../figures/badges/ours.svg). Each *shot* has the same say, however large its object:
#
# $$P = \frac{1}{K} \sum_{k=1}^{K} P_k$$
#
# Three lines do it. The cell takes, of sixty episodes at the widest gap, the one whose three shots differ most in what
# their prototypes are worth for the query.


# %%
def of_each_shot(one):
    """Best IoU on the query of the prototype of each shot, [K]."""
    prototypes = masked_average(one.trace.support[0], one.trace.support_masks[0])
    query = one.trace.query.expand(len(prototypes), -1, -1, -1)
    return best_ious(prototypes, query, (one.truth_shares >= 0.5).expand(len(prototypes), -1, -1))


far = toy_episodes(FOLD, gap=1.0)  # objects of a class differ as much as this world allows
several = max(map(far.open, far.episodes(n_shot=3)), key=lambda one: of_each_shot(one).std())
P_k = masked_average(several.trace.support[0], several.trace.support_masks[0])  # [K, C]
assert torch.allclose(P_k.mean(dim=0), several.trace.prototype[0], atol=1e-4)  # what the network itself used

# %% jupyter={"source_hidden": true} alt=["Above, three supports of one class and the query; below, the cosine of each query cell with the prototype of each shot, and with their mean. The titles give the best IoU that a threshold on each map can reach."]
figure, grid = plt.subplots(2, 4, figsize=(7.6, 4.2), layout="constrained")
for shot, axes in enumerate(grid[0, :3]):
    show_image(axes, several.support_images[shot], f"support {shot + 1}", outline=several.support_masks[shot])
show_image(grid[0, 3], several.query_image, f"query: {several.class_name}", outline=several.truth)
names = ("$P_1$", "$P_2$", "$P_3$", "$P$")
for axes, vector, name in zip(grid[1], [*P_k, several.trace.prototype[0]], names, strict=True):
    values = cosine_map(several.trace.query, vector[None])[0]
    best = best_threshold_iou(values, several.truth_shares >= 0.5)
    show_map(axes, values.numpy(), f"{name}: best IoU {best:.2f}", size=size, limits=(0, 1), colour_bar=False)
    draw_outline(axes, several.truth)
plt.show()

# %% [markdown]
# *What to see:* below, each query cell's *likeness* to a prototype, bright where it is like it, with the best IoU that
# any threshold on the map can reach. One shot may happen to look like the query, another
# may not; the mean need not beat the best of them, but nobody knows beforehand which one that is.

# %% [markdown]
# ## 2.5 On photographs
#
# Now 13 objects, each in front of several backgrounds; the head for photographs saw none of them in training. Of sixty
# one-shot episodes the code takes the one whose map is worth most and the one whose map is worth least, by the best
# threshold of 2.4, and says what that threshold gets wrong. The map is that of P in the reduced features.

# %%
photo_episodes = [photographs.open(episode) for episode in photo_list]
maps = [cosine_map(one.trace.query, one.trace.prototype)[0] for one in photo_episodes]  # [h, w] each
objects = [one.truth_shares >= 0.5 for one in photo_episodes]
worth = np.array([best_threshold_iou(*pair) for pair in zip(maps, objects, strict=True)])
lines = {"map": ["best", "worst"], "IoU": [], "threshold": [], "cells": [], "missed": [], "false alarms": []}
for number in (worth.argmax(), worth.argmin()):
    values, truth = maps[number], objects[number]
    cut = max(values.unique(), key=lambda t: float(((values >= t) & truth).sum() / ((values >= t) | truth).sum()))
    counts = (truth, truth & (values < cut), ~truth & (values >= cut))
    entries = (float(worth[number]), float(cut), *(int(x.sum()) for x in counts))
    for column, value in zip(list(lines)[1:], entries, strict=True):
        lines[column].append(value)
print(f"all {len(worth)}: best IoU {worth.mean():.2f} on average; a half or less in {(worth <= 0.5).sum()}")
table(lines, "Under the best threshold: IoU, cells of the object, those missed, false alarms beside it")

# %% jupyter={"source_hidden": true} alt=["The best map of sixty: the object is bright and nothing else is; DPNet's mask fits it. The worst: in the map the object cannot be seen; DPNet's mask covers it roughly."]
from dpnet_lite.experiments.plots import ORANGE, overlay

limits = tuple(np.quantile(torch.stack([maps[worth.argmax()], maps[worth.argmin()]]).numpy(), (0.02, 0.99)))
figure, grid = plt.subplots(2, 4, figsize=(8, 4.3), layout="constrained")
for axes, name, number in zip(grid, ("best map", "worst map"), (worth.argmax(), worth.argmin()), strict=True):
    one = photo_episodes[number]
    show_image(axes[0], one.support_images[0], f"support: {one.class_name}", outline=one.support_masks[0])
    show_image(axes[1], one.query_image, "query", outline=one.truth)
    style = {"size": one.truth.shape[0], "limits": limits, "colour_bar": name == "best map"}
    show_map(axes[2], maps[number].numpy(), name, **style)
    draw_outline(axes[2], one.truth)
    show_image(axes[3], overlay(one.query_image, one.prediction, ORANGE), f"DPNet: {one.iou:.2f}", outline=one.truth)
plt.show()
print(OBJECTS_CREDIT)

# %% [markdown]
# *What to see:* the same colours mean the same cosine in both maps. In the good map the object is bright all over and
# little else is. A map can fail in two ways: parts of the object are dark, since they are not like the mean of the
# support; or other things are bright, since they share what the mean has kept (*false alarms*). The table says how much
# of each. Compare the two thresholds as well: what counts as bright in one query need not in another.
#
# On the right is the trained network's answer, with its IoU. It finds the object, roughly: it reads other maps beside
# this one, and adds a score made from the frozen features (how much nearer a cell is to the object's than to the
# background's prototype, in the frozen features). Do not compare its IoU with the best one of the map: that counts
# cells, and its threshold knows the truth.
#
# **Reduced or frozen?** In the drawn world the reduction made the better map (2.4). The next cell asks the same here,
# for P and for the prototype that the query's true mask would give.

# %%
in_features = {
    "reduced": [(one.trace.support[0, 0], one.trace.query[0]) for one in photo_episodes],
    "frozen": [(one.batch.support_features[0, 0], one.batch.query_features[0]) for one in photo_episodes],
}
photo_worth = {}  # best IoU of P and of the query's own prototype in each episode, [60, 2]
for name, pairs in in_features.items():
    found = []
    for one, (support, query), truth in zip(photo_episodes, pairs, objects, strict=True):
        of_support = masked_average(support, one.trace.support_masks[0, 0])  # [D]
        both = torch.stack([of_support, masked_average(query, one.truth_shares)])
        found.append(best_ious(both, query.expand(2, -1, -1, -1), truth.expand(2, -1, -1)))
    photo_worth[name] = np.array(found)
reduced, frozen_worth = photo_worth["reduced"], photo_worth["frozen"]
config = photographs.head.config  # the text says of it what the next line asserts
assert np.allclose(reduced[:, 0], worth) and config.selection_features == "backbone" and config.score_shortcut
assert (frozen_worth.mean(axis=0) > reduced.mean(axis=0) + 0.1).all()  # the text says so
assert all(values[worth.argmin(), 0] < 0.2 for values in photo_worth.values())  # exercise 2.4 says so
print(
    f"P makes the better map in the frozen features in {(frozen_worth > reduced)[:, 0].sum()} of {len(worth)} episodes"
)
rows_of_features = {"features": list(photo_worth), "P": [v[:, 0].mean() for v in photo_worth.values()]}
rows_of_features["own"] = [v[:, 1].mean() for v in photo_worth.values()]
rows_of_features["own < P"] = [int((v[:, 1] < v[:, 0]).sum()) for v in photo_worth.values()]
table(
    rows_of_features, "Photographs: mean best IoU of P and of the query's own prototype; episodes where own does worse"
)

# %% [markdown]
# On photographs it is the other way round: the frozen features give the better map, for P and for the query's own
# prototype. So this head chooses its cells (lesson 3), and adds a score, in the frozen features. And in some episodes
# even the query's own mean does worse than P: a mean keeps what is common to the object's parts, which need not be what
# sets it apart from the ground around it.
#
# ### Exercise 2.4: why is the worst map the worst? (explain, medium, 10 minutes)
#
# Look at the second row of the picture (its map is poor in the frozen features, too: the cell above asserts it). Name
# two differences between the support and the query that one mean vector cannot bridge, and say for each which of the
# two ways of failing it leads to.
#
# <details><summary>Hint 1</summary>
#
# How large is the object in each of the two images, in cells? What does one cell see of it in either?
# </details>
#
# <details><summary>Hint 2</summary>
#
# Which of the object's features are left after averaging over all of its parts, and what in the query's surroundings
# has those, too?
# </details>

# %% [markdown]
# <details><summary>Answer</summary>
#
# *Size:* in the support the dog fills a good part of the image, and a cell sees a piece of fur; in the query it is
# small, and a cell sees half a head with the ground behind it. Such cells are not like the mean: they stay dark
# (missed). *Texture, probably:* what the mean of the fur keeps is a pale, fine-grained surface; rocks and ground are
# that as well, and become bright (false alarms). A prototype from the query's own pixels would know how this small
# dog looks here, and so how it differs from the rocks: that is the idea of lesson 3.
# </details>

# %% [markdown]
# ## 2.6 Try it: hold anything against both images
#
# Below a vector of your choice is compared with every cell of the support and of the query: P, the features of *one
# cell* that you click in the support, or the mean that the query's true mask would give. In the reduced or in the
# frozen features, on either world.
#
# *Three things to find out*, in the reduced features of the first episode of the drawn world. Click the middle of the
# object, its rim, and the background: which of the three lights up one thing only? Is there a single cell that does
# better than P? And is there one in the frozen features, too? Without a kernel you see the first picture; the answer is
# below it.

# %% jupyter={"source_hidden": true}
from functools import lru_cache

from dpnet_lite.course.explorers.panels import cell_centre, enlarge, new_figure
from dpnet_lite.course.explorers.shell import Explorer, dropdown, slider
from dpnet_lite.experiments.plots import ORANGE

WORLDS = {"drawn world": (toy, toy.episodes()), "photographs": (photographs, photo_list)}
MEAN, CELL, OWN_MEAN = "P, the masked average", "one cell of the support", "the query's own mean"


@lru_cache(maxsize=2)
def shown_episode(world, episode):
    """An opened episode of a world's list; the last two are kept."""
    source, episodes = WORLDS[world]
    return source.open(episodes[episode])


def held_against(one, features, vector, row, column):
    """Features of support and query [D, h, w], and the vector [D] that both are compared with."""
    frozen = features == "frozen"
    support = one.batch.support_features[0, 0] if frozen else one.trace.support[0, 0]
    query = one.batch.query_features[0] if frozen else one.trace.query[0]
    if vector == CELL:
        return support, query, support[:, row, column]
    mean_of = (support, one.trace.support_masks[0, 0]) if vector == MEAN else (query, one.truth_shares)
    return support, query, masked_average(*mean_of)


def worth_of(world, episode, features, vector, row, column):
    """What the caption says: the best IoU of this map beside that of P."""
    one, found = shown_episode(world, episode), []
    for kind in (vector, MEAN):
        _, query, held = held_against(one, features, kind, row, column)
        found.append(best_threshold_iou(cosine_map(query[None], held[None])[0], one.truth_shares >= 0.5))
    return f"best IoU of this map {found[0]:.2f}; of the map of P {found[1]:.2f}"


# %% jupyter={"source_hidden": true}
def both_maps(world, episode, features, vector, row, column):
    """The picture: support, its map, query, its map; a cross on the cell that was clicked."""
    one = shown_episode(world, episode)
    support, query, held = held_against(one, features, vector, row, column)
    maps = [cosine_map(of[None], held[None])[0].numpy() for of in (support, query)]
    limits = tuple(
        np.quantile(np.stack(maps), (0.02, 0.99))
    )  # of both maps; a few extreme cells would flatten the rest
    figure, grid = new_figure(4, width=2.5, height=2.6)
    size, outlines = one.query_image.shape[0], (one.support_masks[0], one.truth)
    show_image(grid[0, 0], one.support_images[0], f"support: {one.class_name}", outline=one.support_masks[0])
    show_image(grid[0, 2], one.query_image, "query", outline=one.truth)
    for number, (values, outline) in enumerate(zip(maps, outlines, strict=True)):
        axes, title = grid[0, 2 * number + 1], f"cosine, {('support', 'query')[number]}"
        show_map(axes, values, title, size=size, limits=limits, colour_bar=number == 1)
        draw_outline(axes, outline)
    if vector == CELL:
        for axes in grid[0, :2]:
            place = cell_centre((row, column), support.shape[1], size)
            axes.plot(*place, "X", color=ORANGE, markeredgecolor="white", markersize=11)
    enlarge(figure)
    return figure


# %% jupyter={"source_hidden": true}
def clicked_cell(panel, x, y):
    """A click on the support, or on its map, chooses that cell."""
    one = shown_episode(explorer.state["world"], explorer.state["episode"])
    step = one.query_image.shape[0] / one.batch.cells[0]
    return {"vector": CELL, "row": int((y + 0.5) / step), "column": int((x + 0.5) / step)} if panel < 2 else {}


def follow_world(controls):
    """The two worlds differ in their number of cells; photographs need a credit."""
    world = controls["world"].value
    for name, n_cells in zip(
        ("row", "column"), shown_episode(world, controls["episode"].value).batch.cells, strict=True
    ):
        controls[name].max = n_cells - 1
    return f"<small>{OBJECTS_CREDIT}</small>" if world == "photographs" else ""


# %%
controls = {
    "world": dropdown("world", list(WORLDS)),
    "episode": slider("episode", 0, 59, 0),
    "features": dropdown("features", ("reduced", "frozen")),
    "vector": dropdown("held against both", (MEAN, CELL, OWN_MEAN)),
    "row": slider("row", 0, 39, 10),
    "column": slider("column", 0, 39, 12),  # `follow_world` sets their ends
}
what = "support and query, and the cosine of each of their cells with the vector that is held against them"
explorer = Explorer(both_maps, controls, alt=what, click=clicked_cell, follow=follow_world, tell=worth_of)
explorer

# %% jupyter={"source_hidden": true}
mask_cells = opened.trace.support_masks[0, 0]
PLACES = {"middle (18, 17)": (18, 17), "rim (21, 15)": (21, 15), "background (3, 3)": (3, 3)}
assert [float(mask_cells[place]) for place in PLACES.values()] == [1.0, 0.5, 0.0]


def best_of(features, vector, place=(0, 0)):
    """Best IoU on the query of the first episode of the drawn world."""
    _, query, held = held_against(opened, features, vector, *place)
    return best_threshold_iou(cosine_map(query[None], held[None])[0], opened.truth_shares >= 0.5)


answers = {"held against the query": ["P", *PLACES]}
on_object = [tuple(place) for place in (mask_cells >= 0.5).nonzero().tolist()]
for features in ("reduced", "frozen"):
    answers[features] = [best_of(features, MEAN), *(best_of(features, CELL, place) for place in PLACES.values())]
better = {f: sum(best_of(f, CELL, place) > answers[f][0] for place in on_object) for f in ("reduced", "frozen")}
assert (
    answers["reduced"][1] == 1 > answers["reduced"][0] > 0.9 and max(answers["reduced"][2:]) < 0.2
)  # the answer says so
assert better["reduced"] == 7 and better["frozen"] == 0 and len(on_object) == 24
made = table(answers, "First episode of the drawn world: best IoU of the map")
HTML(f"<details><summary>Try first; then open the numbers</summary>{made._repr_html_()}</details>")

# %% [markdown]
# <details><summary>Answer</summary>
#
# The *middle* lights up one thing only, the kite: some threshold on its map gives the true cells exactly. The *rim* is
# half background, and is like the borders of other things as well; the *background* lights up the ground. In the
# reduced features 7 of the object's 24 cells do better than P. But which ones, only the truth can say, and a rim
# cell is a bad choice: P is the safe one. In the frozen features no cell does better than P, which does badly itself.
# </details>

# %% [markdown]
# ## Recap
#
# - A backbone turns an image into a grid of features. What it was trained on decides what is novel.
# - The support prototype P is a masked average: one vector for a class. With several shots, their prototypes are
#   averaged.
# - Comparing it densely with the query, by cosine, gives a similarity map; with a second prototype for the
#   background it gives a mask without a threshold.
# - In the drawn world the trained reduction makes the better map, on photographs the frozen features do.
# - P knows nothing of how the class looks in the query. The larger the gap, the more that costs; more shots give some
#   of it back.

# %% jupyter={"source_hidden": true}
from dpnet_lite.experiments.intervals import bootstrap_weights, percent, percentile_interval


def shift(world, differences, n_shot=1):
    """The 95 % interval of a mean difference, drawing the episodes of each class anew, and both in words (points)."""
    episodes = world.episodes(n_shot=n_shot, count=len(differences))
    weights = bootstrap_weights([episode.class_index for episode in episodes], 2000)
    interval = percentile_interval(weights @ differences / weights.sum(axis=1))
    return interval, percent(differences.mean(), interval, signed=True)


ends = [(toy_episodes(FOLD, gap), results[gap]) for gap in (0.0, 1.0)]
near, wide = (shift(world, found[OWN] - found[REDUCED]) for world, found in ends)
more_near, more_wide = (shift(world, found["mean of three"] - found["first of three"], 3) for world, found in ends)
assert near[0].low > 0 and wide[0].low > near[0].high  # it costs, and more at a wide gap
assert more_wide[0].low > more_near[0].high  # shots give more back where the gap is wide
narrow_mask, wide_mask = (shift(toy, careless_ious[n] - careless_ious["as it is"]) for n in list(careless)[::2])
assert wide_mask[0].high < -0.3 < -0.1 < narrow_mask[0].low
on_photos = shift(photographs, frozen_worth[:, 0] - reduced[:, 0])
assert on_photos[0].low > 0 and trained.min() > 0  # frozen is better there, reduced in the drawn world
claim(
    f"With the best threshold for each query, the query's own prototype minus P is {near[1]} points of IoU where all "
    f"objects of a class look alike (gap 0), and {wide[1]} where they differ most (gap 1). The mean of three shots minus "
    f"the first of them is {more_near[1]} at gap 0, {more_wide[1]} at gap 1. A support mask one cell too wide changes "
    f"the best IoU by {wide_mask[1]}, one cell too narrow by {narrow_mask[1]} (gap 0.5). On photographs P in the "
    f"frozen features minus P in the reduced ones is {on_photos[1]}. <i>Drawn world: fold 0, one head, 120 and 60 "
    "episodes; photographs: 60; brackets: 95 % intervals over episodes, taken as independent.</i>"
)

# %% [markdown]
# **Further reading.** Snell et al., *Prototypical networks for few-shot learning*, NeurIPS 2017; Wang et al.,
# *PANet*, ICCV 2019; [The method](../docs/method.md#prototype).
#
# Previous: [1 The task](01_few_shot_segmentation.ipynb). Next: [3 Cycle comparison](03_cycle_comparison.ipynb)
#
# ## Five questions

# %%
quiz("02")
