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
# [Start here](00_start_here.ipynb) | [3 Cycle comparison](03_cycle_comparison.ipynb) |
# [4 Prototype interaction](04_prototype_interaction.ipynb) | **5 Multi-scale fusion** |
# [5b Build it yourself](05b_build_it_yourself.ipynb) | [6 Training](06_training.ipynb)
#
# ![The network from images to mask. Lit: the dense comparison, which gives the maps Y, multi-scale fusion and the
# decoder; the rest is faded](../figures/network_5.svg)
#
# **What you will learn.** How both prototypes are compared with the query, how far the network looks around a cell
# while it compares, how these scales are merged, how the mask comes out, and how to find out what a scale is good for.
#
# **What you need.** [Notebook 4](04_prototype_interaction.ipynb): $P'$, $P_q'$ and $F_q'$; what a convolution is.
#
# **Time.** About 55 minutes: 30 to read, 25 for the exercises. The cells run in about half a minute.

# %%
# %matplotlib inline
import matplotlib.pyplot as plt
import numpy as np
import torch
import torch.nn.functional as functional
from scipy.stats import ttest_1samp

from dpnet_lite.course.explorers.episode import toy_episodes
from dpnet_lite.course.explorers.panels import draw_outline, enlarge, new_figure, show_image, show_map
from dpnet_lite.course.explorers.scales import without_scale
from dpnet_lite.course.page import claim, table
from dpnet_lite.experiments.plots import BLUE, GREEN, ORANGE, overlay

plt.rcParams.update({"font.size": 13})
toy = toy_episodes(0, gap=0.5)
episodes = toy.episodes(count=60)
opened = toy.open(episodes[0])  # what the network made of one episode; .trace holds all that came about on the way
trace, after = opened.trace, opened.trace.interaction
fusion = toy.head.fusion
names = list(fusion.seen_by())
print(f"class: {opened.class_name}; scales: {', '.join(names)}")

# %% [markdown]
# ## 5.1 The idea
#
# How would you find a class by hand, given its two prototypes? For every cell of the query: *compare* it with both.
# Then *look around*: a cell that compares badly but lies in the middle of good ones belongs to the object; one good cell
# alone in the background does not. How far to look depends on the object's size, which nobody knows beforehand. So look
# near and far at once, and let training decide what to make of it. Then *decide*.
#
# That is the rest of the network: comparison maps (5.2), mixing (5.3), several scales (5.4), the merge (5.5), the
# decoder (5.7).
#
# ![stated](../figures/badges/stated.svg) Both prototypes are fused with the query feature at several scales, to capture
# context in the dense comparison; the result is $F_q^{final}$, which goes to a separate decoder.
# ![our choice](../figures/badges/ours.svg) How this is done is not public; the formulas below are ours.

# %% [markdown]
# ## 5.2 Compare
#
# A convolution would have to *learn* what a comparison is, from base classes only; a cosine is one, for any class. Each
# prototype p gives two **comparison maps** of the query. The first asks: more like p than the query's average cell?
#
# $$Y_1 = 10\,\big(\cos(F_q, p) - \mathrm{mean}\,\cos(F_q, p)\big)$$
#
# The second asks: more like p than like b, the mean of the support's *background*?
#
# $$Y_2 = 10\,\big(\cos(F_q, p) - \cos(F_q, b)\big)$$
#
# Cosines of one image lie close together; the factor 10 spreads them. The background's mean is a poor judge by itself
# (lesson 2), but one hint among others.

# %% [markdown]
# ### Exercise 5.1: two comparison maps (write, medium, 10 minutes)
#
# Write `my_maps(query, prototype, background)` for a feature map [C, h, w] and two vectors [C]. Return both maps as one
# tensor [2, h, w].
#
# <details><summary>Hint 1</summary><code>functional.cosine_similarity(query, prototype[:, None, None], dim=0)</code> is
# the cosine of every cell, [h, w].</details>
#
# <details><summary>Hint 2</summary><code>torch.stack([first, second])</code> puts two maps into one tensor; the mean of
# the first runs over all cells.</details>


# %% jupyter={"source_hidden": true}
def my_maps(query: torch.Tensor, prototype: torch.Tensor, background: torch.Tensor) -> torch.Tensor:
    """The cosine minus its mean, and minus the background's cosine, times 10."""
    # BEGIN SOLUTION
    p, b = (functional.cosine_similarity(query, vector[:, None, None], dim=0) for vector in (prototype, background))
    return 10 * torch.stack([p - p.mean(), p - b])
    # END SOLUTION


# %% tags=["check"]
from dpnet_lite.course.exercises.lesson_05 import check_maps

check_maps(my_maps)

# %% [markdown]
# The network does this with three sets of features: the reduced ones after the interaction, and two stages of the frozen
# backbone, its *middle* and its *deep* one. Three sets, two prototypes, two maps each: twelve maps Y
# ([details](../docs/method.md#comparison-maps)).

# %% alt=["Support and query, and twelve comparison maps of the query, in three rows: reduced, middle and deep features. In most of them the true object is dark purple; other objects are lighter purple, above all in the middle row; the background is orange"] jupyter={"source_hidden": true}
ROWS = {"reduced": "P'", "middle": "middle P", "deep": "deep P"}
figure, grid = new_figure(5, 3, width=1.6, height=1.75)
show_image(grid[0, 0], opened.support_images[0], "support", outline=opened.support_masks[0])
show_image(grid[1, 0], opened.query_image, "query", outline=opened.truth)
grid[2, 0].set_axis_off()
for line, (row, name) in zip(grid, ROWS.items(), strict=True):
    second = name.replace("P'", "P_q'") if "'" in name else name + "_q"
    for axes, wanted in zip(line[1:], (name, second, f"{name} - background", f"{second} - background"), strict=True):
        values = trace.maps[0][trace.map_names.index(wanted)].numpy()
        symbol = wanted.replace("middle ", "").replace("deep ", "").replace("background", "b")
        show_map(
            axes, values, f"{row}: ${symbol}$", size=len(opened.truth), signed=True, limits=(-6, 6), colour_bar=False
        )
        draw_outline(axes, opened.truth)
enlarge(figure)
figure

# %% [markdown]
# *What to see:* purple is above 0, "more like the prototype"; orange below; the colours run from -6 to 6; the outline is
# the truth. No map is a mask. Nearly all are lit on the other objects too, but not equally: that is why the network gets
# all twelve.

# %%
inside, outside = opened.truth_shares >= 0.5, opened.truth_shares < 0.5  # [h, w] each
rows = {
    "map": [name.replace("P'", "reduced P").replace("P_q'", "reduced P_q") for name in trace.map_names],
    "on the object": [values[inside].mean().item() for values in trace.maps[0]],
    "elsewhere": [values[outside].mean().item() for values in trace.maps[0]],
}
table(rows, "Means of the twelve comparison maps", formats="{:+.2f}")

# %% [markdown]
# ## 5.3 Mix, cell by cell and with the neighbours
#
# The maps are not all that goes in. The query's features and both prototypes themselves come with them, each through a
# linear layer of its own, and are added up in every cell:
#
# $$U = \mathrm{Conv}_{1\times1}(F_q') + \mathrm{Linear}[P';\,P_q'] + \mathrm{Conv}_{1\times1}(Y)$$

# %%
level = fusion.levels[0]  # where the shipped weights of these three layers are
prototypes = torch.cat([after.prototype, after.pseudo_prototype], dim=1)  # [P'; P_q'], [1, 2C]
with torch.no_grad():
    U = level.pixel(after.query) + level.prototypes(prototypes)[:, :, None, None] + level.maps(trace.maps)

# %% [markdown]
# Then two ordinary 3 x 3 convolutions mix neighbours; what they find is added to U, so that they need to learn only what
# is new (a *residual* connection):
#
# $$X = U + \mathrm{Conv}_{3\times3}(\mathrm{ReLU}(\mathrm{Conv}_{3\times3}(\mathrm{ReLU}(U))))$$

# %%
with torch.no_grad():
    X = U + level.residual.second(torch.relu(level.residual.first(torch.relu(U))))
print(f"U and X: {tuple(X.shape[1:])}, C channels in each of the query's cells")

# %% [markdown]
# ## 5.4 Look further: several scales
#
# There are two ways to see at several scales. Make the *grid* coarser: a **pyramid**; or look *further* on the same
# grid. The shipped network does the second. A **dilated** convolution with dilation d is a 3 x 3 convolution whose nine
# cells lie d apart. It looks 2d + 1 cells wide and costs no more than d = 1.

# %% alt=["Three grids of 24 by 24 cells with the nine cells that a dilated 3 by 3 convolution reads around one cell: next to each other for dilation 1, three apart for dilation 3, six apart for dilation 6, where for this cell near the corner five of the nine lie outside the grid and are drawn as crosses"] jupyter={"source_hidden": true}
figure, grid = plt.subplots(1, 3, figsize=(9, 3.5), layout="constrained")
for axes, d in zip(grid, (1, 3, 6), strict=True):
    for centre, colour in (((14, 14), BLUE), ((3, 3), ORANGE)):
        taps = np.array([(centre[0] + d * i, centre[1] + d * j) for i in (-1, 0, 1) for j in (-1, 0, 1)])
        inside_grid = (taps >= 0).all(axis=1)
        axes.plot(*taps[inside_grid].T, "s", color=colour, markersize=6)
        axes.plot(*taps[~inside_grid].T, "x", color=colour, markersize=7, markeredgewidth=2)
    axes.plot([-0.5, 23.5, 23.5, -0.5, -0.5], [-0.5, -0.5, 23.5, 23.5, -0.5], color="black")
    axes.set(xlim=(-4.5, 24), ylim=(24, -4.5), aspect=1, title=f"dilation {d}: {2 * d + 1} cells wide")
    axes.set_xticks(np.arange(0.5, 23), minor=True)
    axes.set_yticks(np.arange(0.5, 23), minor=True)
    axes.grid(which="minor", linewidth=0.3)
    axes.tick_params(which="both", length=0, labelbottom=False, labelleft=False)
plt.show()

# %% [markdown]
# *What to see:* what one cell in the middle (blue) and one near the corner (orange) look at. A cross is a place outside
# the query: it counts as 0. One such convolution for each dilation gives
#
# $$Z_d = \mathrm{Conv}_{3\times3}^{\,d}(X),\; d = 1, 3, 6, \qquad Z_g = \mathrm{Conv}_{1\times1}(\mathrm{mean}(X))$$
#
# Several dilations side by side, and $Z_g$, one vector made from the mean over the whole query, are known as *atrous
# spatial pyramid pooling*, **ASPP**. ![precedent](../figures/badges/precedent.svg) *DeepLab; CANet has it behind its
# dense comparison.*
#
# ### Exercise 5.2: the edge of the grid (predict, then run, easy, 5 minutes)
#
# The next picture shows, for each cell, the length of its vector in $Z_1$, $Z_3$ and $Z_6$. Where will the missing
# taps leave a trace? Predict its shape for d = 6 on a grid of 24 x 24 cells, and for d = 1. Then run the next two cells.
#
# <details><summary>Hint 1</summary>How many rows from the upper edge can a cell be and still have a tap above it?
# </details>
#
# <details><summary>Hint 2</summary>Along a column, the number of taps inside the grid changes at two places only.
# </details>
#
# <details><summary>Answer</summary>With dilation 6, the 6 outermost rows lose the three taps on their side at once, the
# columns as well. So there are straight edges 6 cells from each border, nine blocks in all: four corners that see 4 of
# the 9 taps, four sides that see 6, and the middle that sees all. The blocks say nothing about the image. With dilation 1
# it is a frame one cell wide.</details>

# %%
atrous = fusion.atrous
with torch.no_grad():
    Z = []
    for convolution, d in zip(atrous.branches, (1, 3, 6), strict=True):
        Z.append(functional.conv2d(X, convolution.weight, convolution.bias, padding=d, dilation=d))
    Z.append(atrous.globally(X.mean(dim=(2, 3), keepdim=True)))  # one vector, [1, C, 1, 1]

# %% alt=["The query, and the length of each cell's vector for dilations 1, 3 and 6. With dilation 1 the object stands out, with 3 as well; straight edges 1, 3 and 6 cells from each border cut the maps into nine blocks, the more clearly the larger the dilation"] jupyter={"source_hidden": true}
figure, grid = new_figure(2, 2, width=2.9, height=2.5)
show_image(grid[0, 0], opened.query_image, "query", outline=opened.truth)
for axes, z, d in zip(grid.flat[1:], Z, (1, 3, 6), strict=False):
    show_map(axes, z[0].norm(dim=0).numpy(), f"length of $Z_{d}$", size=len(opened.truth))
    draw_outline(axes, opened.truth)
enlarge(figure)
figure

# %% [markdown]
# *What to see:* the length of a cell's vector differs between object and background, but length alone does not say what
# the decoder makes of it. $Z_g$ has no picture: it is the same everywhere.
#
# The nine blocks come from the grid's edge and say nothing about the image. What, then, should the merge make of them?
# Section 5.6 looks at what it does.

# %% [markdown]
# ## 5.5 Merge
#
# $$F_q^{final} = \mathrm{Conv}_{1\times1}\big(X + \mathrm{Conv}_{1\times1}(\mathrm{ReLU}[Z_1;\,Z_3;\,Z_6;\,Z_g])\big)$$

# %%
with torch.no_grad():
    wide = torch.cat([*Z[:-1], Z[-1].expand_as(X)], dim=1)  # [1, 4C, h, w]
    final = fusion.merge(X + atrous.merge(torch.relu(wide)))

assert all(torch.allclose(mine, theirs, atol=1e-3) for mine, theirs in zip(Z, trace.levels, strict=True))
assert torch.allclose(final, trace.fused, atol=1e-3)
print(f"F_q^final: {tuple(final.shape[1:])}, as the network itself computed it")

# %% [markdown]
# With the setting `fusion="pyramid"` the network makes the grid coarser instead, and with `fusion="single"` it has one
# scale only ([details](../docs/method.md#multi-scale-fusion-module-msf)). Section 5.8 compares the three.

# %% [markdown]
# ## 5.6 Which scale carries what?
#
# *Flatten* one scale: let it say the same everywhere, its own mean over the query. It can then no longer tell *where*
# anything is. The global mean says the same everywhere as it is; it is set to 0 instead. Compare the answers. The
# network was not trained without that scale, so this asks what the *trained* network relies on, not what a network
# without the scale could learn.
#
# ### Exercise 5.3: which one will it miss? (predict, then run, medium, 5 minutes)
#
# Before you look at the results: which of dilation 1, 3, 6 and the global mean does the network need most to segment
# *small* objects, and which for *large* ones? Give a reason for each.
#
# <details><summary>Hint 1</summary>How many cells wide is a small object that covers 4 % of 24 x 24 cells?</details>
#
# <details><summary>Hint 2</summary>The global mean sees no place; but it does see how much of the query compares
# well.</details>
#
# <details><summary>Answer</summary>Most people say: dilation 1 for small, dilation 6 for large objects. The result is
# different. The global mean matters most, for small objects: without it too much of the query is called foreground. Large
# objects even <i>gain</i> without dilation 1; they may gain without the global mean too, but that whisker reaches zero.
# They miss dilation 3 most; where dilation 6 sees something is hardly used at all.
# What a part is made for and what training uses it for are two questions.</details>

# %%
all_opened = [toy.open(episode) for episode in episodes]
area = np.array([v.truth.mean() for v in all_opened])  # share of the query that the class covers
full = np.array([v.iou for v in all_opened])
flattened = []  # for each scale, all episodes opened without it
for number in range(len(names)):
    with without_scale(toy.head, number):
        flattened.append([toy.open(episode) for episode in episodes])
losses = [full - np.array([v.iou for v in without]) for without in flattened]  # [episodes] each

# %% alt=["Three episodes in rows: the query with the outlined truth, the mask with all scales, and the masks with dilation 1, 3, 6 or the global mean flattened, each with its IoU. Without the global mean the mask runs over onto other objects; without dilation 6 nothing changes"] jupyter={"source_hidden": true}
shown = np.argsort(-np.max([np.abs(loss) for loss in losses], axis=0))[:3]  # where flattening changes most
figure, grid = new_figure(6, len(shown), width=1.3, height=1.7)
for line, number in zip(grid, shown, strict=True):
    show_image(line[0], all_opened[number].query_image, "query", outline=all_opened[number].truth)
    answers = {"all": all_opened[number], **dict(zip(names, (w[number] for w in flattened), strict=True))}
    for axes, (name, v) in zip(line[1:], answers.items(), strict=True):
        label = name if name == "all" else f"no {name.replace('dilation', 'dil.').removesuffix(' mean')}"
        show_image(axes, overlay(v.query_image, v.prediction, ORANGE), f"{label}\n{v.iou:.2f}", outline=v.truth)
enlarge(figure)
figure

# %% [markdown]
# *What to see:* the three episodes (of all) in which flattening changes most, chosen for that; a number is an IoU. One
# episode proves nothing. So the same over all of them, in three equal groups, by the area of the true mask:


# %% alt=["Bars of the loss of IoU for each flattened scale, for small, medium and large objects, with 95 percent whiskers. The global mean is the largest loss for small objects; large ones gain without dilation 1, and perhaps without the global mean; dilation 3 loses a little, most for large ones; dilation 6 is near 0"] jupyter={"source_hidden": true}
def half_width(values):
    """Half of the 95 % interval of a mean, after Student's t: with 20 values, more than 1.96 standard errors."""
    low, high = ttest_1samp(values, 0).confidence_interval()
    return (high - low) / 2


thirds = np.quantile(area, [1 / 3, 2 / 3])
groups = {"small": area < thirds[0], "medium": (area >= thirds[0]) & (area < thirds[1]), "large": area >= thirds[1]}
figure, axes = plt.subplots(figsize=(8, 4), layout="constrained")
for offset, (name, chosen), colour in zip((-0.25, 0, 0.25), groups.items(), (ORANGE, "#56B4E9", BLUE), strict=True):
    heights = [100 * loss[chosen].mean() for loss in losses]
    errors = [100 * half_width(loss[chosen]) for loss in losses]
    label = f"{name}: {100 * area[chosen].min():.0f} to {100 * area[chosen].max():.0f} % of the image"
    axes.bar(np.arange(len(names)) + offset, heights, 0.23, yerr=errors, color=colour, label=label, capsize=3)
axes.axhline(0, color="black", linewidth=0.8)
axes.set_xticks(range(len(names)), names)
axes.set(xlabel="scale that is flattened", ylabel="loss of IoU, points")
axes.legend(frameon=False, loc="upper left")
plt.show()

# %%
scales_left = ["all scales", *(f"no {name}" for name in names)]
ious = [full, *(full - loss for loss in losses)]
by_group = {name: [100 * iou[chosen].mean() for iou in ious] for name, chosen in groups.items()}
table({"": scales_left, **by_group}, "Mean IoU in %, for small, medium and large objects", formats="{:.1f}")

# %%
marked = [np.array([v.prediction.mean() for v in seen]) for seen in (all_opened, *flattened)]
areas = {name: [share[chosen].mean() / area[chosen].mean() for share in marked] for name, chosen in groups.items()}
table({"": scales_left, **areas}, "The area that the network marks, over the true area")

# %% [markdown]
# *What to see:* a bar is the mean loss over a third of the episodes, the whisker its 95 % interval; below zero the
# answer got *better*. There are twelve whiskers: even if no scale did anything, one or another would leave zero by
# chance; and all are of one network, on one fold. In the second table, 1 is the truth's area: with all scales the
# network marks too much of small
# objects and too little of large ones. Without the global mean it marks far more, whatever the size: small objects lose
# by that. So the global mean, which knows no place, takes part
# in how much of the query is called foreground. (Set to 0, it also loses what it says in every query alike; this does
# not tell how much it goes by the query.) Without dilation 1 more is marked, too, and large objects gain by it. Dilation 3 adds a little to objects of every
# size, and most to large ones. Dilation 6, whose nine blocks are the clearest, is hardly used at all: that is what
# the merge has made of them. Where a whisker reaches zero, nothing can be said with so few episodes.

# %% [markdown]
# ## 5.7 The decoder, and the mask
#
# A small stack of convolutions turns $F_q^{final}$ into two **logits** per cell, one for background and one for
# foreground; the larger one wins. ![stated](../figures/badges/stated.svg) That there is a separate decoder;
# ![our choice](../figures/badges/ours.svg) its layers. The cells are larger than pixels, so something has to be resized.
# ![our choice](../figures/badges/ours.svg) It is the logits that are resized, bilinearly, never the true mask: a mask
# that is shrunk loses small objects before they are scored.
#
# ### Exercise 5.4: from logits to a mask (write, easy, 5 minutes)
#
# Write `my_mask(logits, size)` for logits [2, h, w] (background first) and a size (H, W). Return the mask [H, W] with
# 1 for foreground. Do not align corners.
#
# <details><summary>Hint 1</summary><code>functional.interpolate</code> wants a batch: <code>logits[None]</code>, and
# gives one back.</details>
#
# <details><summary>Hint 2</summary>In which <code>mode</code> does a pixel between two cells take something of both?
# And which function gives the <i>number</i> of the larger logit, not the logit?</details>


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
# Does the order matter? The next cell decides before or after it resizes, and scores the masks.

# %%
from dpnet_lite.scoring import predicted_mask

ways = {
    "decide, then resize bilinearly": [],
    "resize to nearest, then decide": [],
    "resize bilinearly, then decide": [],
}
for v in all_opened:
    with torch.no_grad():
        logits = toy.head.decoder(v.trace.fused)[0]  # [2, h, w]
    truth = torch.from_numpy(v.truth)
    size = (truth.shape[0], truth.shape[1])
    decided = logits.argmax(dim=0)[None, None].float()
    early = functional.interpolate(decided, size, mode="bilinear", align_corners=False)[0, 0] > 0.5
    blocks = functional.interpolate(logits[None], size)[0].argmax(dim=0) == 1
    assert torch.equal(blocks, functional.interpolate(decided, size)[0, 0] == 1)  # to nearest, both orders are the same
    for found, scores in zip((early, blocks, predicted_mask(logits, size) == 1), ways.values(), strict=True):
        scores.append(float((found & truth).sum() / (found | truth).sum().clamp_min(1)))
first, nearest, last = (100 * np.array(scores) for scores in ways.values())
assert np.allclose(last, 100 * full)  # the last is what the network does
print(
    f"bilinear: {(last - first).mean():+.1f} points by the order; {(last - nearest).mean():+.1f} against nearest neighbours"
)
table(
    {"order": list(ways), "mean IoU, %": [x.mean() for x in (first, nearest, last)]},
    "The same logits",
    formats="{:.1f}",
)

# %% [markdown]
# With nearest neighbours the order does not matter at all: every pixel copies one cell, and the cell asserts that both
# masks are equal. Bilinearly it does: logits say *how much* the one outweighs the other, and so where between two cells
# the border runs; a decision has lost that.

# %% [markdown]
# ## 5.8 What is it worth to *train* with several scales?
#
# As in lesson 4, the stored studies answer: pairs of networks with and without MSF, on the same episodes with the same
# budget; and networks with other fusions.

# %%
from dpnet_lite.ablation.comparisons import judge
from dpnet_lite.ablation.figures import draw_bar
from dpnet_lite.ablation.studies import load_study
from dpnet_lite.ablation.table import shipped_rows
from dpnet_lite.experiments.intervals import percent

modules = load_study("modules")
msf = {
    f"MSF{j.comparison.name.removeprefix('MSF')}: {world}": j
    for world, data in (("drawn world", "toy"), ("photographs", "photos"))
    for j in judge(modules, shipped_rows("modules", data))
    if j.comparison.name.startswith("MSF")
}
scales = {j.comparison.name: j for j in judge(load_study("scales"), shipped_rows("scales"))}
pyramid = {f"pyramid of {name}: drawn world": scales[name] for name in ("two scales", "three scales", "four scales")}
assert [name for name, j in msf.items() if j.graded_verdict == "better"] == ["MSF, alone: drawn world"]  # see below
assert {j.graded_verdict for j in msf.values()} == {"better", "better, weak"}

# %% alt=["Nine differences to a network with one scale, with intervals. MSF, dilated convolutions, on the drawn world: 1 to 3 points; on photographs: around half a point; pyramids of two, three and four scales on the drawn world: around 0"] jupyter={"source_hidden": true}
figure, axes = plt.subplots(figsize=(7, 0.8 + 0.55 * len(msf | pyramid)), layout="constrained")
for row, (name, found) in enumerate((msf | pyramid).items()):
    numbers = percent(found.difference, found.interval, signed=True)
    draw_bar(axes, row, name, numbers, found.difference, found.interval, (BLUE if name in msf else GREEN, "o"))
axes.axvline(0, color="grey", linewidth=1)
axes.set(yticks=[], ylim=(len(msf | pyramid) - 0.5, -0.75))
axes.set_xlabel("mIoU minus that of one scale, points", fontsize=12)
plt.show()

# %% [markdown]
# *What to see:* dot and 95 % interval. Blue, the shipped fusion (dilated convolutions and the global mean) against one
# scale, in three surroundings; green, pyramids of two to four scales against one. Having several scales is not enough:
# *how* the network has them makes the difference here. The intervals speak of these classes, and all blue ones are clear
# of 0. Whether other classes would say the same is known for *MSF, alone* on the drawn world; for the other five, four
# folds are too few ("weak", [lesson 11.2](11_ablations.ipynb)).

# %% [markdown]
# ## 5.9 Try it yourself
#
# With a running kernel: choose an episode and a scale, and compare the two answers below; the caption has the IoU
# without each of the four. *Find*, in the list with seed 0: an episode in which the answer without the global mean is
# worse than any other, and falls below one half; and one that is a failure with all scales and a success without one.
#
# Long or short means nothing in the panels of Z and $F_q^{final}$: the decoder reads directions. On drawn scenes
# $F_q^{final}$ is short on the object, on most photographs long. The global mean has no panel: it is the same everywhere.

# %%
from dpnet_lite.course.explorers.apps import scale_explorer

scale_explorer()

# %% [markdown]
# <details><summary>Answer</summary>Among others: <i>scaly kite</i> has IoU 0.88, and 0.38 without the global mean; without
# dilation 1 it has 0.67, and the other two hardly count. <i>tartan arrow</i> fails with 0.47, and has 0.79 without the
# global mean, 0.66 without dilation 1. So the same scale saves one answer and spoils another: only the mean over many
# episodes tells what it is worth. The next cell holds these numbers.</details>

# %% jupyter={"source_hidden": true}
from dpnet_lite.course.explorers.episode import object_episodes, pick_episode


def with_each_flattened(name):
    """IoU with all scales, and without each of the four, of the explorer's episode of that class."""
    picked = pick_episode(toy, [toy.class_names[index] for index in toy.novel].index(name), seed=0)
    found = [toy.open(picked).iou]
    for number in range(len(names)):
        with without_scale(toy.head, number):
            found.append(toy.open(picked).iou)
    return [round(iou, 2) for iou in found]


kite, arrow = with_each_flattened("scaly kite"), with_each_flattened("tartan arrow")
assert kite[:2] == [0.88, 0.67] and kite[4] == min(kite) == 0.38 and min(kite[2:4]) > 0.86
assert arrow[:2] == [0.47, 0.66] and arrow[4] == 0.79


def longer_on_the_object(seen):
    """Whether F_q^final is longer on the object than elsewhere, on average over the cells."""
    length, on_object = seen.trace.fused[0].norm(dim=0), seen.truth_shares >= 0.5
    return bool(length[on_object].mean() > length[~on_object].mean())


assert not any(map(longer_on_the_object, all_opened))
photographs = object_episodes()
assert np.mean([longer_on_the_object(photographs.open(one)) for one in photographs.episodes(count=60)]) > 0.6

# %% [markdown]
# ## Recap
#
# - The query feature, both prototypes and twelve comparison maps are mixed cell by cell; dilated convolutions and a
#   global mean then look around each cell at several scales. ![stated](../figures/badges/stated.svg) Several scales;
#   ![our choice](../figures/badges/ours.svg) the rest.
# - Flattening a scale shows what the trained network relies on it for.
# - Resize the logits, not the predicted mask and never the true one.

# %%
with_both, on_photographs = msf["MSF, with CCM and PIM: drawn world"], msf["MSF, with CCM and PIM: photographs"]
kept = {"small": 100 * losses[-1][groups["small"]], "large": -100 * losses[0][groups["large"]], "far": 100 * losses[2]}
mean = {name: values.mean() for name, values in kept.items()}
half = {name: half_width(values) for name, values in kept.items()}  # of the 95 % interval
assert with_both.interval.low > 0.01 and on_photographs.interval.low > 0
assert all(j.interval.low <= 0 <= j.interval.high for j in pyramid.values())
assert mean["small"] > max(100 * loss[groups["small"]].mean() for loss in losses[:-1])
assert mean["small"] > half["small"] and mean["large"] > half["large"]
assert abs(losses[2].mean()) < 0.01
claim(
    f"MSF is worth {percent(with_both.difference, with_both.interval, signed=True)} points of mIoU on the drawn world "
    f"and {percent(on_photographs.difference, on_photographs.interval, signed=True)} on photographs, against one scale, on these "
    "classes; four folds are too few to promise it for others. A "
    f"<b>pyramid</b> of four scales is not: {percent(scales['four scales'].difference, scales['four scales'].interval, signed=True)}. "
    f"Of the trained scales the <b>global mean</b> carries most for small objects, {mean['small']:.1f} ± {half['small']:.1f} points of "
    f"IoU; large ones <i>gain</i> {mean['large']:.1f} ± {half['large']:.1f} without dilation 1; dilation 6 carries "
    f"{mean['far']:.1f} ± {half['far']:.1f} (± the half of a 95 % interval; one network, one fold)."
)

# %% [markdown]
# **Further reading.** Tian et al., *Prior guided feature enrichment network for few-shot segmentation*, TPAMI 2020
# (PFENet, which has a pyramid); Chen et al., *Rethinking atrous convolution for semantic image segmentation*, 2017 (ASPP
# with a global mean); Zhang et al., *CANet*, CVPR 2019;
# [The method](../docs/method.md#multi-scale-fusion-module-msf);
# [trials](../docs/results.md#trials-that-led-to-the-defaults).
#
# Previous: [4 Prototype interaction](04_prototype_interaction.ipynb).
# Next: [5b Build it yourself](05b_build_it_yourself.ipynb), from features to mask in plain PyTorch.
#
# ## Five questions

# %%
from dpnet_lite.course.quiz import quiz

quiz("05")
