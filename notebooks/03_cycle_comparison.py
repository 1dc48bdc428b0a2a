# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 3. Cycle comparison: a prototype from the query itself
#
# [Start here](00_start_here.ipynb) | [1 The task](01_few_shot_segmentation.ipynb) |
# [2 The support prototype](02_support_prototype.ipynb) | **3 Cycle comparison** |
# [4 Prototype interaction](04_prototype_interaction.ipynb)
#
# **What you will learn.** How DPNet finds query pixels that it can trust to be foreground, without a mask of the
# query; how their mean becomes the pseudo-prototype $P_q$; and how good such a selection is, measured against the
# truth, beside other rules.
#
# **What you need.** [Notebook 2](02_support_prototype.ipynb): features, the prototype P, the cosine.
#
# **Time.** About 40 minutes with the two exercises. The cells run in about half a minute.

# %%
# %matplotlib inline
import matplotlib.pyplot as plt
import numpy as np
import torch
import torch.nn.functional as functional

from dpnet_lite.course.explorers.apps import RULES
from dpnet_lite.course.explorers.cycle import cycle_figure, first_inside, follow_cycle, similarity_figure
from dpnet_lite.course.explorers.episode import toy_episodes

FOLD = 0
toy = toy_episodes(FOLD, gap=0.5)
episodes = toy.episodes(count=60)
PLAIN = RULES["plain cycle"]
opened = toy.open(episodes[0], **PLAIN)  # the cycle alone; what DPNet adds to it comes in 3.5
print(f"class: {opened.class_name}; the plain cycle is: {PLAIN}")

# %% [markdown]
# ## 3.1 The correlation
#
# The **cycle comparison module** takes $F_s$ and $F_q$ and selects reliable foreground features of the query
# *(stated)*. How it selects is not public. We follow a relative that is *(precedent: CyCTR)*, with the cosine of every
# support cell j with every query cell i as measure:
#
# $$S_{ji} = \cos(F_s(j), F_q(i))$$
#
# S has one row for each of the $N_s$ support cells and one column for each of the $N_q$ query cells. Here it is small;
# for large images and several shots the package never holds it whole, and still finds the same maxima.

# %%
support = functional.normalize(opened.trace.support[0, 0].flatten(1), dim=0)  # [C, h, w] -> [C, N_s]
query = functional.normalize(opened.trace.query[0].flatten(1), dim=0)  # [C, h, w] -> [C, N_q]
S = support.T @ query  # [N_s, N_q]
mask = opened.trace.support_masks[0, 0].flatten() >= 0.5  # cells of the support that are inside the mask, [N_s]
print(
    f"S is {S.shape[0]} x {S.shape[1]}, from {S.min():.2f} to {S.max():.2f}; {int(mask.sum())} support cells are inside"
)

start = first_inside(opened)
similarity_figure(opened, start)

# %% [markdown]
# *What to see:* one row of S as a map. The circle is a support cell inside the mask; the map shows its cosine with
# every query cell, and the diamond is the largest. The outline is the query's true mask, which the method does not
# know.

# %% [markdown]
# ## 3.2 Forward, backward, kept or not
#
# - **Forward:** $i(j) = \arg\max_i S_{ji}$, the query cell most like the support cell j.
# - **Backward:** $r(i) = \arg\max_j S_{ji}$, the support cell most like the query cell i, over *all* support cells,
#   inside and outside of the mask.
# - **Kept:** $R = \{\, i(j) : j \text{ inside and } r(i(j)) \text{ inside} \,\}$, where *inside* means
#   $M_s \ge 1/2$: at least half of the cell is foreground. The way starts in the mask, goes to the query, and must come
#   back into the mask. It need not come back to where it started *(precedent: CyCTR)*.
#
# Why the way back? A support cell always has a nearest query cell, even if the class is not in the query at all. The
# idea is that a query cell of something else finds its like in the support's *background*. Section 3.5 counts how often
# that is so.

# %% [markdown]
# ### Exercise 3.1: the reliable set (medium, 15 minutes)
#
# Write `my_reliable_set(S, mask)` for a correlation S [N_s, N_q] and a mask, bool [N_s]. Return R as bool [N_q].


# %% jupyter={"source_hidden": true}
def my_reliable_set(S: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Query cells that a cell of the mask points to, and that point back into the mask."""
    # BEGIN SOLUTION
    reliable = torch.zeros(S.shape[1], dtype=torch.bool)
    for j in mask.nonzero().flatten():
        i = S[j].argmax()
        if mask[S[:, i].argmax()]:
            reliable[i] = True
    return reliable
    # END SOLUTION


# %% tags=["check"]
from dpnet_lite.course.exercises.lesson_03 import check_cycle

check_cycle(my_reliable_set)

# %%
forward, backward = S.argmax(dim=1), S.argmax(dim=0)
lands = backward[forward]  # r(i(j)) for every support cell j
kept = forward[mask & mask[lands]]
R = torch.zeros(S.shape[1], dtype=torch.bool)
R[kept] = True

matches, selection = opened.trace.matches[0], opened.trace.selections[0]
assert torch.equal(forward, matches.forward_match[0]) and torch.equal(backward, matches.backward_match[0])
assert torch.equal(R, selection.weights[0] > 0)
print(f"{int(mask.sum())} support cells start, {len(kept)} come back into the mask")
print(f"they name {int(R.sum())} different query cells")

# %% [markdown]
# The two assertions say that these few lines and the package agree.
#
# Now follow two ways on photographs, of objects that the head never saw in training. The code takes the episode in
# which the largest share of the ways is kept, and the one in which the smallest share is; in the first it follows a
# kept way, in the second a rejected one, each time the one that lands farthest from its start. This head compares the
# frozen features of the backbone for its cycles, not the reduced ones of 3.1: a switch, which the cell prints.

# %%
from dpnet_lite.course.analysis.selections import OUTCOMES, all_cycles
from dpnet_lite.course.opened_episode import ObjectEpisodes
from dpnet_lite.datasets import OBJECTS_CREDIT

photographs = ObjectEpisodes()
photo_episodes = [photographs.open(episode, **PLAIN) for episode in photographs.episodes(count=60)]
all_ways = [all_cycles(v) for v in photo_episodes]
kept_shares = np.array([float((ways.outcomes < 2).float().mean()) for ways in all_ways])  # the first two are kept


def farthest(ways, chosen: torch.Tensor, width: int) -> tuple[int, int]:
    """Of the chosen ways, bool [n], the start of the one that lands farthest from it."""
    starts, landings = (torch.stack([c // width, c % width], dim=1)[chosen] for c in (ways.starts, ways.landings))
    return tuple(starts[(starts - landings).square().sum(dim=1).argmax()].tolist())


print(f"compared: {photographs.head.config.selection_features} features; kept: {kept_shares.mean():.0%} on average")
n = int(kept_shares.argmax())
print(f"most kept: {kept_shares[n]:.0%} of the ways")
print(OBJECTS_CREDIT)
cycle_figure(photo_episodes[n], farthest(all_ways[n], all_ways[n].outcomes < 2, photo_episodes[n].batch.cells[1]))

# %%
n = int(kept_shares.argmin())
counts = all_ways[n].outcomes.bincount(minlength=len(OUTCOMES)).tolist()
print(f"fewest kept: {kept_shares[n]:.0%}; " + "; ".join(f"{c} {w}" for w, c in zip(OUTCOMES, counts, strict=True)))
print(OBJECTS_CREDIT)
cycle_figure(photo_episodes[n], farthest(all_ways[n], all_ways[n].outcomes >= 2, photo_episodes[n].batch.cells[1]))

# %% [markdown]
# *What to see:* left, the start (circle) and the landing (square) in the support; in the middle the match (diamond)
# in the query; right, in blue, all query cells that are kept, with the outline of the truth. White arrows: kept, though
# the way does not end where it began. Dashed orange arrows: rejected, because the landing lies outside of the support's
# mask. *Right* and *wrong* ask whether the match lies on the query's object. In the second picture the line above it
# answers: all matches lie on the candle, so every rejected way is a good one that the way back threw away. And many
# ways end at the same few cells, hence so little blue. Precision and recall in the title say how well the blue cells
# fit the outline; section 3.4 explains them.

# %% [markdown]
# ## 3.3 The pseudo-prototype
#
# The mean of the kept query features is the **pseudo-prototype** $P_q$: the class as the *query* shows it. That it is
# made from the selected features is *(stated)*, that it is their mean is *(our choice)*. If nothing is kept, the query
# cells most like P stand in *(our choice, after SSP)*.

# %%
P_q = opened.trace.query[0].flatten(1)[:, R].mean(dim=1)  # [C, N_q] -> [C]
assert torch.allclose(P_q, opened.trace.pseudo_prototype[0], atol=1e-4)

truth = opened.truth_shares.flatten()
own = (opened.trace.query[0].flatten(1) * truth).sum(dim=1) / truth.sum()  # what the query's true mask would give
P = opened.trace.prototype[0]
print(
    f"cosine with the query's own prototype: P {functional.cosine_similarity(P, own, dim=0):.2f}, "
    f"P_q {functional.cosine_similarity(P_q, own, dim=0):.2f}"
)

# %% [markdown]
# ## 3.4 How good is a selection?
#
# - **Precision:** which share of what was selected lies on the object?
# - **Recall:** which share of the object was selected?
#
# A pseudo-prototype seems to need precision above all: a few clean cells make a good mean, and cells of another object
# spoil it. Some recall helps, because one part of an object is not the whole.
#
# ### Exercise 3.2: precision and recall (easy, 5 minutes)
#
# Write `my_quality(selected, truth)` for two bool tensors of the same shape [N]. Return `(precision, recall)`.


# %% jupyter={"source_hidden": true}
def my_quality(selected: torch.Tensor, truth: torch.Tensor) -> tuple[float, float]:
    """Share of the selected cells that are true, and share of the true cells that are selected."""
    # BEGIN SOLUTION
    hits = float((selected & truth).sum())
    return hits / float(selected.sum()), hits / float(truth.sum())
    # END SOLUTION


# %% tags=["check"]
from dpnet_lite.course.exercises.lesson_03 import check_quality

check_quality(my_quality)

# %% [markdown]
# ## 3.5 Rules side by side
#
# The shipped network runs with each rule in turn; its weights stay those that were trained with the default rule. So
# the last column says what a rule is worth *to this network*, not what it would be worth to one that was trained with
# it.
#
# - *plain cycle*: section 3.2.
# - *cycle, weighted*: a kept cell counts by how much it is like P, with the weight $e^{\cos(F_q(i), P) / 0.02}$ *(our
#   choice)*.
# - *cycle, weighted, consensus*: the default. The kept cells may lie on several objects; two rounds of averaging and
#   weighing anew let them agree on one *(our choice)*. Cells that were not kept may then count as well
#   ([formula](../docs/method.md#cycle-comparison-module-ccm)).
# - *query first*: every query cell is asked whether its nearest support cell closes a cycle *(our choice)*.
# - *threshold*: cosine with P above a fixed value *(after SSP)*. *top k*: the k cells most like P *(our choice)*. The
#   cell prints both numbers.
# - *oracle*: the query's true mask. No method, but a guide to what a better selection could give.
#
# Where weights are not just yes and no, precision is the share of the *weight* on the object, and a cell counts as
# selected from half of the largest weight on. *Own* is the prototype that the query's true mask would give.

# %%
from dpnet_lite.course.opened_episode import selection_quality
from dpnet_lite.model.prototypes import masked_average

print(f"threshold: {toy.head.config.selection_threshold}, top k: {toy.head.config.selection_count} cells")
rows = {}
for name, switches in RULES.items():
    all_opened = [toy.open(episode, **switches) for episode in episodes]
    quality = np.array([selection_quality(v.trace.reliable[0], v.truth_shares) for v in all_opened])
    closeness = [
        float(
            functional.cosine_similarity(v.trace.pseudo_prototype, masked_average(v.trace.query, v.truth_shares[None]))
        )
        for v in all_opened
    ]
    rows[name] = (*np.nanmean(quality, axis=0), np.mean(closeness), np.mean([v.iou for v in all_opened]))
own = torch.cat([masked_average(v.trace.query, v.truth_shares[None]) for v in all_opened])  # [episodes, C]
support_prototypes = torch.cat([v.trace.prototype for v in all_opened])
to_own = functional.cosine_similarity(support_prototypes, own, dim=1).mean()

print(f"{'rule':38} precision  recall  cosine with own  mean IoU")
for name, (precision, recall, closeness, iou) in rows.items():
    print(f"{name:38} {precision:9.2f} {recall:7.2f} {closeness:16.2f} {iou:9.2f}")
print(f"{'P itself, from the support':38} {to_own:33.2f}")

figure, axes = plt.subplots(figsize=(6.4, 4), layout="constrained")
markers = ["o", "s", "D", "^", "v", "P", "X"]
colours = ["#0072B2", "#56B4E9", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#000000"]
for (name, (precision, recall, *_)), marker, colour in zip(rows.items(), markers, colours, strict=True):
    axes.scatter(recall, precision, s=90, marker=marker, color=colour, label=name)
axes.set(xlabel="recall", ylabel="precision", xlim=(0, 1.05), ylim=(0, 1.05))
axes.legend(frameon=False, loc="lower right", fontsize=9)
plt.show()

# %% [markdown]
# *What to see:* each mark is a rule; up is cleaner, right is more of the object. The plain cycle keeps few cells. The
# weights make it cleaner and smaller still. The consensus gives back recall at about the same precision: the cells
# that resemble the trusted ones join them. The oracle is not at precision one because border cells are only partly
# foreground. The last column of the table shows how much is left between the default and the oracle. Compare *top k* as
# well: no cycle at all, and a selection as clean as the weighted cycle's. By the cosine with *own* every rule is
# ahead of P itself, but it hardly tells the rules apart; lesson 9 says why a plain cosine is a blunt measure here.
#
# What is the way back worth? The next cell leaves it out: every match of a support cell in the mask is kept. And it
# counts where the matches lie that the way back rejects.

# %%
one_way, both_ways, rejected, on_object, beside = [], [], 0, 0, 0
for episode in episodes:
    v = toy.open(episode, **PLAIN)
    width = v.trace.query.shape[-1]
    starts = [divmod(int(j), width) for j in (v.trace.support_masks[0, 0].flatten() >= 0.5).nonzero()]
    cycles = [follow_cycle(v, start) for start in starts]
    matched = torch.zeros_like(v.truth_shares)
    for cycle in cycles:
        matched[cycle.match] = 1
    one_way.append(selection_quality(matched, v.truth_shares)[0])
    both_ways.append(selection_quality(v.trace.reliable[0], v.truth_shares)[0])
    near = functional.max_pool2d((v.trace.support_masks[0] >= 0.5).float(), 3, stride=1, padding=1)[
        0
    ]  # mask, one wider
    for cycle in (cycle for cycle in cycles if not cycle.accepted):
        rejected += 1
        if v.truth_shares[cycle.match] >= 0.5:
            on_object += 1
            beside += bool(near[cycle.landing])
print(f"precision with the way there alone {np.mean(one_way):.2f}, with the way back too {np.mean(both_ways):.2f}")
print(
    f"{rejected} ways are rejected; {on_object} of them had their match on the object, "
    f"and {beside} of these land within one cell of the mask"
)

# %% [markdown]
# *What to see:* the way back makes the selection cleaner, but it is a coarse sieve, and does not do what the idea of
# 3.2 promised: a large part of what it rejects was right. Some of that lands just beside the mask, where cells see both
# object and background. [Lesson 8](08_inside_the_selection.ipynb) looks at these ways, gap by gap.

# %% [markdown]
# ## 3.6 Precision and the mask
#
# Does a clean selection go along with a good mask? Each dot is one of the episodes, under the default rule.

# %%
all_opened = [toy.open(episode) for episode in episodes]
precision = np.array([selection_quality(v.trace.reliable[0], v.truth_shares)[0] for v in all_opened])
ious = np.array([v.iou for v in all_opened])
figure, axes = plt.subplots(figsize=(4.4, 4), layout="constrained")
axes.scatter(precision, ious, color="#0072B2", alpha=0.6)
axes.set(xlabel="precision of the selection", ylabel="IoU of the mask", xlim=(-0.03, 1.03), ylim=(-0.03, 1.03))
plt.show()
clean = precision >= 0.5
print(f"precision of a half or more: {clean.sum()} episodes, mean IoU {ious[clean].mean():.2f}")
if (~clean).any():
    print(f"less than a half: {(~clean).sum()} episodes, mean IoU {ious[~clean].mean():.2f}")

# %% [markdown]
# *What to see:* a dense cluster at the upper right, a few complete misses at the lower left, and some in between. Where
# the selection lies on another object, the network follows it there. But a clean selection is no promise: look how far
# down the dots at the right reach. [Results](../docs/results.md) counts over many episodes.

# %% [markdown]
# ## 3.7 Follow a cycle yourself
#
# With a running kernel: choose the world (the drawn world, or photographs, which have neither fold nor gap), an episode
# and a rule, *click* on a cell of the support (or move the start with `row` and `column`), and watch where the way back
# ends. Can you find a start on the object that ends on another one?
# The verdict above the query is the plain cycle's; on the right you see what the chosen rule selects.

# %%
from dpnet_lite.course.explorers.apps import cycle_explorer

cycle_explorer()

# %% [markdown]
# ## Recap
#
# - A support cell points to its nearest query cell; the query cell is kept if its own nearest support cell lies in the
#   mask *(precedent: CyCTR)*.
# - The mean of what is kept is the pseudo-prototype $P_q$ *(the pseudo-prototype is stated, the mean is our choice)*.
# - The way back cleans the selection, at the price of some right cells; weights and consensus are our additions to
#   raise precision and recall.
#
# **Further reading.** Zhang et al., *Few-shot segmentation via cycle-consistent transformer*, NeurIPS 2021 (CyCTR); Fan
# et al., *Self-support few-shot semantic segmentation*, ECCV 2022 (SSP);
# [The method](../docs/method.md#cycle-comparison-module-ccm).
#
# Previous: [2 The support prototype](02_support_prototype.ipynb).
# Next: [4 Prototype interaction](04_prototype_interaction.ipynb)
