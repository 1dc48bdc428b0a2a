# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 5. Multi-scale fusion and the decoder: from comparison to mask
#
# [Start here](00_start_here.ipynb) | [1 The task](01_few_shot_segmentation.ipynb) |
# [2 The support prototype](02_support_prototype.ipynb) | [3 Cycle comparison](03_cycle_comparison.ipynb) |
# [4 Prototype interaction](04_prototype_interaction.ipynb) | **5 Multi-scale fusion** |
# [6 Training](06_training.ipynb)
#
# **What you will learn.** How both prototypes are compared with the query, how far the network looks around a cell
# while it compares, how these scales are merged, how the mask comes out, and how to find out what a scale is good for.
#
# **What you need.** [Notebook 4](04_prototype_interaction.ipynb): $P'$, $P_q'$ and $F_q'$; what a convolution is.
#
# **Time.** About 25 minutes with the two exercises. The cells run in about a quarter of a minute.

# %%
# %matplotlib inline
import matplotlib.pyplot as plt
import numpy as np
import torch
import torch.nn.functional as functional

from dpnet_lite.course.explorers.episode import toy_episodes
from dpnet_lite.course.explorers.scales import level_titles, scales_figure, without_scale

FOLD = 0
toy = toy_episodes(FOLD, gap=0.5)
episodes = toy.episodes(count=60)
opened = toy.open(episodes[0])
fusion, trace = toy.head.fusion, opened.trace
names = list(fusion.seen_by())
print(f"class: {opened.class_name}; scales, finest first: {', '.join(level_titles(toy.head, opened))}")

# %% [markdown]
# ## 5.1 What is known, and what we chose
#
# Both prototypes are fused with the query feature at several scales, to capture context in the dense comparison; the
# result is $F_q^{final}$, which goes to a separate decoder *(stated)*. How, is not public. There are two ways to see at
# several scales: make the *grid* coarser, a **pyramid** (PFENet has one), or look *further* on the same grid. The
# second is what the shipped network does. A **dilated** convolution with dilation d is a 3 x 3 convolution whose nine
# cells lie d apart: it looks 2d + 1 cells wide and costs no more than d = 1. Several of them side by side, and a mean
# over the whole query, are known as *atrous spatial pyramid pooling*, **ASPP** *(precedent: DeepLab; CANet has it
# behind its dense comparison)*. The formulas are *(our choice)*:
#
# $$U = \mathrm{Conv}_{1\times1}(F_q') + \mathrm{Linear}[P';\,P_q'] + \mathrm{Conv}_{1\times1}(Y), \qquad
# X = U + \mathrm{Conv}_{3\times3}(\mathrm{ReLU}(\mathrm{Conv}_{3\times3}(\mathrm{ReLU}(U))))$$
#
# $$Z_d = \mathrm{Conv}_{3\times3}^{\,d}(X),\; d = 1, 3, 6, \qquad
# Z_g = \mathrm{Conv}_{1\times1}(\mathrm{mean}(X)), \qquad
# F_q^{final} = \mathrm{Conv}_{1\times1}\big(X + \mathrm{Conv}_{1\times1}(\mathrm{ReLU}[Z_1;\,Z_3;\,Z_6;\,Z_g])\big)$$
#
# U compares cell by cell, X mixes neighbours, and every Z looks at X with its own width; $Z_g$ is one vector for the
# whole query. With the settings `fusion="pyramid"` the network has the pyramid of exercise 5.1 instead
# ([details](../docs/method.md#multi-scale-fusion-module-msf)). Why it is not the default is
# a matter of measurement ([trials](../docs/results.md#trials-that-led-to-the-defaults)).
#
# Y are the **comparison maps**, made from cosines *(our choice)*. A convolution would have to *learn* what a comparison
# is, from base classes only; a cosine is one, for any class. There are three sets of features: the reduced ones after
# the interaction, and two stages of the frozen backbone, its *middle* and its *deep* one. In each, both prototypes are
# compared with every cell of the query, and each cosine gives two maps: 10 times (the cosine less its mean over the
# query), and 10 times (the cosine less the cosine with the mean of the support's *background*). Cosines of one image
# lie close together; the factor 10 spreads them, so the maps go beyond 1
# ([details](../docs/method.md#comparison-maps)). The background's mean is a poor judge by itself (lesson 2), but one
# hint among others.

# %%
print("the comparison maps Y:")
for name, values in zip(trace.map_names, trace.maps[0], strict=True):
    inside, outside = values[opened.truth_shares >= 0.5].mean(), values[opened.truth_shares < 0.5].mean()
    print(f"  {name:26} on the object {inside:+.2f}, elsewhere {outside:+.2f}")

# %% [markdown]
# ### Exercise 5.1: the other way, a pyramid (easy, 10 minutes)
#
# Write `my_pyramid(features, scales)` for features [C, h, w] and scales such as (1, 0.5, 0.25). Return a list with one
# tensor per scale s, [C, round(s h), round(s w)]: each of its cells is the *mean* of the block of cells that it covers.


# %% jupyter={"source_hidden": true}
def my_pyramid(features: torch.Tensor, scales: tuple[float, ...]) -> list[torch.Tensor]:
    """The features at each scale, every cell the mean of its block."""
    # BEGIN SOLUTION
    height, width = features.shape[-2:]
    sizes = [(round(scale * height), round(scale * width)) for scale in scales]
    return [functional.adaptive_avg_pool2d(features[None], size)[0] for size in sizes]
    # END SOLUTION


# %% tags=["check"]
from dpnet_lite.course.exercises.lesson_05 import check_pyramid

check_pyramid(my_pyramid)

# %% [markdown]
# ## 5.2 By hand, and as the package has it
#
# The formulas with the shipped network's weights, from the comparison to the merge. The assertions compare with what
# the network itself computed.

# %%
after, level, atrous = trace.interaction, fusion.levels[0], fusion.atrous
prototypes = torch.cat([after.prototype, after.pseudo_prototype], dim=1)  # [P'; P_q'], [1, 2C]
with torch.no_grad():
    U = level.pixel(after.query) + level.prototypes(prototypes)[:, :, None, None] + level.maps(trace.maps)
    X = U + level.residual.second(torch.relu(level.residual.first(torch.relu(U))))
    Z = []
    for convolution, d in zip(atrous.branches, atrous.dilations, strict=True):
        Z.append(functional.conv2d(X, convolution.weight, convolution.bias, padding=d, dilation=d))
    Z.append(atrous.globally(X.mean(dim=(2, 3), keepdim=True)))  # one vector, [1, C, 1, 1]
    wide = torch.cat([*Z[:-1], Z[-1].expand_as(X)], dim=1)  # [1, 4C, h, w]
    final = fusion.merge(X + atrous.merge(torch.relu(wide)))

assert all(torch.allclose(mine, theirs, atol=1e-3) for mine, theirs in zip(Z, trace.levels, strict=True))
assert torch.allclose(final, trace.fused, atol=1e-3)
print(f"F_q^final: {tuple(final.shape[1:])}")

# %% [markdown]
# ## 5.3 One scale at a time

# %%
scales_figure(toy, opened, level=0)

# %%
scales_figure(toy, opened, level=2)

# %% [markdown]
# *What to see:* above, the maps of $P'$ and $P_q'$; purple is above the query's mean, orange below. Below, the length
# of each cell's vector in $Z$ and in $F_q^{final}$. It differs between object and background, but length alone does not
# say what the decoder does with it. Green paint and outline are the truth. Then the network's answer, and its answer
# when this scale is *flattened*: it says the same everywhere, its own mean over the query. It can no longer tell
# *where* anything is.

# %% [markdown]
# ## 5.4 Which scale carries small and large objects?
#
# Flatten one scale after the other, over many episodes, and look at the loss of IoU separately by size: the share of
# the query that the class covers, all its objects together. The global mean says the same everywhere as it is; it is
# set to 0 instead. The network was not trained without that scale, so this asks what the *trained* network relies on,
# not what a network without the scale could learn.

# %%
all_opened = [toy.open(episode) for episode in episodes]
area = np.array([v.truth.mean() for v in all_opened])
full = np.array([v.iou for v in all_opened])
losses, marked = [], []  # of IoU; share of the query that the network calls foreground
for number in range(len(names)):
    with without_scale(toy.head, number):
        without = [toy.open(episode) for episode in episodes]
    losses.append(full - np.array([v.iou for v in without]))
    marked.append(np.array([v.prediction.mean() for v in without]))

thirds = np.quantile(area, [1 / 3, 2 / 3])
groups = {"small": area < thirds[0], "medium": (area >= thirds[0]) & (area < thirds[1]), "large": area >= thirds[1]}
figure, axes = plt.subplots(figsize=(7, 3.6), layout="constrained")
for offset, (name, chosen), colour in zip(
    (-0.25, 0, 0.25), groups.items(), ("#E69F00", "#56B4E9", "#0072B2"), strict=True
):
    heights = [100 * loss[chosen].mean() for loss in losses]
    errors = [100 * loss[chosen].std(ddof=1) / chosen.sum() ** 0.5 for loss in losses]
    label = f"{name}: {100 * area[chosen].min():.0f} to {100 * area[chosen].max():.0f} % of the image"
    axes.bar(np.arange(len(names)) + offset, heights, 0.23, yerr=errors, color=colour, label=label, capsize=3)
axes.axhline(0, color="black", linewidth=0.8)
axes.set_xticks(range(len(names)), names)
axes.set(xlabel="scale that is flattened", ylabel="loss of IoU, points")
axes.legend(frameon=False, title="objects")
plt.show()
print(f"{'':21}mean IoU of {''.join(f'{name:>8}' for name in groups)}   marked, against the truth of the same")
rows = {"with all": (full, np.array([v.prediction.mean() for v in all_opened]))}
rows |= {f"without {name}": (full - loss, share) for name, loss, share in zip(names, losses, marked, strict=True)}
for name, (iou, share) in rows.items():
    scores = "".join(f"{100 * iou[chosen].mean():8.1f}" for chosen in groups.values())
    shares = "".join(f"{share[chosen].mean() / area[chosen].mean():8.2f}" for chosen in groups.values())
    print(f"{name:20}{100 * iou.mean():9.1f}    {scores}   {shares}")

# %% [markdown]
# *What to see:* a bar is the mean loss over a third of the episodes, the whisker is one standard error; below zero the
# answer got *better*. The right half of the table is the area that the network marks, over the true area. With all
# scales it marks too much of small objects and too little of large ones. Without the global mean it marks far more,
# whatever the size: small objects lose by that, and large ones, of which it had marked too little, gain. So the global
# mean, which knows no place, takes part in how much of the query is called foreground. (Set to 0, it also loses what it
# says in every query alike; this does not tell how much it goes by the query.) Dilation 1 does some of the same.
# Dilation 3 adds a little to objects of every size, and most to large ones. Where dilation 6
# sees something is hardly used. Where a
# bar's whisker reaches zero, nothing can be said with so few episodes.

# %% [markdown]
# ## 5.5 The decoder, and the mask
#
# A small stack of convolutions turns $F_q^{final}$ into two **logits** per cell, one for background and one for
# foreground; the larger one wins *(that there is a separate decoder is stated, its layers are our choice)*. The cells
# are larger than pixels, so something has to be resized. It is the logits that are resized, bilinearly, never the
# true mask: a mask that is shrunk loses small objects before they are scored *(our choice)*.
#
# ### Exercise 5.2: from logits to a mask (easy, 5 minutes)
#
# Write `my_mask(logits, size)` for logits [2, h, w] (background first) and a size (H, W). Return the mask [H, W] with
# 1 for foreground. Do not align corners.


# %% jupyter={"source_hidden": true}
def my_mask(logits: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Resize the logits, then let the larger one decide."""
    # BEGIN SOLUTION
    resized = functional.interpolate(logits[None], size, mode="bilinear", align_corners=False)[0]
    return resized.argmax(dim=0)
    # END SOLUTION


# %% tags=["check"]
from dpnet_lite.course.exercises.lesson_05 import check_mask

check_mask(my_mask)

# %% [markdown]
# Does the order matter? The next cell decides first and resizes the decision, and compares both masks with the truth.

# %%
from dpnet_lite.scoring import predicted_mask

early, late = [], []
for v in all_opened:
    with torch.no_grad():
        logits = toy.head.decoder(v.trace.fused)[0]  # [2, h, w]
    truth = torch.from_numpy(v.truth)
    size = (truth.shape[0], truth.shape[1])
    blocks = functional.interpolate(logits.argmax(dim=0)[None, None].float(), size)[0, 0] == 1
    smooth = predicted_mask(logits, size) == 1
    for found, masks in ((blocks, early), (smooth, late)):
        masks.append(float((found & truth).sum() / (found | truth).sum().clamp_min(1)))
assert np.allclose(late, full)  # the second is what the network does
print(f"decide, then resize: mean IoU {100 * np.mean(early):.1f} %; resize, then decide: {100 * np.mean(late):.1f} %")

# %% [markdown]
# ## 5.6 Turn it yourself
#
# With a running kernel: choose an episode and a scale, and compare the two answers below. Look for an episode in which
# the answer without the global mean is worse than any other.

# %%
from dpnet_lite.course.explorers.apps import scale_explorer

scale_explorer()

# %% [markdown]
# ## Recap
#
# - The query feature, both prototypes and the comparison maps are mixed cell by cell; dilated convolutions and a global
#   mean then look around each cell at several scales *(several scales are stated, the rest is our choice)*.
# - Flattening a scale shows what the trained network relies on it for.
# - Resize the logits, not the predicted mask and never the true one.
#
# **Further reading.** Tian et al., *Prior guided feature enrichment network for few-shot segmentation*, TPAMI 2020
# (PFENet); Chen et al., *Rethinking atrous convolution for semantic image segmentation*, 2017 (ASPP with a global
# mean); Zhang et al., *CANet*, CVPR 2019;
# [The method](../docs/method.md#multi-scale-fusion-module-msf).
#
# Previous: [4 Prototype interaction](04_prototype_interaction.ipynb).
# Next: [6 Training](06_training.ipynb)
