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
# ![The network from images to mask; lit is the cycle comparison module, which takes the features F_s and F_q and the
# mask, and gives the pseudo-prototype P_q](../figures/network_3.svg)
#
# **What you will learn.** How DPNet finds query pixels that it can trust to be foreground, without a mask of the
# query; how their mean becomes the pseudo-prototype $P_q$; how good such a selection is, measured against the
# truth, beside other rules; and which of its steps is worth anything.
#
# **What you need.** [Notebook 2](02_support_prototype.ipynb): features, the prototype P, the cosine, and what an
# *opened* episode and its `trace` are.
#
# **Time.** About 90 minutes: 40 to read, 50 for the exercises. The cells run in about half a minute.

# %%
# %matplotlib inline
import matplotlib.pyplot as plt
import numpy as np
import torch
import torch.nn.functional as functional

from dpnet_lite.course.explorers.apps import RULES
from dpnet_lite.course.explorers.cycle import cycle_figure, first_inside, follow_cycle, similarity_figure
from dpnet_lite.course.explorers.episode import object_episodes, toy_episodes
from dpnet_lite.course.explorers.panels import draw_outline, show_image, show_map
from dpnet_lite.course.page import claim, table
from dpnet_lite.course.quiz import quiz
from dpnet_lite.datasets import OBJECTS_CREDIT
from dpnet_lite.experiments.plots import BLUE, ORANGE, overlay

FOLD = 0
toy = toy_episodes(FOLD, gap=0.5)
episodes = toy.episodes(count=60)
PLAIN = RULES["plain cycle"]
opened = toy.open(episodes[0], **PLAIN)  # the cycle alone; what DPNet adds to it comes in 3.5
print(f"class: {opened.class_name}; the plain cycle is: {PLAIN}")

# %% [markdown]
# `toy.open(episode, **switches)` runs the same trained network with some of its settings changed. Here they leave out
# what stands between the cycle and $P_q$.
#
# ## 3.1 The correlation
#
# **Idea.** P is a mean over the object. The query may show only one of the parts that went into it. So let every cell
# of the support's object look for its own counterpart in the query.

# %% alt=["A cell of the object in the support, the query, and a map of the cosines of that cell with every query cell; a diamond marks the largest, on the query's object."]
start = first_inside(opened)
similarity_figure(opened, start)

# %% [markdown]
# *What to see:* the circle is a support cell inside the mask; the map shows its cosine with every query cell, and the
# diamond is the largest. The outline is the query's true mask, which the method does not know.
#
# **Formula.** The **cycle comparison module** (CCM) takes $F_s$ and $F_q$ and selects reliable foreground features of
# the query ![stated](../figures/badges/stated.svg). How it selects is not public. We follow a relative that is
# ![precedent](../figures/badges/precedent.svg) *CyCTR*, with the cosine of every support cell j with every query
# cell i as measure:
#
# $$S_{ji} = \cos(F_s(j), F_q(i))$$
#
# S has one row for each of the $N_s$ support cells and one column for each of the $N_q$ query cells. The map above is
# one row. Here S is small; for large images and several shots the package never holds it whole, and still finds the
# same maxima.

# %%
support = functional.normalize(opened.trace.support[0, 0].flatten(1), dim=0)  # [C, h, w] -> [C, N_s]
query = functional.normalize(opened.trace.query[0].flatten(1), dim=0)  # [C, h, w] -> [C, N_q]
S = support.T @ query  # [N_s, N_q]
mask = opened.trace.support_masks[0, 0].flatten() >= 0.5  # cells of the support that are inside the mask, [N_s]
print(f"S is {S.shape[0]} x {S.shape[1]}, from {S.min():.2f} to {S.max():.2f}; {int(mask.sum())} cells are inside")
width = opened.batch.cells[1]
assert divmod(int(S[start[0] * width + start[1]].argmax()), width) == follow_cycle(opened, start).match

# %% [markdown]
# ## 3.2 Forward, backward, kept or not
#
# **Idea.** A support cell always has a nearest query cell, even if the class is not in the query at all. So ask back:
# *whom do you resemble most in the support?* A query cell of something else should name that something else, or the
# background, and not the object. Then the cycle does not close, and the cell is dropped.
#
# ![A support cell goes to the query and comes back: once it lands in the mask and is kept; once it lands on another
# object of the support and is rejected](../figures/cycle.gif)
#
# **Formulas.** One for each arrow, and one for the verdict:
#
# - **Forward:** $i(j) = \arg\max_i S_{ji}$, the query cell most like the support cell j.
# - **Backward:** $r(i) = \arg\max_j S_{ji}$, the support cell most like the query cell i, over *all* support cells,
#   inside and outside of the mask.
# - **Kept:** $R = \{\, i(j) : j \text{ inside and } r(i(j)) \text{ inside} \,\}$, where *inside* means
#   $M_s \ge 1/2$: at least half of the cell is foreground. The cycle starts in the mask, goes to the query, and must
#   come back into the mask. It need not come back to where it started
#   ![precedent](../figures/badges/precedent.svg) *CyCTR*.

# %% [markdown]
# ### Exercise 3.1: the reliable set (write, medium, 15 minutes)
#
# Write `my_reliable_set(S, mask)` for a correlation S [N_s, N_q] and a mask, bool [N_s]. Return R as bool [N_q].
#
# <details><summary>Hint 1</summary>
#
# Begin with an empty R, `torch.zeros(S.shape[1], dtype=torch.bool)`, and loop over the cells inside,
# `mask.nonzero().flatten()`. What are the two questions that you ask for each?
# </details>
#
# <details><summary>Hint 2</summary>
#
# `i = S[j].argmax()` is the forward step, along a row. The way back is an argmax along a column. Look up in `mask`
# where it ends.
# </details>


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

# %% [markdown]
# Now look at all cycles of sixty episodes of the drawn world, where the truth is known for every pixel: what does a
# match lie on, and what does the way back land on? `all_cycles` follows every cycle that starts in a mask. The code
# then takes, among the cycles that do what the idea promises (the match lies on another object, and the way back lands
# on another object), the episode that has the most of them, and in it the cycle that lands farthest from its start.

# %%
from dpnet_lite.course.analysis.selections import OUTCOMES, all_cycles, shown_in_cells


def places_of(episode):
    """The opened episode, its cycles, and what their matches and landings lie on: 0 object, 1 other one, 2 neither."""
    v = toy.open(episode, **PLAIN)
    cycles, places = all_cycles(v), []
    for image, cells in ((episode.query, cycles.matches), (episode.support[0], cycles.landings)):
        label = shown_in_cells(toy.world[image].labels, v.batch.cells)[cells]
        places.append(torch.where(label == episode.class_index + 1, 0, torch.where(label > 0, 1, 2)))
    return v, cycles, *places


def farthest(cycles, chosen):
    """Of the chosen cycles, bool [n], the start of the one that lands farthest from it, as (row, column)."""
    starts, landings = (torch.stack([c // width, c % width], dim=1)[chosen] for c in (cycles.starts, cycles.landings))
    return tuple(starts[(starts - landings).square().sum(dim=1).argmax()].tolist())


surveyed = [places_of(episode) for episode in episodes]
sorted_out = [(cycles.outcomes >= 2) & (match == 1) & (landing == 1) for _, cycles, match, landing in surveyed]
shown = int(np.argmax([int(chosen.sum()) for chosen in sorted_out]))

# %% alt=["A kept cycle: from a cell of the object in the support to the query's object, and back into the mask."]
v, cycles, match, _ = surveyed[0]
cycle_figure(v, farthest(cycles, (cycles.outcomes < 2) & (match == 0)))

# %% alt=["A rejected cycle: from a cell of the object in the support to an object of another class in the query; the way back lands on an object of that other class in the support, far from the mask."]
v, cycles, match, landing = surveyed[shown]
found = follow_cycle(v, farthest(cycles, sorted_out[shown]))
names = [
    toy.class_names[int(shown_in_cells(toy.world[image].labels, v.batch.cells)[cell[0] * width + cell[1]]) - 1]
    for image, cell in ((v.episode.query, found.match), (v.episode.support[0], found.landing))
]
assert v.class_name not in names and not found.accepted
print(f"looked for: {v.class_name}; the match lies on: {names[0]}; the way back lands on: {names[1]}")
cycle_figure(v, found.start)

# %% [markdown]
# *What to see:* left, the start (circle) and the landing (square) in the support; in the middle the match (diamond) in
# the query; right, in blue, all query cells that are kept, with the outline of the truth. White arrows: kept, though
# the cycle does not end where it began. Dashed orange arrows: rejected. In the second picture the way back does what
# the idea promised: the match lies on another object, and the cycle does not come back into the mask. The line above
# the picture names what match and landing lie on.
#
# How often is that so? The table counts all cycles by what their match lies on.

# %%
matched, landed, kept = (
    torch.cat(parts)
    for parts in zip(*((place, end, cycles.outcomes < 2) for _, cycles, place, end in surveyed), strict=True)
)
on = [matched == place for place in range(3)]
lost = [int((here & ~kept).sum()) for here in on]
shares = [int((here & ~kept).sum()) / int(here.sum()) for here in on]
caught = int((on[1] & ~kept & (landed == 1)).sum())
assert shares[1] < 2 * shares[0] and shares[2] > 2 * shares[1]  # the text below says so
rows = {"the match lies on": ["the object", "another object", "background"], "cycles": [int(here.sum()) for here in on]}
rows |= {"rejected": lost, "share rejected": shares}
print(f"of the {lost[1]} rejected cycles on another object, {caught} land on another object of the support")
table(rows, "All cycles of sixty episodes, by what fills most of the cell", formats="{:.0%}")

# %% [markdown]
# *What to see:* read the last column. Of the matches on *another object* the way back rejects hardly a larger share
# than of the *right* ones: it cannot tell one object from another. It works better against background.
#
# ### Exercise 3.2: why can it not tell objects apart? (explain, medium, 10 minutes)
#
# Most cycles whose match lies on another object are kept. Explain why the query cell of another object so often names
# our object as the most like in the support. What would have to be in the support so that the cycle is rejected?
#
# <details><summary>Hint 1</summary>
#
# Among which cells does the way back choose? Which of them belong to an object of the query cell's own class?
# </details>
#
# <details><summary>Hint 2</summary>
#
# The forward step has chosen this query cell *because* it is like our object. What could be more like it?
# </details>

# %% [markdown]
# <details><summary>Answer</summary>
#
# The way back takes the most similar cell *of this one support image*. If the other object's class does not appear in
# the support, there is no cell of it to name; and since the forward step has picked the query cell for its likeness to
# our object, our object is the next best. A look-alike is caught only if the support happens to show something
# still more like it. So it is in the second picture: the other object appears in the support, too, and the query cell
# resembles it more than ours. Background is everywhere in every support, so a match on
# background has something of its own to name.
# </details>

# %% [markdown]
# The same on photographs, of objects that the head never saw in training. The code takes, of sixty episodes, the one in
# which the smallest share of the cycles is kept, and follows the rejected one that lands farthest from its start. This
# head compares the frozen features of the backbone for its cycles, not the reduced ones of 3.1: a switch, which the
# cell prints.

# %% alt=["A candle: a cycle from the candle in the support to the candle in the query, rejected because it lands just outside of the support's mask; few blue cells on the candle in the query."]
photographs = object_episodes()
photo_episodes = [photographs.open(episode, **PLAIN) for episode in photographs.episodes(count=60)]
all_found = [all_cycles(v) for v in photo_episodes]
kept_shares = np.array([float((cycles.outcomes < 2).float().mean()) for cycles in all_found])  # the first two are kept
n = int(kept_shares.argmin())
counts = dict(zip(OUTCOMES, all_found[n].outcomes.bincount(minlength=len(OUTCOMES)).tolist(), strict=True))
assert counts["rejected, was right"] > 0 == counts["rejected, was wrong"]  # the text below says so
print(f"compared: {photographs.head.config.selection_features} features; kept: {kept_shares.mean():.0%} on average")
print(f"fewest kept: {kept_shares[n]:.0%}; " + "; ".join(f"{count} {name}" for name, count in counts.items()))
print(OBJECTS_CREDIT)
width = photo_episodes[n].batch.cells[1]
cycle_figure(photo_episodes[n], farthest(all_found[n], all_found[n].outcomes >= 2))

# %% [markdown]
# *What to see:* *right* and *wrong* ask whether the match lies on the query's object. All matches do here, so every
# rejected cycle is a good one that the way back threw away, mostly for landing in a border cell just outside of the
# mask. And many cycles end at the same few cells, hence so little blue. Precision and recall in the title say how well
# the blue cells fit the outline; section 3.4 explains them.
#
# ## 3.3 The pseudo-prototype
#
# **Idea.** Do with the query what the masked average did with the support, with the kept cells in the place of the mask
# that nobody has. The mean of the kept query features is the **pseudo-prototype** $P_q$: the class as the *query* shows
# it.
#
# $$P_q = \frac{1}{|R|} \sum_{i \in R} F_q(i)$$
#
# That it is made from the selected features is ![stated](../figures/badges/stated.svg), that it is their mean is
# ![our choice](../figures/badges/ours.svg). If nothing is kept, the query cells most like P stand in
# ![our choice](../figures/badges/ours.svg), after SSP.

# %%
R = opened.trace.selections[0].weights[0] > 0  # the set of exercise 3.1, as the package finds it, [N_q]
F_q, P = opened.trace.query[0].flatten(1), opened.trace.prototype[0]  # [C, N_q], [C]
P_q = F_q[:, R].mean(dim=1)  # [C]
assert torch.allclose(P_q, opened.trace.pseudo_prototype[0], atol=1e-4)

# %% [markdown]
# Is it a better guide than P? Two measures: the cosine with the prototype that the query's *true* mask would give, its
# *own*; and, as in lesson 2.4, the *best IoU* of its similarity map, under the best of all thresholds. The truth is in
# both, so they are for judging only.

# %%
from dpnet_lite.course.opened_episode import best_threshold_iou, selection_quality
from dpnet_lite.model.prototypes import cosine_map, masked_average


def to_own(v):
    """Cosine of P and of P_q with the query's own prototype, which no method may use."""
    own = masked_average(v.trace.query[0], v.truth_shares)  # [C]
    pair = (v.trace.prototype[0], v.trace.pseudo_prototype[0])
    return [float(functional.cosine_similarity(vector, own, dim=0)) for vector in pair]


near = np.array([to_own(v) for v, *_ in surveyed])  # [60, 2], of the plain cycle
reached = []  # best IoU of P and of P_q
for v, *_ in surveyed:
    pair = (v.trace.prototype, v.trace.pseudo_prototype)
    reached.append([best_threshold_iou(cosine_map(v.trace.query, x)[0], v.truth_shares >= 0.5) for x in pair])
reached = np.array(reached)  # [60, 2]
rows = {"prototype": ["P", "P_q"]}
for name, values in (("cosine to own", near), ("best IoU", reached)):
    rows |= {f"{name}: episode 0": values[0], f"{name}: mean of {len(values)}": values.mean(axis=0)}
ahead, behind = (int(sign.sum()) for sign in (reached[:, 1] > reached[:, 0], reached[:, 1] < reached[:, 0]))
assert (near.mean(axis=0)[1] > near.mean(axis=0)[0]) and ahead > 2 * behind > 20  # the text says so
print(f"the map of P_q is better than that of P in {ahead} of {len(reached)} episodes, worse in {behind}")
table(rows, "Cosine with the query's own prototype, best IoU of the map: first episode, and means of sixty")

# %% jupyter={"source_hidden": true} alt=["The query with its outline; the map of cosines with P: the object is bright, and other objects are, too; the map of cosines with P_q: the object is brighter, the ground darker"]
maps = [cosine_map(opened.trace.query, vector[None])[0].numpy() for vector in (P, P_q)]
limits = tuple(np.quantile(np.stack(maps), (0.02, 0.99)))  # the same for both
size = opened.query_image.shape[0]
figure, (left, *others) = plt.subplots(1, 3, figsize=(7.6, 2.8), layout="constrained")
show_image(left, opened.query_image, f"query: {opened.class_name}", outline=opened.truth)
for axes, values, name in zip(others, maps, ("$P$", "$P_q$"), strict=True):
    show_map(axes, values, f"cosine with {name}", size=size, limits=limits, colour_bar=name == "$P_q$")
    draw_outline(axes, opened.truth)
for axes in (left, *others):
    axes.title.set_fontsize(12)
plt.show()

# %% [markdown]
# *What to see:* the same colours mean the same cosine. With $P_q$ the object is brighter and the ground darker: $P_q$
# comes from this very query, with its light and its colours. So it is on average. But in some episodes the map of $P_q$
# is the worse one, as the line above the table says. A mean is only as good as the cells in it: how good is a
# selection?

# %% [markdown]
# ## 3.4 How good is a selection?
#
# Two questions, of which a selection can fail one and pass the other:
#
# - **Precision:** which share of what was selected lies on the object?
# - **Recall:** which share of the object was selected?
#
# A pseudo-prototype seems to need precision above all: a few clean cells make a good mean, and cells of another object
# spoil it. Some recall helps, because one part of an object is not the whole. The picture has two selections in one
# query, the plain cycle's and that of a threshold on the cosine with P (section 3.5): of sixty episodes the code takes
# the one in which the two differ most.

# %% jupyter={"source_hidden": true} alt=["Two selections in one query: on the left a few cells, nearly all on the object; on the right many cells that cover the object and much else."]
pairs = [[toy.open(episode, **RULES[rule]) for rule in ("plain cycle", "threshold")] for episode in episodes]
quality = np.array([[selection_quality(v.trace.reliable[0], v.truth_shares) for v in pair] for pair in pairs])
number = int((quality[:, 0, 0] - quality[:, 1, 0] - quality[:, 0, 1] + quality[:, 1, 1]).argmax())
figure, axes = plt.subplots(1, 2, figsize=(5.4, 3), layout="constrained")
for one, v, rule in zip(axes, pairs[number], ("plain cycle", "threshold"), strict=True):
    selected, on_object = v.trace.reliable[0] > 0, v.truth_shares >= 0.5
    hits, beside = (np.kron(cells, np.ones((4, 4))) for cells in (selected & on_object, selected & ~on_object))
    picture = overlay(v.query_image, hits + beside, BLUE, strength=1.0)
    picture[beside > 0] = overlay(v.query_image, beside, ORANGE, strength=1.0)[beside > 0]
    title = f"{rule}: {int((selected & on_object).sum())} hits,\n{int((selected & ~on_object).sum())} beside it"
    show_image(one, picture, title, outline=v.truth)
    one.set_xlabel(f"{int((on_object & ~selected).sum())} of {int(on_object.sum())} cells missed", fontsize=10)
plt.show()

# %% [markdown]
# *What to see:* blue, selected cells on the object, the *hits*; orange, selected cells beside it. Left is precise and
# misses much, right misses little and is not precise.
#
# ### Exercise 3.3: precision and recall (write, easy, 5 minutes)
#
# Write `my_quality(selected, truth)` for two bool tensors of the same shape [N]. Return `(precision, recall)`.
#
# <details><summary>Hint 1</summary>
#
# Both have the same numerator: the number of cells that are selected *and* true, `(selected & truth).sum()`.
# </details>
#
# <details><summary>Hint 2</summary>
#
# "Of what was selected", "of the object": these are the two denominators.
# </details>


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
# ## 3.5 The default rule, and others
#
# The plain cycle keeps few cells, and lets through what lies on other objects. The default rule adds two steps, both
# ![our choice](../figures/badges/ours.svg).
#
# ### Weighted pooling
#
# *Idea:* some of the kept cells are more like P than others; let these count more. *Formula:* with
# m the largest of the cosines in R and $\tau$ a *temperature*,
#
# $$w_i = e^{(\cos(F_q(i), P) - m) / \tau} \text{ for } i \in R, \text{ and } 0 \text{ elsewhere.}$$
#
# The best cell weighs 1; one that is $\tau$ less alike weighs $1/e$, about a third.
#
# ### Consensus
#
# *Idea:* the kept cells may lie on several objects, and their mean is then like none of them. Let them
# agree on one: the mean moves to where most of the weight is close together, and draws in further cells that are like
# it, even cells that were not kept. *Formula:* each round takes the weighted mean of the query's features, and weighs
# *every* query cell anew by its likeness to it:
#
# $$\bar{f} = \frac{\sum_i w_i F_q(i)}{\sum_i w_i}, \qquad
# w_i \leftarrow e^{(\cos(F_q(i), \bar{f}) - m') / \tau_c},$$
#
# with m' the largest of these cosines. It is a *mean shift*: a mean that moves towards the densest place nearby. Two
# rounds are the default. That the query's object resembles itself more than it resembles the support is an observation
# of ![precedent](../figures/badges/precedent.svg) *SSP*. Six lines:

# %%
config = toy.head.config


def default_rule(F_q, P, R, n_rounds=2):
    """Weights of the query cells after 0, 1, ... rounds: F_q [C, N_q], P [C], R bool [N_q] -> a list of [N_q]."""
    cosine = functional.cosine_similarity(F_q, P[:, None], dim=0)  # [N_q]
    weights = [R * ((cosine - cosine[R].max()) / config.selection_temperature).exp()]
    for _ in range(n_rounds):
        mean = (F_q * weights[-1]).sum(dim=1) / weights[-1].sum()  # [C]
        cosine = functional.cosine_similarity(F_q, mean[:, None], dim=0)
        weights.append(((cosine - cosine.max()) / config.consensus_temperature).exp())
    return weights


default = toy.open(episodes[0])  # without switches: the default rule
rounds = default_rule(F_q, P, R)
assert torch.allclose(
    rounds[0], toy.open(episodes[0], **RULES["cycle, weighted"]).trace.selections[0].weights[0], atol=1e-4
)
assert torch.allclose(rounds[2], default.trace.selections[0].weights[0], atol=1e-3)
print(f"tau {config.selection_temperature}, tau_c {config.consensus_temperature}: the same weights as the package's")

# %% [markdown]
# Of the episodes in which the cycle keeps ten cells or more, the code takes the one whose precision two rounds raise
# most, and the one whose precision they lower most.


# %% jupyter={"source_hidden": true} alt=["Two rows of the same query: what the plain cycle keeps, the weights (round 0), rounds 1 and 2. In the upper row the weight gathers on the object, in the lower row on another object. The titles give precision and recall."]
def steps_of(v):
    """What the plain cycle keeps and the weights of rounds 0, 1 and 2, [h, w] each."""
    kept, F_q = v.trace.selections[0].weights[0] > 0, v.trace.query[0].flatten(1)
    weights = [kept.float(), *default_rule(F_q, v.trace.prototype[0], kept)]
    return [one.view(v.batch.cells) for one in weights]


steps = [steps_of(v) for v, *_ in surveyed]
precisions = np.array(
    [[selection_quality(w, v.truth_shares)[0] for w in s] for s, (v, *_) in zip(steps, surveyed, strict=True)]
)
gains = precisions[:, 3] - precisions[:, 0]
enough = np.array([float(kept.sum()) >= 10 for kept, *_ in steps])
both = (np.where(enough, gains, -1).argmax(), np.where(enough, gains, 1).argmin())
assert len({surveyed[number][0].episode.query for number in both}) == 1  # the text below says so
figure, grid = plt.subplots(2, 4, figsize=(7.6, 4.5), layout="constrained")
for axes, number in zip(grid, both, strict=True):
    v = surveyed[number][0]
    for one, weights, name in zip(axes, steps[number], ("cycle", "round 0", "round 1", "round 2"), strict=True):
        precision, recall = selection_quality(weights, v.truth_shares)
        painted = np.kron((weights / weights.max()).numpy(), np.ones((4, 4)))  # a cell is 4 pixels wide
        title = f"{name}\nprec. {precision:.2f}, rec. {recall:.2f}"
        show_image(one, overlay(v.query_image, painted, BLUE, strength=1.0), title, outline=v.truth)
plt.show()
recalls = [selection_quality(w, surveyed[both[0]][0].truth_shares)[1] for w in steps[both[0]][1:]]
assert recalls[0] < 0.05 and 0.1 < recalls[2] < 0.3  # the text says: over part of it
better, worse = int((gains > 0.05).sum()), int((gains < -0.05).sum())
print(f"precision, round 2 minus plain cycle: {gains.mean():+.2f} on average; up in {better}, down in {worse} episodes")

# %% [markdown]
# *What to see:* the titles give precision and recall, the outline is the truth. It is the *same query*, with two
# supports (not shown). In both the cycle keeps cells on two objects. Above, the weights leave one, on the object, and
# the rounds gather there and spread over part of it: compare the recall of round 0 with that of round 2. Below, most of
# the weight lies on another object to begin with, and the rounds agree on *that* one. Consensus makes a selection
# clean; which object it is clean *of* is decided before it.
#
# ### Exercise 3.4: the temperature of the consensus (predict, then run, medium, 10 minutes)
#
# *Write down before you run:* what do precision and recall do if $\tau_c$ becomes ten times as small? Ten times as
# large? And the IoU of the mask, under this network? (Each: up, down, or about the same.)
#
# <details><summary>Hint 1</summary>
#
# A cell that is 0.1 less alike than the best one weighs $e^{-0.1 / \tau_c}$. Take $\tau_c$ = 0.04, then 0.4.
# </details>
#
# <details><summary>Hint 2</summary>
#
# At a very high temperature every cell of the query weighs nearly the same. Which share of them is the object?
# </details>


# %%
from IPython.display import HTML


def under(**switches):
    """Mean precision, recall and IoU of the sixty episodes with these switches."""
    all_opened = [toy.open(episode, **switches) for episode in episodes]
    quality = np.nanmean([selection_quality(v.trace.reliable[0], v.truth_shares) for v in all_opened], axis=0)
    return *quality, float(np.mean([v.iou for v in all_opened]))


def folded(what, page):
    """A table that opens at a click, so that it does not tell the answer beforehand."""
    return HTML(f"<details><summary>{what}</summary>{page._repr_html_()}</details>")


factors = (0.1, 1, 10)
cold, usual, hot = (under(consensus_temperature=factor * config.consensus_temperature) for factor in factors)
assert abs(cold[0] - usual[0]) < 0.1 and cold[1] < 0.2 < hot[1] and hot[0] < 0.2 and usual[2] > max(cold[2], hot[2])
rows = dict(zip(("precision", "recall", "mean IoU"), zip(cold, usual, hot, strict=True), strict=True))
rows = {"temperature": [f"{factor:g} times tau_c" for factor in factors], **rows}
folded("Your prediction first; then open this", table(rows, "Sixty episodes, other temperatures"))

# %% [markdown]
# <details><summary>Answer</summary>
#
# Cold: precision stays about the same, recall nearly vanishes: only the cells most like the mean count, a spot on the
# object. Hot: recall is high and precision falls to the object's share of the image: nearly all cells count alike, and
# $P_q$ is the mean of the whole query. The mask suffers at both ends, far more at the hot one: a spot of the object is
# still a prototype of the object, the mean of everything is none.
# </details>

# %% [markdown]
# ### Exercise 3.5: break the consensus (break it on purpose, medium, 10 minutes)
#
# The next cell starts the consensus, in each episode, from ten cells: `ON_OBJECT` of them lie on the object, the others
# on other objects. With 10 it should end on the object. Lower the number until the consensus breaks, that is, until
# two rounds leave most of the weight beside the object in more than half of the episodes. *Before you do:* at which
# number will that be? Do the rounds need a majority?
#
# <details><summary>Hint 1</summary>
#
# The ten cells are averaged. Towards which object does the mean lean if five of them are on the object, and the other
# five on *two* others?
# </details>
#
# <details><summary>Hint 2</summary>
#
# Try 8, 5, and then between.
# </details>

# %%
from dpnet_lite.model.cycle_comparison import consensus

ON_OBJECT = 10  # change me


def ends_on_the_object(n_on_object, n_cells=10, seed=0):
    """In each episode: does the consensus from random cells end with most of its weight on the object?"""
    generator, ends = np.random.default_rng(seed), []
    for v, *_ in surveyed:
        labels, own = shown_in_cells(toy.world[v.episode.query].labels, v.batch.cells), v.episode.class_index + 1
        start = torch.zeros(len(labels))
        for cells, count in ((labels == own, n_on_object), ((labels != own) & (labels > 0), n_cells - n_on_object)):
            start[generator.permutation(cells.nonzero().flatten().numpy())[:count]] = 1
        weights = consensus(v.trace.query, start[None, None], 2, config.consensus_temperature)[0, 0]  # two rounds
        ends.append(selection_quality(weights.view(v.batch.cells), v.truth_shares)[0] > 0.5)
    return np.array(ends)


print(f"{ON_OBJECT} of 10 cells on the object: {ends_on_the_object(ON_OBJECT).mean():.0%} of the episodes end there")

# %% jupyter={"source_hidden": true}
broken = [float(ends_on_the_object(count).mean()) for count in range(11)]
assert [round(100 * share) for share in broken[4:6]] == [48, 67] and max(broken[:4]) < 0.5 < min(broken[6:])
rows = {"of 10 cells on the object": list(range(11)), "episodes that end there": broken}
folded("All numbers from 0 to 10", table(rows, "Where two rounds of consensus end", formats="{:.0%}"))

# %% [markdown]
# <details><summary>Answer</summary>
#
# It breaks at 4: only 48 % of the episodes still end on the object. With 5, which is no majority, 67 % do: the rest is
# divided between several objects, whose features do not add up to one dense place. The plain cycle usually gives a good
# half and more: its mean precision is in the table of rules below.
# </details>

# %% [markdown]
# ### Several shots
#
# You may skip this part at a first reading, down to *Rules side by side*.
#
# <details><summary>With K support images</summary>
#
# Each shot has its own cycles and its own weights; each shot's weights are
# brought to a sum of 1 and averaged ![our choice](../figures/badges/ours.svg):
#
# $$v = \frac{1}{K} \sum_{k=1}^{K} \frac{w^{(k)}}{\sum_i w^{(k)}_i}, \qquad P_q = \sum_i v_i F_q(i)$$
#
# So the shots of P are averaged as *vectors* (lesson 2), those of $P_q$ as *selections* in the one query.
# </details>

# %% jupyter={"source_hidden": true}
several = toy.open(toy.episodes(n_shot=3)[0])
each = [selection.weights[0] / selection.weights[0].sum() for selection in several.trace.selections]  # K of [N_q]
share = sum(each) / len(each)
assert torch.allclose(share, several.trace.reliable[0].flatten(), atol=1e-5)
P_q = (several.trace.query[0].flatten(1) * share).sum(dim=1)  # [C]
assert torch.allclose(P_q, several.trace.pseudo_prototype[0], atol=1e-3)

# %% jupyter={"source_hidden": true} alt=["Above, three supports with outlines; below, what the cycles of each select in the same query. On the right the query and the average of the three selections."]
figure, grid = plt.subplots(2, 4, figsize=(7.6, 4.2), layout="constrained")
for shot in range(3):
    show_image(grid[0, shot], several.support_images[shot], f"support {shot + 1}", outline=several.support_masks[shot])
show_image(grid[0, 3], several.query_image, f"query: {several.class_name}", outline=several.truth)
for one, weights, name in zip(grid[1], [*each, share], ("of shot 1", "of shot 2", "of shot 3", "average"), strict=True):
    painted = np.kron((weights / weights.max()).view(several.batch.cells).numpy(), np.ones((4, 4)))
    show_image(one, overlay(several.query_image, painted, BLUE, strength=1.0), name, outline=several.truth)
plt.show()

# %% [markdown]
# *What to see:* above, what each shot offers; below, what its cycles and the consensus select in the same query, and
# the average. A shot that is misled is outvoted, not silenced: what it selects stays in with a third of the weight.
#
# ### Rules side by side
#
# The shipped network runs with each rule in turn; its weights stay those that were trained with the default rule. So
# the last column says what a rule is worth *to this network*, not what it would be worth to one that was trained with
# it.
#
# - *plain cycle*: section 3.2. *cycle, weighted*: round 0. *cycle, weighted, consensus*: the default.
# - *query first*: every query cell is asked whether its nearest support cell closes a cycle
#   ![our choice](../figures/badges/ours.svg).
# - *threshold*: cosine with P above a fixed value, after SSP. *top k*: the k cells most like P
#   ![our choice](../figures/badges/ours.svg). The cell prints both numbers. Here both stand without weights and
#   consensus.
# - *oracle*: the query's true mask. No method, but a guide to what a better selection could give.
#
# Where weights are not just yes and no, precision is the share of the *weight* on the object, and a cell counts as
# selected from half of the largest weight on. *To own* is the cosine of $P_q$ with the query's own prototype, as in
# 3.3.

# %%
print(f"threshold: {config.selection_threshold}, top k: {config.selection_count} cells")
names = ("precision", "recall", "to own", "mean IoU")
short = [rule.removeprefix("cycle, weighted, consensus (").rstrip(")") for rule in RULES]
lines = {"rule": [*short, "P itself"], **{name: [] for name in names}}
for switches in RULES.values():
    all_opened = [toy.open(episode, **switches) for episode in episodes]
    quality = np.nanmean([selection_quality(v.trace.reliable[0], v.truth_shares) for v in all_opened], axis=0)
    of_p, of_pseudo = np.mean([to_own(v) for v in all_opened], axis=0)
    for name, value in zip(names, (*quality, of_pseudo, np.mean([v.iou for v in all_opened])), strict=True):
        lines[name].append(float(value))
for name, value in zip(names, (None, None, float(of_p), None), strict=True):
    lines[name].append(value)
table(lines, "Rules of selection in the shipped network, sixty episodes at gap 0.5", strong=[2])

# %% jupyter={"source_hidden": true} alt=["A mark per rule, recall to the right, precision upwards. Weighted cycle, top k, the default and the oracle lie at about the same height, from left to right; threshold and query first lie lower and far to the right."]
figure, axes = plt.subplots(figsize=(5.6, 4), layout="constrained")
markers = ["o", "s", "D", "^", "v", "P", "X"]
colours = ["#0072B2", "#56B4E9", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#000000"]
for number, (name, marker, colour) in enumerate(zip(RULES, markers, colours, strict=True)):
    place = (lines["recall"][number], lines["precision"][number])
    axes.scatter(*place, s=90, marker=marker, color=colour, label=name)
axes.set(xlim=(0, 1.05), ylim=(0, 1.05))
axes.set_xlabel("recall", fontsize=12)
axes.set_ylabel("precision", fontsize=12)
axes.legend(frameon=False, loc="lower left", fontsize=10)
plt.show()

# %% [markdown]
# *What to see:* each mark is a rule; up is cleaner, right is more of the object. The plain cycle keeps few cells. The
# weights make it cleaner and smaller still. The consensus gives back recall at about the same precision: the cells
# that resemble the trusted ones join them. The oracle is not at precision one because border cells are only partly
# foreground. The last column of the table shows how much is left between the default and the oracle. Compare *top k* as
# well: no cycle at all, and a selection as clean as the weighted cycle's. By the cosine *to own* every rule is
# ahead of P itself, but it hardly tells the rules apart; lesson 9 says why a plain cosine is a blunt measure here.
#
# ## 3.6 Precision and the mask
#
# Does a clean selection go along with a good mask? Each dot is one of the episodes, under the default rule.

# %% jupyter={"source_hidden": true} alt=["A dot per episode, precision of the selection to the right, IoU of the mask upwards: a dense cluster at the upper right, a few complete misses at the lower left, some in between."]
all_opened = [toy.open(episode) for episode in episodes]
precision = np.array([selection_quality(v.trace.reliable[0], v.truth_shares)[0] for v in all_opened])
ious = np.array([v.iou for v in all_opened])
figure, axes = plt.subplots(figsize=(4.4, 4), layout="constrained")
axes.scatter(precision, ious, color=BLUE, alpha=0.6)
axes.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.03))
axes.set_xlabel("precision of the selection", fontsize=12)
axes.set_ylabel("IoU of the mask", fontsize=12)
plt.show()
clean = precision >= 0.5
print(f"precision of a half or more: {clean.sum()} episodes, mean IoU {ious[clean].mean():.2f}")
if (~clean).any():
    print(f"less than a half: {(~clean).sum()} episodes, mean IoU {ious[~clean].mean():.2f}")

# %% [markdown]
# *What to see:* a dense cluster at the upper right, a few complete misses at the lower left, and some in between. Where
# the selection lies on another object, the mask fails as well; lesson 8 tests whether the one causes the other. And a
# clean selection is no promise: look how far down the dots at the right reach. [Results](../docs/results.md) counts
# over many episodes.

# %% [markdown]
# ## 3.7 Follow a cycle yourself
#
# With a running kernel: choose the world (the drawn world, or photographs, which have neither fold nor gap), an episode
# and a rule. *Click* on a cell of the support (or move the start with `row` and `column`), and watch where the way back
# ends. Click on a cell of the *query* to follow the way back from it. A button shows a failure, and says why it is one.
# The verdict above the query is the plain cycle's; on the right you see what the chosen rule selects.
#
# *Find* a start on the object from which the way back ends on *another object* of the support. Is there one in the
# opening episode? And with the class *striped star*?

# %%
from dpnet_lite.course.explorers.apps import cycle_explorer

cycle_explorer()

# %% [markdown]
# <details><summary>Answer</summary>
#
# In the opening episode there is none: every way back ends on the object or on background. With *striped star* there
# are 12 among 75 starts, for instance row 18, column 18: the match lies on a striped cross, and the way back ends on
# the striped cross of the support. There the rejection does what it should. But of the 42 cycles whose match lies on
# another object it rejects only 12. (Class *striped star*, fold 0, gap 0.5, seed 0; the next cell follows every cycle.)
# </details>

# %% jupyter={"source_hidden": true}
from dpnet_lite.course.explorers.episode import pick_episode

novel_names = [toy.class_names[index] for index in toy.novel]
opening, star = (places_of(pick_episode(toy, novel_names.index(name))) for name in ("striped heart", "striped star"))
assert not (opening[3] == 1).any()  # what the answer says
v, cycles, match, landing = star
start = int((cycles.starts == 18 * v.batch.cells[1] + 18).nonzero())
assert len(landing) == 75 and (landing == 1).sum() == 12 and match[start] == landing[start] == 1
assert (match == 1).sum() == 42 and (cycles.outcomes[match == 1] >= 2).sum() == 12
for image, cells in ((v.episode.query, cycles.matches), (v.episode.support[0], cycles.landings)):
    label = int(shown_in_cells(toy.world[image].labels, v.batch.cells)[cells[start]])
    assert toy.class_names[label - 1] == "striped cross"

# %% [markdown]
# ## Recap
#
# - A support cell points to its nearest query cell; the query cell is kept if its own nearest support cell lies in the
#   mask ![precedent](../figures/badges/precedent.svg) *CyCTR*.
# - The weighted mean of what is kept is the pseudo-prototype $P_q$: the pseudo-prototype is
#   ![stated](../figures/badges/stated.svg), the mean is ![our choice](../figures/badges/ours.svg).
# - The way back rejects some matches on background, but hardly any on other objects. Weights and consensus make the
#   selection clean and large.
#
# What are these steps worth in networks that were *trained* with them? [Lesson 11](11_ablations.ipynb) tells how that
# is measured; the next cell reads the same stored runs, which come with the package. Each difference is paired: the
# same folds, seeds, training and test episodes. In that study, *threshold* and *top 12* replace the cycle, both steps
# of it, and keep weights and consensus; *plain cycle* keeps the cycle and leaves out weights and consensus, both at
# once.
#
# Do not be surprised by other numbers than in 3.5: above, the network was trained with the default rule and only run
# with another one. Here each network was trained with its rule; one trained with the oracle has learnt to rely on $P_q$
# wholly.

# %%
from dpnet_lite.ablation.comparisons import judge
from dpnet_lite.ablation.studies import load_study
from dpnet_lite.ablation.table import shipped_rows
from dpnet_lite.experiments.intervals import percent

study = load_study("selection")
judged = {
    data: {e.comparison.name: e for e in judge(study, shipped_rows("selection", data))} for data in ("toy", "photos")
}
points = {
    data: {name: percent(e.difference, e.interval, signed=True) for name, e in entries.items()}
    for data, entries in judged.items()
}
SHOWN = {
    "support first": "default minus support only (no P_q)",
    "threshold": "threshold 0.7 minus default",
    "top 12": "twelve best cells minus default",
    "plain cycle": "without weights and consensus minus default",
    "oracle": "oracle minus default",
}
rows = {"difference": list(SHOWN.values())}
for data, heading in (("toy", "drawn world"), ("photos", "photographs (COCO, VGG-16)")):
    rows[heading] = [points[data][name] for name in SHOWN]
table(rows, "Points of mIoU [95 % interval], trained with each rule; one shot")

# %% jupyter={"source_hidden": true}
toy_found, photo_found = judged["toy"], judged["photos"]
assert toy_found["support first"].verdict == toy_found["oracle"].verdict == photo_found["oracle"].verdict == "better"
for entries in judged.values():  # no cycle at all is no worse: at most 0.3 points are left to the cycle
    assert all(
        entries[name].interval.low > -0.003 and entries[name].interval.low <= 0 for name in ("threshold", "top 12")
    )
assert toy_found["plain cycle"].verdict == "worse" and toy_found["plain cycle"].p_corrected < 0.05
assert photo_found["plain cycle"].interval.low < 0 < photo_found["plain cycle"].interval.high
assert photo_found["support first"].interval.low < 0 < photo_found["support first"].interval.high
toy_points, photo_points = points["toy"], points["photos"]
claim(
    "<b>The cycle, and so its way back, adds nothing measurable.</b> With weights and consensus left as they are, a "
    f"threshold in its place changes mIoU by {toy_points['threshold']} points, the twelve cells most like P by "
    f"{toy_points['top 12']} (drawn world); on photographs by {photo_points['threshold']} and {photo_points['top 12']}. "
    f"What counts on the drawn world is that there is a P<sub>q</sub>, {toy_points['support first']} over support only, "
    f"and weights with consensus, without which it changes by {toy_points['plain cycle']}; on photographs neither is "
    f"measurable ({photo_points['support first']}, {photo_points['plain cycle']}). A perfect selection, an upper "
    f"bound that tells the network the truth, would add {toy_points['oracle']} and {photo_points['oracle']}."
)

# %% [markdown]
# **Further reading.** Zhang et al., *Few-shot segmentation via cycle-consistent transformer*, NeurIPS 2021 (CyCTR); Fan
# et al., *Self-support few-shot semantic segmentation*, ECCV 2022 (SSP);
# [The method](../docs/method.md#cycle-comparison-module-ccm).
#
# Previous: [2 The support prototype](02_support_prototype.ipynb).
# Next: [4 Prototype interaction](04_prototype_interaction.ipynb)
#
# ## Five questions

# %%
quiz("03")
