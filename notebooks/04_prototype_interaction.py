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
# **What you will learn.** How the correlation of P and $P_q$ serves to reinforce three things, and how to measure
# whether it does.
#
# **What you need.** [Notebook 3](03_cycle_comparison.ipynb): P, $P_q$ and the reliable set; what a softmax and a small
# fully connected network are.
#
# **Time.** About 25 minutes with the two exercises. The cells run in about a quarter of a minute.

# %%
# %matplotlib inline
import matplotlib.pyplot as plt
import numpy as np
import torch
import torch.nn.functional as functional

from dpnet_lite.course.explorers.episode import toy_episodes
from dpnet_lite.course.explorers.interaction import interaction_figure

FOLD = 0
toy = toy_episodes(FOLD, gap=0.5)
episodes = toy.episodes(count=60)
opened = toy.open(episodes[0])
P, P_q = opened.trace.prototype[0], opened.trace.pseudo_prototype[0]  # [C] each
F_q = opened.trace.query[0]  # [C, h, w]
channels = len(P)
print(f"class: {opened.class_name}; C = {channels} channels")

# %% [markdown]
# ## 4.1 What is known, and what we chose
#
# The correlation of P and $P_q$ serves to reinforce three things: P, $P_q$ and the query feature $F_q$ *(stated)*. No
# formula is public and no relative does the same, so all formulas below are *(our choice)*:
#
# $$A = \frac{P\,P_q^\top}{\sqrt{C}}, \qquad
# P^+ = P + g_1\,\mathrm{softmax_{row}}(A)\,P_q, \qquad
# P_q^+ = P_q + g_2\,\mathrm{softmax_{row}}(A^\top)\,P$$
#
# $$\mathrm{gate} = \sigma(\mathrm{MLP}[P^+;\,P_q^+;\,P^+ * P_q^+]), \qquad u = 2\,\mathrm{gate}, \qquad
# P' = u * P^+, \quad P_q' = u * P_q^+, \quad F_q' = u * F_q$$
#
# - A is a C x C table: entry (a, b) is large where channel a is strong in P *and* channel b is strong in $P_q$.
# - The softmax turns a row of A into weights that add up to 1. So every channel of P looks at the channels of $P_q$ and
#   takes a weighted mean of them; then the same the other way round.
# - $g_1$ and $g_2$ are two learned numbers that start at 0: training begins without any exchange.
# - The gate has one number between 0 and 1 for each channel, and u is twice that: 1 leaves the channel as it is, 2
#   doubles it, 0 closes it. All three get the *same* weights, so that they can still be compared: a cosine then counts
#   the channels that P and $P_q$ make important. $\sigma$ is the logistic function, the MLP is two linear layers with a
#   ReLU between them, and * multiplies element by element.
#
# Do not mix up two correlations: S of lesson 3 compares *cells* of two images, A compares *channels* of two vectors.

# %% [markdown]
# ### Exercise 4.1: reinforce both prototypes (medium, 15 minutes)
#
# Write `my_reinforced(P, P_q, g1, g2)` for two prototypes [C] and two numbers. Return $(P^+, P_q^+)$.


# %% jupyter={"source_hidden": true}
def my_reinforced(P: torch.Tensor, P_q: torch.Tensor, g1: float, g2: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Each prototype with what it takes from the other."""
    # BEGIN SOLUTION
    A = torch.outer(P, P_q) / len(P) ** 0.5  # [C, C]
    return P + g1 * A.softmax(dim=1) @ P_q, P_q + g2 * A.T.softmax(dim=1) @ P
    # END SOLUTION


# %% tags=["check"]
from dpnet_lite.course.exercises.lesson_04 import check_reinforced

check_reinforced(my_reinforced)

# %% [markdown]
# ### Exercise 4.2: the weighted query (easy, 5 minutes)
#
# Write `my_weighted(F_q, gate)` for a feature map [C, h, w] and a gate [C]. Return $F_q'$, [C, h, w].


# %% jupyter={"source_hidden": true}
def my_weighted(F_q: torch.Tensor, gate: torch.Tensor) -> torch.Tensor:
    """The query feature, each channel times twice its gate."""
    # BEGIN SOLUTION
    return 2 * gate[:, None, None] * F_q
    # END SOLUTION


# %% tags=["check"]
from dpnet_lite.course.exercises.lesson_04 import check_weighted

check_weighted(my_weighted)

# %% [markdown]
# ## 4.2 By hand, and as the package has it
#
# The formulas line by line with the shipped network's learned numbers. The assertions compare with what the network
# itself used.

# %%
module = toy.head.interaction
with torch.no_grad():
    g1, g2 = float(module.g1), float(module.g2)
    A = P[:, None] * P_q[None, :] / channels**0.5  # [C, C]
    P_plus = P + g1 * (functional.softmax(A, dim=1) @ P_q)
    P_q_plus = P_q + g2 * (functional.softmax(A.T, dim=1) @ P)
    gate = module.gate(torch.cat([P_plus, P_q_plus, P_plus * P_q_plus]))  # the MLP with the logistic function, [C]
    u = 2 * gate
    P_new, P_q_new, F_q_new = u * P_plus, u * P_q_plus, u[:, None, None] * F_q

interaction = opened.trace.interaction
assert torch.allclose(A, interaction.correlation[0], atol=1e-4)
assert torch.allclose(P_new, interaction.prototype[0], atol=1e-4)
assert torch.allclose(P_q_new, interaction.pseudo_prototype[0], atol=1e-4)
assert torch.allclose(F_q_new, interaction.query[0], atol=1e-4)
print(f"learned: g1 = {g1:+.3f}, g2 = {g2:+.3f}; the gate runs from {gate.min():.2f} to {gate.max():.2f}")

# %% [markdown]
# ## 4.3 Look inside

# %%
interaction_figure(opened)

# %% [markdown]
# *What to see:* above, the support, the query, the table A with its channels in the order of P (strong ones first),
# and for each channel the gate (dots) and what the first channel attends to (line; its row of A lies between the orange
# lines). The line is C times the weight: 1 everywhere would be the plain mean of the other prototype. Below, the
# similarity maps of both prototypes, before and after, all with the same colours; the outline is the true mask. Compare
# the first map with the second and the third with the fourth.

# %% [markdown]
# ## 4.4 Does it help? Measure it
#
# Two tables, over many episodes. *Best IoU* is the IoU of a similarity map with the best threshold for that query, as
# in notebook 2. It is taken four times: before; with the exchange between the prototypes alone ($P^+$ for P); with the
# weights alone (u P and u $F_q$); with both (P' and $F_q'$). Then cosines before, after the exchange and after both;
# *own* is the prototype that the query's true mask would give, and is weighted as the others are.


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


best = {}
for kind in KINDS:
    rows = []
    for v in all_opened:
        each = [vectors(v, way) for way in WAYS]
        maps = [cosine_map(one["query"], one[kind])[0] for one in each]
        rows.append([best_threshold_iou(found, v.truth_shares >= 0.5) for found in maps])
    best[kind] = 100 * np.array(rows)  # [episodes, 4]
print(f"{'best IoU of the map of':24}" + "".join(f"{way:>10}" for way in WAYS))
for kind, name in KINDS.items():
    print(f"{name:24}" + "".join(f"{value:10.1f}" for value in best[kind].mean(axis=0)))

print(f"\n{'cosine of':24}" + "".join(f"{way:>10}" for way in WAYS))
for first, second in (("prototype", "pseudo_prototype"), ("prototype", "own"), ("pseudo_prototype", "own")):
    means = []
    for way in WAYS:
        each = [vectors(v, way) for v in all_opened]
        means.append(np.mean([float(functional.cosine_similarity(one[first], one[second])) for one in each]))
    name = f"{KINDS[first]} and {KINDS.get(second, second)}"
    print(f"{name:24}" + "".join(f"{mean:10.3f}" for mean in means))

figure, grid = plt.subplots(1, 2, figsize=(8, 3.8), layout="constrained", sharey=True)
for axes, (kind, name) in zip(grid, (("prototype", "$P$"), ("pseudo_prototype", "$P_q$")), strict=True):
    axes.plot([0, 104], [0, 104], color="grey", linewidth=1)
    axes.scatter(best[kind][:, 0], best[kind][:, 3], color="#0072B2", alpha=0.6)
    axes.set(xlabel="best IoU before", xlim=(0, 104), ylim=(0, 104), aspect=1, title=f"map of {name}")
grid[0].set_ylabel("best IoU after both")
plt.show()

# %% [markdown]
# *What to see:* a dot is an episode; above the grey line the whole interaction made the map better. Most dots lie close
# to the line. The first table says which part does what: compare *exchange* with *before*, then *weights* with
# *before*. Neither moves the maps by much on average. The prototypes themselves do move: both steps make P and $P_q$ a
# little less alike; lesson 9 finds in which direction they go.
#
# The learned $g_1$ and $g_2$ of section 4.2 say the same: training has kept them small. Look at their signs as well. A
# negative one means that training came to *subtract* a little of the other prototype, which is not what *reinforce*
# suggests. All this is a finding about *our* formulas on *this* data, not about the paper's module, whose formula is
# not public.
#
# The weights do differ, from channel to channel and from episode to episode:

# %%
u = torch.cat([v.trace.interaction.weights for v in all_opened])  # [episodes, C]
order = u.mean(dim=0).argsort(descending=True)
figure, axes = plt.subplots(figsize=(8, 3), layout="constrained")
low, middle, high = np.quantile(u[:, order].numpy(), [0.1, 0.5, 0.9], axis=0)
axes.fill_between(range(channels), low, high, color="#56B4E9", alpha=0.5, label="middle 80 % of the episodes")
axes.plot(middle, color="#0072B2", label="median")
axes.axhline(1, color="grey", linewidth=1)
axes.set(xlabel="channel, by its mean weight", ylabel="weight $u$", ylim=(0, 2))
axes.legend(frameon=False)
plt.show()
between, within = u.mean(dim=0).std(), u.std(dim=0).mean()
print(f"u differs by {between:.2f} from channel to channel, and by {within:.2f} from episode to episode")

# %% [markdown]
# *What to see:* the grey line, 1, leaves a channel as it is. A narrow band away from it is the same in every episode
# and could as well have been learned by the reduction; a wide band means that the weight depends on the prototypes,
# which is what it is for.
#
# Whether a network *trained* without the interaction is worse is another question. It needs training runs, with the
# same budget and several seeds: [notebook 11](11_ablations.ipynb).

# %% [markdown]
# ## 4.5 Turn it yourself
#
# With a running kernel: choose an episode, click on a row of A (or move `channel`), and compare the first map below
# with the second. Set the selection to *oracle*: what does a perfect $P_q$ change?

# %%
from dpnet_lite.course.explorers.apps import interaction_explorer

interaction_explorer()

# %% [markdown]
# ## Recap
#
# - The correlation A of P and $P_q$ lets each prototype take from the other, and one weight a channel reinforces both
#   and the query alike *(that three things are reinforced is stated, how is our choice)*.
# - Measured on trained weights, neither step moves the maps by much here.
#
# **Further reading.** Vaswani et al., *Attention is all you need*, NeurIPS 2017 (attention); Hu et al.,
# *Squeeze-and-excitation networks*, CVPR 2018 (gates for channels);
# [The method](../docs/method.md#prototype-interaction-module-pim).
#
# Previous: [3 Cycle comparison](03_cycle_comparison.ipynb).
# Next: [5 Multi-scale fusion](05_multi_scale_fusion.ipynb)
