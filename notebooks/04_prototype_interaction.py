# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 4. Prototype interaction: what the two prototypes make of each other
#
# [Start here](00_start_here.ipynb) | [1 The task](01_few_shot_segmentation.ipynb) |
# [2 The support prototype](02_support_prototype.ipynb) | [3 Cycle comparison](03_cycle_comparison.ipynb) |
# **4 Prototype interaction** | [5 Multi-scale fusion](05_multi_scale_fusion.ipynb)
#
# ![The network from images to mask. Lit: the prototype interaction module, which takes P, P_q and F_q and gives
# P', P_q' and F_q'; the rest is faded](../figures/network_4.svg)
#
# **What you will learn.** How the correlation of P and $P_q$ serves to reinforce three things, and how to measure
# whether it does.
#
# **What you need.** [Notebook 3](03_cycle_comparison.ipynb): P, $P_q$ and the reliable set; what a softmax and a small
# fully connected network are.
#
# **Time.** About 65 minutes: 30 to read, 35 for the exercises. The cells run in about half a minute.

# %%
# %matplotlib inline
from contextlib import contextmanager

import matplotlib.pyplot as plt
import numpy as np
import torch
import torch.nn.functional as functional
from scipy.stats import ttest_1samp

from dpnet_lite.course.exercises.lesson_04 import check_reinforced, reinforced
from dpnet_lite.course.explorers.episode import pick_episode, toy_episodes
from dpnet_lite.course.live_training import small_toy_fold
from dpnet_lite.course.page import claim, table
from dpnet_lite.episodes import draw_episodes
from dpnet_lite.experiments.intervals import paired_difference, percent
from dpnet_lite.experiments.plots import BLUE, GREEN, ORANGE
from dpnet_lite.scoring import head_segmenter, score_episodes

plt.rcParams.update({"font.size": 13})
toy = toy_episodes(0, gap=0.5)
episodes = toy.episodes(count=60)
opened = toy.open(episodes[0])  # what the network made of one episode; .trace holds all that came about on the way
P, P_q = opened.trace.prototype[0], opened.trace.pseudo_prototype[0]  # [C] each
F_q = opened.trace.query[0]  # [C, h, w]
print(f"class: {opened.class_name}; C = {len(P)} channels")

# %% [markdown]
# ## 4.1 The idea
#
# There are now two summaries of one class. P comes from the support: its mask is certain, but it shows *another* object.
# $P_q$ comes from the query: it shows *this* object, but nobody has confirmed its pixels. Each may know what the other
# lacks.
#
# A prototype is a list of C numbers, one per **channel**, and each channel is a small detector: one answers to stripes,
# another to blue. The prototype interaction module (PIM) does two things with the channels:
#
# 1. **Exchange.** Every channel of P looks at all channels of $P_q$ and takes a little from them; and the other way
#    round.
# 2. **Weights.** Both prototypes together decide how much each channel counts *in this episode*, like the volume
#    controls of a mixing desk: where support and query differ in colour, colour should be turned down.
#
# ![stated](../figures/badges/stated.svg) The correlation of P and $P_q$ serves to reinforce three things: P, $P_q$ and
# the query feature $F_q$. ![our choice](../figures/badges/ours.svg) No formula is public and no relative does the same,
# so every formula below is ours.
#
# Four channels and made-up numbers will do to see each step. The support's object is striped and blue; the query's is
# striped and bright, but not blue.

# %%
CHANNELS = ("stripes", "blue", "round", "bright")
hand_P = torch.tensor([2.0, 1.5, 0.0, 0.5])
hand_P_q = torch.tensor([2.0, 0.0, 0.0, 1.5])

# %% [markdown]
# ## 4.2 A table of all pairs of channels
#
# $$A = \frac{P\,P_q^\top}{\sqrt{C}}$$
#
# A has C rows and C columns. Entry (a, b) is large where channel a is strong in P *and* channel b is strong in $P_q$.
# The root of C keeps the numbers in range when there are many channels.
#
# Do not mix up two correlations: S of lesson 3 compares *cells* of two images, A compares *channels* of two vectors.

# %%
hand_A = torch.outer(hand_P, hand_P_q) / len(hand_P) ** 0.5  # [C, C]


# %% alt=["A table of 4 by 4 numbers, darkest where both prototypes are strong: 2.0 for stripes and stripes, 1.5 for stripes and bright and for blue and stripes; the row and the column of round are 0"] jupyter={"source_hidden": true}
def show_table(axes, values, title):
    """Numbers of channel pairs in cells, darker where larger."""
    axes.imshow(values, cmap="Blues", vmin=0, vmax=float(values.max()) * 1.8)
    for (row, column), value in np.ndenumerate(values.numpy()):
        axes.text(column, row, f"{value:.2f}", ha="center", va="center", color="black")
    axes.set_xticks(range(len(CHANNELS)), CHANNELS, rotation=45, ha="right")
    axes.set_yticks(range(len(CHANNELS)), CHANNELS)
    axes.set(xlabel="channel of $P_q$", ylabel="channel of $P$", title=title)


figure, axes = plt.subplots(figsize=(5, 4.2), layout="constrained")
show_table(axes, hand_A, "$A$")
plt.show()

# %% [markdown]
# ### Exercise 4.1: a channel that is silent (predict, then run, easy, 5 minutes)
#
# The next step turns every row of A into weights that add up to 1, with a softmax. *Round* is 0 in P, so its row of A
# is all 0. Which weights does this row get, and what then does *round* take from $P_q$? Write your answer down; then
# run `hand_A.softmax(dim=1)` in a cell of your own, or read on.
#
# <details><summary>Hint 1</summary>A softmax is exp(value), divided by the sum of all exp(value) of the row.</details>
#
# <details><summary>Hint 2</summary>exp(0) is 1, for every entry of that row.</details>
#
# <details><summary>Answer</summary>Every weight is 1/4: the channel looks at all channels of $P_q$ alike and takes
# their plain mean, 0.875. So even a channel that is silent in P takes something: the exchange cannot say "nothing here
# concerns me". That is a weakness of this formula.</details>

# %% jupyter={"source_hidden": true}
assert (hand_A[2].softmax(dim=0) == 1 / 4).all() and hand_P_q.mean() == 0.875  # the row of "round"; the answer says so

# %% [markdown]
# ## 4.3 The exchange
#
# $$P^+ = P + g_1\,\mathrm{softmax_{row}}(A)\,P_q, \qquad P_q^+ = P_q + g_2\,\mathrm{softmax_{row}}(A^\top)\,P$$
#
# The softmax of a row gives weights, and so every channel of P takes a weighted mean of the channels of $P_q$; then the
# same the other way round. This is *attention*, between channels in place of words. $g_1$ and $g_2$ are two learned
# numbers that start at 0: training begins without any exchange. For the channel *stripes*, with $g_1 = 0.5$:

# %%
weights_of_stripes = hand_A[0].softmax(dim=0)  # [C], they add up to 1
taken = (weights_of_stripes * hand_P_q).sum()  # a weighted mean of P_q's channels
print(f"stripes: {hand_P[0]:.2f} + 0.5 * {taken:.2f} = {hand_P[0] + 0.5 * taken:.2f}")

# %% alt=["Left, the softmax of each row of A: stripes looks mostly at stripes and bright, round at all four alike, 0.25 each. Right, bars of the four channels of P before and after the exchange: all grow, by 0.4 to 0.8"] jupyter={"source_hidden": true}
figure, (left, right) = plt.subplots(1, 2, figsize=(9, 4.2), layout="constrained")
attention = hand_A.softmax(dim=1)
show_table(left, attention, "softmax of each row")
places = np.arange(len(CHANNELS))
right.bar(places - 0.2, hand_P, 0.4, color=BLUE, label="$P$")
right.bar(places + 0.2, reinforced(hand_P, hand_P_q, 0.5, 0)[0], 0.4, color=ORANGE, label="$P^+$")
right.set_xticks(places, CHANNELS, rotation=45, ha="right")
right.set_title("the exchange with $g_1 = 0.5$")
right.legend(frameon=False)
plt.show()

# %% [markdown]
# *What to see:* strong channels attend to strong channels, and weak ones to all alike. Every channel of P grows, *round*
# too, which neither prototype has: much of what is added is one and the same mean. Keep this in mind for section 4.5,
# where training has chosen $g_1$ and $g_2$.

# %% [markdown]
# ### Exercise 4.2: reinforce both prototypes (write, medium, 15 minutes)
#
# Write `my_reinforced(P, P_q, g1, g2)` for two prototypes [C] and two numbers, without a loop over the channels. Return
# $(P^+, P_q^+)$.
#
# <details><summary>Hint 1</summary>A table of weights [C, C] times a vector [C], with <code>@</code>, is the weighted
# mean of every row at once.</details>
#
# <details><summary>Hint 2</summary>For the way back transpose A <i>first</i>, then take the softmax along the rows of
# what you get: <code>dim=1</code> both times.</details>


# %% jupyter={"source_hidden": true}
def my_reinforced(P: torch.Tensor, P_q: torch.Tensor, g1: float, g2: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Each prototype with what it takes from the other."""
    # BEGIN SOLUTION
    A = torch.outer(P, P_q) / len(P) ** 0.5  # [C, C]
    return P + g1 * A.softmax(dim=1) @ P_q, P_q + g2 * A.T.softmax(dim=1) @ P
    # END SOLUTION


# %% tags=["check"]
check_reinforced(my_reinforced)

# %% [markdown]
# ## 4.4 A weight for each channel
#
# $$\mathrm{gate} = \sigma(\mathrm{MLP}[P^+;\,P_q^+;\,P^+ * P_q^+]), \qquad u = 2\,\mathrm{gate}$$
#
# The MLP is two linear layers with a ReLU between them, * multiplies element by element, and $\sigma$ is the logistic
# function: the gate has one number between 0 and 1 per channel, and u is twice that. A weight of 1 leaves the channel
# as it is, 2 doubles it, 0 closes it. Then all three get the *same* weights:
#
# $$P' = u * P^+, \qquad P_q' = u * P_q^+, \qquad F_q' = u * F_q$$
#
# Why the same? Because they are to be compared, by a cosine, channel by channel. An example: the query has a cell on the
# object (striped, bright) and one on something else (blue, roundish, a little striped). Let u turn both colours down:

# %%
on_object, elsewhere = torch.tensor([1.2, 0.0, 0.2, 1.6]), torch.tensor([0.6, 1.5, 0.9, 0.2])  # cells of F_q
u = torch.tensor([1.5, 0.2, 1.0, 0.2])
for name, cell in (("on the object", on_object), ("elsewhere", elsewhere)):
    before = functional.cosine_similarity(cell, hand_P, dim=0)
    after = functional.cosine_similarity(u * cell, u * hand_P, dim=0)
    print(f"{name}: cosine with P {before:.2f}, with both weighted {after:.2f}")

# %% [markdown]
# Unweighted, the support's blue misleads: the wrong cell is *more* similar. Weighted, it is the right one. That is what
# the module could do; sections 4.6 and 4.7 look at what it does.

# %% [markdown]
# ### Exercise 4.3: who is weighted? (predict, then run, easy, 5 minutes)
#
# First: suppose that the gate is 0.9 in *every* channel, so u = 1.8 everywhere. What happens to the two cosines? Second:
# what, if only P is weighted with the u of the example, and the cells are not? Predict up, down or the same for both
# cells, then change the cell above and run it.
#
# <details><summary>Hint 1</summary>A cosine divides by the lengths of both vectors.</details>
#
# <details><summary>Hint 2</summary>If only P is weighted, the colours of a cell still count in its own length, but they
# hardly meet anything in P any more.</details>
#
# <details><summary>Answer</summary>First: nothing at all, a cosine sees directions only. (The fusion of lesson 5 also
# gets the vectors themselves, and they are 1.8 times as long.) Second: the wrong cell falls, from 0.75 to 0.40, but the
# object's cell stays at 0.62: its brightness, which P hardly shares, still stands in its length and holds the cosine
# down. Weighted on one
# side, a colour counts as a <i>mismatch</i>; weighted on both, it does not count. Only the second makes the colour
# irrelevant.</details>

# %% jupyter={"source_hidden": true}
of_example = torch.tensor([1.5, 0.2, 1.0, 0.2])
for cell, wanted in ((on_object, (0.62, 0.62)), (elsewhere, (0.75, 0.40))):  # what the answer says
    found = [functional.cosine_similarity(cell, p, dim=0).item() for p in (hand_P, of_example * hand_P)]
    assert np.allclose(found, wanted, atol=0.005)

# %% [markdown]
# ## 4.5 The same with the network's numbers
#
# The formulas once more, now with what the shipped network has learned; `trace` holds what it computed itself.

# %%
module = toy.head.interaction
with torch.no_grad():
    g1, g2 = module.g1.item(), module.g2.item()
    A = P[:, None] * P_q[None, :] / len(P) ** 0.5  # [C, C]
    P_plus, P_q_plus = reinforced(P, P_q, g1, g2)  # as in exercise 4.2
    gate = module.gate(torch.cat([P_plus, P_q_plus, P_plus * P_q_plus]))  # the MLP with the logistic function, [C]
    u = 2 * gate
    P_new, P_q_new, F_q_new = u * P_plus, u * P_q_plus, u[:, None, None] * F_q

theirs = opened.trace.interaction
assert torch.allclose(A, theirs.correlation[0], atol=1e-4)
assert torch.allclose(P_new, theirs.prototype[0], atol=1e-4)
assert torch.allclose(P_q_new, theirs.pseudo_prototype[0], atol=1e-4)
assert torch.allclose(F_q_new, theirs.query[0], atol=1e-4)
learned = {"number": ["g1", "g2", "smallest u", "largest u"], "value": [g1, g2, u.min().item(), u.max().item()]}
table(learned, "What training has made of it", formats="{:+.2f}")

# %% [markdown]
# ## 4.6 Look inside

# %% alt=["Above: support, query and the correlation A, bright in its upper left corner. Middle and below: the cosine maps of P and P_q before the interaction, what the interaction changes in them, the weights u around 1, and the attention of channel 0, which falls from 2 to below 1"]
from dpnet_lite.course.explorers.interaction import interaction_figure

interaction_figure(opened)

# %% [markdown]
# *What to see:* above, the support, the query and the table A, with its channels in the order of P, strong ones first
# (the colours follow the root of A: most entries are small, and would all be black).
# Below, left, the cosine of every query cell with P and with $P_q$ *before* the interaction; in the middle what the
# interaction *changes* in these maps: purple is up, orange down (look at the small numbers of its scale). Right, the
# weight of every channel, and how channel 0 of P attends to the channels of $P_q$: each weight is multiplied by C, so
# that 1 is the plain mean. The grey line at 1 is no change, and that mean. White outlines are the truth.
#
# In this episode the background rises a little in P's map and all objects fall, the true one least; in $P_q$'s map all
# falls but the true object. So the other objects lose against the true one, but by far too little to change the order of
# the cells. The two learned numbers of section 4.5 say the same: training has kept $g_1$ and $g_2$
# small. Look at their signs as well. A negative one means that training came to *subtract* a little of the other
# prototype, which is not what *reinforce* suggests.

# %% [markdown]
# ## 4.7 Does it help the trained network? Over many episodes
#
# *Best IoU* is the IoU of a similarity map with the best threshold for that query, as in notebook 2. It is taken four
# times: before; with the exchange alone ($P^+$ for P); with the weights alone (u P and u $F_q$); with both (P' and
# $F_q'$). Then cosines between prototypes; *own* is the prototype that the query's true mask would give, weighted as
# the others are.

# %%
from dpnet_lite.course.opened_episode import best_threshold_iou
from dpnet_lite.model.prototypes import cosine_map, masked_average

all_opened = [toy.open(episode) for episode in episodes]
WAYS = ("before", "exchange", "weights", "both")
KINDS = {"prototype": "P", "pseudo_prototype": "P_q"}


def vectors(v, way: str) -> dict[str, torch.Tensor]:
    """Both prototypes and the own one, [1, C], and the query feature [1, C, h, w], in one of the four ways."""
    old, new = v.trace, v.trace.interaction
    u = new.weights if way in ("weights", "both") else torch.ones_like(new.weights)  # [1, C]
    found = {name: getattr(old, name) for name in KINDS}
    if way in ("exchange", "both"):
        found = {name: getattr(new, name) / new.weights for name in KINDS}  # P+ and P_q+
    found["own"] = masked_average(old.query, v.truth_shares[None])
    return {**{name: u * value for name, value in found.items()}, "query": u[..., None, None] * old.query}


# %%
by_way = [[vectors(v, way) for way in WAYS] for v in all_opened]
rows = {}
best = {}
for kind, name in KINDS.items():
    maps = [[cosine_map(one["query"], one[kind])[0] for one in each] for each in by_way]
    truths = [v.truth_shares >= 0.5 for v in all_opened]
    scores = [[best_threshold_iou(found, truth) for found in each] for each, truth in zip(maps, truths, strict=True)]
    best[kind] = 100 * np.array(scores)  # [episodes, 4]
    rows[f"best IoU, {name}"] = best[kind].mean(axis=0)
for first, second in (("prototype", "pseudo_prototype"), ("prototype", "own"), ("pseudo_prototype", "own")):
    cosines = [[functional.cosine_similarity(one[first], one[second]).item() for one in each] for each in by_way]
    rows[f"{KINDS[first]}, {KINDS.get(second, second)}"] = 100 * np.mean(cosines, axis=0)
columns = {way: [row[number] for row in rows.values()] for number, way in enumerate(WAYS)}
before, after = (rows["P, own"][number] / 100 for number in (0, 3))
assert after < before
print(f"Nor does P come nearer to own: cosine {before:.3f} before, {after:.3f} after both")
caption = "Best IoU of a map in %, and 100 x the cosine of two prototypes: means over the episodes"
table({"": list(rows), **columns}, caption, formats="{:.1f}")

# %% alt=["Two scatter plots, of P's map and of P_q's map: best IoU after both steps against best IoU before; most of the 60 dots lie close to the diagonal"] jupyter={"source_hidden": true}
figure, grid = plt.subplots(1, 2, figsize=(8, 4), layout="constrained", sharey=True)
for axes, (kind, name) in zip(grid, (("prototype", "$P$"), ("pseudo_prototype", "$P_q$")), strict=True):
    axes.plot([0, 104], [0, 104], color="grey", linewidth=1)
    axes.scatter(best[kind][:, 0], best[kind][:, 3], color=BLUE, alpha=0.6)
    axes.set(xlabel="best IoU before, %", xlim=(0, 104), ylim=(0, 104), aspect=1, title=f"map of {name}")
grid[0].set_ylabel("best IoU after both, %")
plt.show()

# %% [markdown]
# *What to see:* one dot per episode; above the grey line the whole interaction made the map better. The table says
# which step does what: compare *exchange* with *before*, then *weights* with *before*. Neither moves the maps by much on
# average. The prototypes themselves do move: both steps make P and $P_q$ a little less alike, and P does not come nearer
# to *own*, what the query's object really looks like; lesson 9 finds in which direction they go.
#
# The weights do differ, from channel to channel and from episode to episode:

# %% alt=["The weight u of each of 64 channels in order of its median, which falls from about 1.2 to 0.8; a light band of the middle 80 percent of the episodes is about 0.3 wide everywhere"] jupyter={"source_hidden": true}
all_u = torch.cat([v.trace.interaction.weights for v in all_opened])  # [episodes, C]
order = all_u.mean(dim=0).argsort(descending=True)
figure, axes = plt.subplots(figsize=(8, 3.4), layout="constrained")
low, middle, high = np.quantile(all_u[:, order].numpy(), [0.1, 0.5, 0.9], axis=0)
axes.fill_between(range(len(P)), low, high, color=BLUE, alpha=0.25, label="middle 80 % of the episodes")
axes.plot(middle, color=BLUE, label="median")
axes.axhline(1, color="grey", linewidth=1)
axes.set(xlabel="channel, by its mean weight", ylabel="weight $u$", ylim=(0, 2))
axes.legend(frameon=False)
plt.show()
between, within = all_u.mean(dim=0).std(), all_u.std(dim=0).mean()
print(f"u differs by {between:.2f} from channel to channel, and by {within:.2f} from episode to episode")

# %% [markdown]
# *What to see:* the grey line, 1, leaves a channel as it is. A narrow band away from it is the same in every episode
# and could as well have been learned by the reduction; a wide band means that the weight depends on the prototypes,
# which is what it is for.

# %% [markdown]
# ### Exercise 4.4: pull the plug (break it on purpose, medium, 10 minutes)
#
# The next cells damage the trained interaction in four ways and score the *masks* again: without any interaction;
# with u of a wrong channel (each channel gets its neighbour's weight); with u on the prototypes but not on the query,
# against the rule of section 4.4; and with P' and $P_q'$ in each other's place. Rank the four by the harm that you
# expect, then run the cells and explain the result. They have novel classes; would you expect the same on *base*
# classes, with which the network was trained? The last cell tests it.
#
# <details><summary>Hint 1</summary>Three of the four still let all three things be compared in the same channels.
# </details>
#
# <details><summary>Hint 2</summary>How far from 1 are the weights, and how many of the 12 comparison maps of lesson 5
# come from features that never pass the interaction? (Eight: those of the frozen features.)</details>
#
# <details><summary>Answer</summary>Almost nothing breaks. Look at the standard errors: no damage does harm that can be
# told from 0, and without the interaction, or without u on the query, these masks are even a little <i>better</i>,
# although the network was trained with it. The weights are close to 1, so that a wrong one does little, and most of the
# comparison comes from frozen features. Exchanged, the masks of novel classes get better, by 3.7 points of IoU on these
# 60 episodes, by 2.1 of mIoU on 200; trust the second. Both are more than chance would do: training has learned to use
# P' and $P_q'$ in a way that does not suit classes it never saw. On base classes the exchange changes nothing that can
# be told from 0. (One network, one fold; why it is so, this does not tell.) Without this test one might have read much
# into the picture of section 4.6.</details>


# %%
@contextmanager
def damaged(change):
    """The head with `change(old, new)` behind its interaction; old is (P, P_q, F_q), new what came out."""
    hook = module.register_forward_hook(lambda _, old, new: change(old, new))
    try:
        yield
    finally:
        hook.remove()


def neighbours_weights(old, new):
    u = new.weights.roll(1, dims=1)  # [B, C]
    turn = u / new.weights
    query = new.query * turn[:, :, None, None]
    return new._replace(
        prototype=new.prototype * turn, pseudo_prototype=new.pseudo_prototype * turn, query=query, weights=u
    )


DAMAGES = {
    "no interaction": lambda old, new: new._replace(
        prototype=old[0], pseudo_prototype=old[1], query=old[2], weights=torch.ones_like(new.weights)
    ),
    "u of the neighbour channel": neighbours_weights,
    "u not on the query": lambda old, new: new._replace(query=old[2]),
    "P' and P_q' exchanged": lambda old, new: new._replace(
        prototype=new.pseudo_prototype, pseudo_prototype=new.prototype
    ),
}

# %%
intact = np.array([v.iou for v in all_opened])
losses = {}
for name, change in DAMAGES.items():
    with damaged(change):
        losses[name] = 100 * (np.array([toy.open(episode).iou for episode in episodes]) - intact)
rows = {
    "damage": list(losses),
    "IoU changes by": [f"{loss.mean():+.1f}" for loss in losses.values()],
    "standard error": [loss.std(ddof=1) / len(loss) ** 0.5 for loss in losses.values()],
}
caption = f"Masks of {len(intact)} episodes with a damaged interaction, in points; intact: {100 * intact.mean():.1f} %"
table(rows, caption, formats="{:.1f}")

# %%
data = small_toy_fold(0)  # scenes with base classes, and other scenes with the novel ones
differences = {}
for name, bank, classes in (("base", data.train, data.base), ("novel", data.test, data.novel)):
    drawn = draw_episodes(bank.dataset, classes, fold=0, n_shot=1, count=200, seed=1)
    whole = score_episodes(head_segmenter(toy.head), bank, drawn)
    with damaged(DAMAGES["P' and P_q' exchanged"]):
        differences[name] = paired_difference(score_episodes(head_segmenter(toy.head), bank, drawn), whole)
told_exchanged = [percent(*difference, signed=True) for difference in differences.values()]
table({"classes": list(differences), "mIoU, points [95 %]": told_exchanged}, "P' and P_q' exchanged, 200 episodes each")

# %% jupyter={"source_hidden": true}
exchanged = losses["P' and P_q' exchanged"]  # what the answer says
assert losses["no interaction"].mean() > 0 and losses["u not on the query"].mean() > 0
assert round(exchanged.mean(), 1) == 3.7 and ttest_1samp(exchanged, 0).confidence_interval().low > 1
assert differences["base"][1].low < 0 < differences["base"][1].high
assert differences["novel"][1].low > 0 and round(100 * differences["novel"][0], 1) == 2.1

# %% [markdown]
# ## 4.8 Does it help to *train* with it?
#
# All this asked a network that was trained with the interaction. Whether one trained *without* it is worse needs
# training runs: pairs of networks with the same episodes and the same budget, over several seeds and folds. They are
# stored with the package, for the drawn world and for photographs. [Lesson 11](11_ablations.ipynb) explains how to read
# them; here it is enough that an interval around 0 means *no measurable difference*.

# %%
from dpnet_lite.ablation.comparisons import judge
from dpnet_lite.ablation.figures import draw_bar
from dpnet_lite.ablation.studies import load_study
from dpnet_lite.ablation.table import shipped_rows

study = load_study("modules")
judged = {
    data: {j.comparison.name: j for j in judge(study, shipped_rows("modules", data))} for data in ("toy", "photos")
}
WORLDS = {"toy": "drawn world", "photos": "photographs"}
pim = {
    f"{WORLDS[data]}, {name.removeprefix('PIM, ')}": judged[data][name]
    for data in WORLDS
    for name in ("PIM, with CCM", "PIM, with CCM and MSF")
}
beside = {f"CCM, {WORLDS[data]}, for comparison": judged[data]["CCM, with MSF"] for data in WORLDS}

# %% alt=["Six differences with their intervals. The four of the interaction lie around 0, from the drawn world and from photographs; below, for comparison, cycle comparison on the drawn world is far to the right, at 4 to 6 points, and on photographs around 0"] jupyter={"source_hidden": true}
figure, axes = plt.subplots(figsize=(7, 0.8 + 0.55 * len(pim | beside)), layout="constrained")
for row, (name, found) in enumerate((pim | beside).items()):
    numbers = percent(found.difference, found.interval, signed=True)
    draw_bar(axes, row, name, numbers, found.difference, found.interval, (BLUE if name in pim else GREEN, "o"))
axes.axvline(0, color="grey", linewidth=1)
axes.set(yticks=[], ylim=(len(pim | beside) - 0.5, -0.75))
axes.set_xlabel("mIoU with the module minus without, points", fontsize=12)
plt.show()

# %% [markdown]
# *What to see:* blue, the interaction: dot and 95 % interval of its gain, with CCM alone and with CCM and MSF. Green,
# for the size of things, what the second prototype itself brings.
#
# All this is a finding about *our* formulas on *this* data, not about the paper's module, whose formula is not public.
# The package keeps the module because the method has one.

# %% [markdown]
# ## 4.9 Try it yourself
#
# With a running kernel: choose an episode, click on a row of A (or move `channel`), and look at what changes in the
# maps. Set the selection to *oracle*: $P_q$ is then the mean of the true mask. What does a perfect $P_q$ change in the
# first episode? *Find*, in the list with seed 0: an episode rescued by a perfect $P_q$; one in which the interaction
# makes the map of P better by more than 0.1 (does the mask succeed?); and one in which it makes that map worse.

# %%
from dpnet_lite.course.explorers.apps import interaction_explorer

interaction_explorer()

# %% [markdown]
# <details><summary>Answer</summary>In the first episode hardly anything: the IoU goes from 0.93 to 0.92, for the
# selection lay on the object already. (Only 90 % of a perfect selection lies on the object: the mean under the true
# mask includes border cells that are partly background. So "perfect" means the right place, not the best weights.)
# <i>checked moon</i> is saved, from 0.55 to 0.89. In <i>tartan star</i> the interaction lifts the map of P from 0.29 to
# 0.42, and the mask fails all the same. In <i>striped arrow</i> it takes the map from 0.96 to 0.91, and the mask is a
# success (0.83). So the map of P alone does not decide about the mask. The next cell holds these numbers.</details>

# %% jupyter={"source_hidden": true}
from dpnet_lite.course.explorers.interaction import similarity_maps
from dpnet_lite.course.opened_episode import selection_quality


def looked_at(name: str, **switches) -> list[float]:
    """IoU of the mask, then best IoU of P's map before and after, of the explorer's episode of that class."""
    position = [toy.class_names[index] for index in toy.novel].index(name)
    seen = toy.open(pick_episode(toy, position, seed=0), **switches)
    maps = list(similarity_maps(seen).values())[:2]
    scores = [best_threshold_iou(torch.from_numpy(found), seen.truth_shares >= 0.5) for found in maps]
    return [round(value, 2) for value in (seen.iou, *scores)]


assert looked_at("striped heart")[0] == 0.93 and looked_at("striped heart", selection="oracle")[0] == 0.92
assert looked_at("checked moon")[0] == 0.55 and looked_at("checked moon", selection="oracle")[0] == 0.89
heart = pick_episode(toy, [toy.class_names[index] for index in toy.novel].index("striped heart"), seed=0)
perfect = toy.open(heart, selection="oracle")
assert round(selection_quality(perfect.trace.reliable[0], perfect.truth_shares)[0], 2) == 0.90
assert looked_at("tartan star") == [0.05, 0.29, 0.42] and looked_at("striped arrow") == [0.83, 0.96, 0.91]

# %% [markdown]
# ## Recap
#
# - The correlation A of P and $P_q$ lets each prototype take from the other, and one weight per channel reinforces both
#   and the query alike. ![stated](../figures/badges/stated.svg) That three things are reinforced;
#   ![our choice](../figures/badges/ours.svg) how.
# - A plausible mechanism and a convincing picture are not yet a gain. Take the part out and measure: in the trained
#   network, and in networks trained without it.

# %%
assert all(j.interval.low <= 0 <= j.interval.high for j in pim.values())
assert judged["toy"]["CCM, with MSF"].interval.low > 0.03
assert all(loss.mean() > -1 for loss in losses.values())
off = losses["no interaction"]
assert off.mean() > 0
told, brought = (
    "; ".join(
        f"{name.removesuffix(', for comparison')}: {percent(j.difference, j.interval, signed=True)}"
        for name, j in found.items()
    )
    for found in (pim, beside)
)
claim(
    f"Trained with or without the interaction: <b>no measurable difference</b>. Points of mIoU with it minus without: "
    f"{told}. Switched off in a network trained with it (one network, one fold), masks get <i>better</i> by "
    f"{off.mean():.1f} points of IoU (standard error {off.std(ddof=1) / len(off) ** 0.5:.1f}, {len(off)} episodes). For "
    f"comparison, the second prototype itself: {brought}. With P' and P_q' exchanged, masks of novel classes change by "
    f"{told_exchanged[1]} points, those of base classes by {told_exchanged[0]}."
)

# %% [markdown]
# **Further reading.** Vaswani et al., *Attention is all you need*, NeurIPS 2017 (attention); Hu et al.,
# *Squeeze-and-excitation networks*, CVPR 2018 (gates for channels);
# [The method](../docs/method.md#prototype-interaction-module-pim).
#
# Previous: [3 Cycle comparison](03_cycle_comparison.ipynb).
# Next: [5 Multi-scale fusion](05_multi_scale_fusion.ipynb)
#
# ## Five questions

# %%
from dpnet_lite.course.quiz import quiz

quiz("04")
