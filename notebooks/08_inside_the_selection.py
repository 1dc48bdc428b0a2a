# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 8. Inside the selection
#
# [Start here](00_start_here.ipynb) | [3 Cycle comparison](03_cycle_comparison.ipynb) |
# [7 Evaluation](07_evaluation.ipynb) | **8 Inside the selection** |
# [9 Prototype correlations](09_prototype_correlations.ipynb)
#
# **What you will learn.** Where the weight behind the pseudo-prototype lies, class by class and gap by gap; what a
# failed cycle looks like; how much of the error of the masks comes from the selection and how much does not; and
# whether a method could notice by itself that its selection is bad.
#
# **What you need.** [Notebook 3](03_cycle_comparison.ipynb): cycles, rules, precision and recall of a selection;
# [notebook 7](07_evaluation.ipynb): intervals.
#
# **Time.** About 40 minutes with the two exercises. The cells run in about a minute.
#
# All measures of this lesson are *(our choice)*, and so is the selection rule they look at
# ([The method](../docs/method.md#cycle-comparison-module-ccm)). They say how *this* network behaves on the drawn world
# and, in 8.8, how one for photographs does on a few, not what the paper found.

# %%
# %matplotlib inline
import matplotlib.pyplot as plt
import numpy as np
import torch

from dpnet_lite.course.analysis.prototypes import disjoint_episodes
from dpnet_lite.course.explorers.apps import RULES
from dpnet_lite.course.explorers.episode import toy_episodes
from dpnet_lite.experiments.intervals import bootstrap_weights, percentile_interval
from dpnet_lite.experiments.plots import BLACK, BLUE, GREEN, ORANGE

FOLD, SCENES, PER_CLASS = 0, 300, 6
GAPS = (0.0, 0.5, 1.0)
worlds = {gap: toy_episodes(FOLD, gap, n_scenes=SCENES) for gap in GAPS}
lists = {gap: disjoint_episodes(toy.episodes(count=2000), PER_CLASS) for gap, toy in worlds.items()}
for gap, episodes in lists.items():
    n_classes = len({episode.class_index for episode in episodes})
    print(f"gap {gap}: {len(episodes)} episodes of {n_classes} classes, no image in two of them")

# %% [markdown]
# ## 8.1 A gallery over classes and gaps
#
# The drawn world has a dial, the `gap`: how far the objects of a class may differ from scene to scene. Scene number i
# keeps its objects, their places and their background when the dial turns; their colours, textures, angles and the
# light move apart. So we can look at the *same* episode under three gaps.

# %%
from dpnet_lite.course.explorers.episode import tiles_figure

by_class = {episode.class_index: episode for episode in reversed(lists[0.5])}  # the first episode of each class
shown = [by_class[index] for index in sorted(by_class)[:: len(by_class) // 6]][:6]
tiles_figure([[toy.open(episode) for episode in shown] for toy in worlds.values()], [f"gap {g}" for g in GAPS])

# %% [markdown]
# *What to see:* each picture is a query. Blue is the weight of each cell in $P_q$, the outline is the truth, which the
# method does not know. Precision is the share of the weight on the object. With a small gap, blue mostly fills the
# outline. As the gap grows, selections jump to another object altogether, or spread over several, or, where the class
# is there more than once, leave some of its objects out. Not every one gets worse: six episodes are examples, not a
# measure.

# %% [markdown]
# ## 8.2 Where does the weight lie?
#
# A class of the drawn world is a *texture* and an *outline* ("striped star"). Its scenes always hold another object
# that shares one of the two. So there are five places where weight can lie: on the object; on an object with the same
# outline; on one with the same texture; on another object; on the background. With $w$ the weight [h, w] and $c_k$ the
# share of each cell that shows place k:
#
# $$\text{share}_k = \frac{\sum_i w(i)\, c_k(i)}{\sum_i w(i)}$$
#
# ### Exercise 8.1: shares of the weight (easy, 5 minutes)
#
# Write `my_weight_places(weights, cover)` for weights [h, w], at least 0, and a cover [n, h, w] that adds up to 1 in
# every cell. Return the n shares as a tensor [n].


# %% jupyter={"source_hidden": true}
def my_weight_places(weights: torch.Tensor, cover: torch.Tensor) -> torch.Tensor:
    """Share of the weight in each of n places."""
    # BEGIN SOLUTION
    return (weights * cover).flatten(1).sum(dim=1) / weights.sum()  # [n, h, w] -> [n]
    # END SOLUTION


# %% tags=["check"]
from dpnet_lite.course.exercises.lesson_08 import check_weight_places

check_weight_places(my_weight_places)

# %%
from dpnet_lite.course.analysis.selections import PLACES, land_cover, survey, weight_places

opened = worlds[1.0].open(lists[1.0][0])
cover = land_cover(worlds[1.0], opened.episode)
by_hand = [float((opened.trace.reliable[0] * share).sum() / opened.trace.reliable[0].sum()) for share in cover]
assert np.allclose(by_hand, weight_places(opened.trace.reliable[0], cover), atol=1e-5)

found = {gap: survey(worlds[gap], lists[gap]) for gap in GAPS}
plain = {
    gap: np.array(
        [
            weight_places(toy.open(episode, **RULES["plain cycle"]).trace.reliable[0], land_cover(toy, episode)).numpy()
            for episode in lists[gap]
        ]
    )
    for gap, toy in worlds.items()
}  # [N, 5] each


def shares_table(rows: dict[str, np.ndarray]) -> None:
    print(f"{'share of, %':26}" + "".join(f"{place:>14}" for place in PLACES))
    for name, shares in rows.items():
        print(f"{name:26}" + "".join(f"{100 * share:14.1f}" for share in shares.mean(axis=0)))


rows = {}
for gap in GAPS:
    rows[f"the area, gap {gap}"] = found[gap].areas
    rows[f"plain cycle, gap {gap}"] = plain[gap]
    rows[f"default rule, gap {gap}"] = found[gap].places
shares_table(rows)

# %%
COLOURS = (BLUE, "#D55E00", ORANGE, "#F0E442", "#BBBBBB")
figure, axes = plt.subplots(figsize=(7.5, 4.2), layout="constrained")
height, left = np.arange(len(rows))[::-1] + np.repeat([0.6, 0.3, 0.0], 3), np.zeros(len(rows))
for number, (place, colour) in enumerate(zip(PLACES, COLOURS, strict=True)):
    widths = np.array([100 * shares.mean(axis=0)[number] for shares in rows.values()])
    axes.barh(height, widths, left=left, color=colour, edgecolor=BLACK, linewidth=0.6, label=place)
    left += widths
axes.set_yticks(height, list(rows), fontsize=11)
axes.set_xlim(0, 100)
axes.set_xlabel("share, %", fontsize=12)
figure.legend(loc="outside upper center", ncols=5, frameon=False, fontsize=11, columnspacing=1, handlelength=1.2)
plt.show()

# %% [markdown]
# *What to see:* three bars for each gap. The first is the area: what a selection would get that takes every cell alike.
# Both rules pick the object out of a picture that is mostly something else, and the default rule more cleanly than the
# plain cycle. Where does it go, what is lost as the gap grows? And which place attracts more than its area?

# %%
gain = found[1.0].places.mean(axis=0) - found[0.0].places.mean(axis=0)
print(
    f"from gap 0 to gap 1 the object loses {-100 * gain[0]:.0f} points: "
    f"{100 * gain[1:4].sum():.0f} to other objects, {100 * gain[4]:.0f} to the background"
)
for gap in GAPS:
    pull = found[gap].places.mean(axis=0)[1:] / found[gap].areas.mean(axis=0)[1:]
    text = ", ".join(f"{name} {value:.2f}" for name, value in zip(PLACES[1:], pull, strict=True))
    print(f"gap {gap}: weight over area: {text}")

# %% [markdown]
# *What to see:* most of the loss goes to other objects. A ratio of 1 would be a place that gets as much weight as it
# has area. The large background gets the least for its area, and some of that may be cells at the rim of the object. Of
# the objects, those of the same outline attract most.

# %% [markdown]
# ## 8.3 Kept and rejected: what a failed cycle looks like
#
# A way that starts in the support's mask has one of four ends, by two questions: does it land in the mask (then it is
# *kept*, else *rejected*), and was its match in the query on the object (*right*) or not (*wrong*)? The mask of the
# query answers the second; only we know it. Here the ways are counted as the cycle finds them, before weights and
# consensus.

# %%
from dpnet_lite.course.analysis.selections import OUTCOMES, all_cycles

matches = opened.trace.matches[0]
inside = opened.trace.support_masks[0, 0].flatten() >= 0.5  # [h, w] -> [N_s]
counts = dict.fromkeys(OUTCOMES, 0)
for j in inside.nonzero().flatten():
    match = matches.forward_match[0, j]  # i(j)
    lands_inside = inside[matches.backward_match[0, match]]  # r(i(j))
    was_right = opened.truth_shares.flatten()[match] >= 0.5
    end = ("kept, " if lands_inside else "rejected, was ") + ("right" if was_right else "wrong")
    counts[end] += 1
assert list(counts.values()) == all_cycles(opened).outcomes.bincount(minlength=4).tolist()

print(f"{'ways, %':8}" + "".join(f"{name:>20}" for name in OUTCOMES))
for gap in GAPS:
    print(f"gap {gap:<4}" + "".join(f"{100 * share:20.1f}" for share in found[gap].outcomes.mean(axis=0)))
print(f"\n{'':8}{'right among the kept':>22}{'wrong among the rejected':>27}")
for gap in GAPS:
    kept_right, kept_wrong, lost, caught = found[gap].outcomes.mean(axis=0)
    print(f"gap {gap:<4}{100 * kept_right / (kept_right + kept_wrong):20.1f} %{100 * caught / (lost + caught):25.1f} %")

# %% [markdown]
# *What to see:* the second table says how much an answer of the cycle is worth. Most of what it keeps is right, but
# mind the base rate: add the first and the third column, and you have the share of right matches before the test. Of
# what it rejects, a large part were right matches, thrown away. As the gap grows it has more to catch, and at the
# largest gap it catches a larger part of it; still more wrong matches are kept. Two episodes show why. The first has
# the largest share of wrong matches kept, the second the largest share of right matches rejected.

# %%
from dpnet_lite.course.explorers.cycle import cycles_figure

gap = 1.0
deceived = worlds[gap].open(lists[gap][int(found[gap].outcomes[:, 1].argmax())])
cycles_figure(deceived)

# %%
too_strict = worlds[gap].open(lists[gap][int(found[gap].outcomes[:, 2].argmax())])
cycles_figure(too_strict)

# %% [markdown]
# *What to see:* the colour of a mark says whether the match was right (blue) or wrong (orange), its shape whether the
# way was kept (disc) or rejected (cross); the same way has the same mark in all three panels. Several ways share a
# mark, as the counts below the picture tell. In the first episode the ways run to another object, and come back into
# the mask, since the right object looks too different. A cycle asks for mutual likeness, and a wrong object can have
# it. In the second, the ways reach the right object, but the way back ends elsewhere in the support.
#
# Where do the rejected ways land, taken over all episodes?

# %%
import torch.nn.functional as functional

print(f"{'rejected ways land':22}{'beside the mask':>18}{'on another object':>20}{'on the background':>20}")
for gap in GAPS:
    beside = elsewhere = ground = 0
    for episode in lists[gap]:
        one = worlds[gap].open(episode)
        cycles = all_cycles(one)
        mask = (one.trace.support_masks[0, 0] >= 0.5).float()  # [h, w]
        near = functional.max_pool2d(mask[None], 3, stride=1, padding=1).flatten() > 0  # mask, one cell wider; [N_s]
        labels = worlds[gap].world[episode.support[0]].labels  # [H, W]
        other = ((labels > 0) & (labels != episode.class_index + 1)).float()
        on_other = functional.adaptive_avg_pool2d(other[None], mask.shape).flatten() >= 0.5  # [H, W] -> [N_s]
        landings = cycles.landings[cycles.outcomes >= 2]
        beside += int(near[landings].sum())
        elsewhere += int((on_other & ~near)[landings].sum())
        ground += int((~on_other & ~near)[landings].sum())
    total = beside + elsewhere + ground
    print(
        f"gap {gap:<18}"
        + "".join(f"{100 * n / total:{width}.1f} %" for n, width in ((beside, 16), (elsewhere, 18), (ground, 18)))
    )

# %% [markdown]
# *What to see:* a good part of the rejected ways miss the mask by a single cell, where a cell shows object and
# background at once. The larger the gap, the more of them land on other objects. The table takes right and wrong
# matches together; the picture above it shows right ones that land on another object.

# %% [markdown]
# ## 8.4 Four kinds of episodes
#
# Call a selection *clean* if at least half of its weight lies on the object, and a mask *good* if its IoU is at least
# one half. Of each kind we show the extreme: the best in both numbers, the worst in both, and those in which the two
# differ most.

# %%
from dpnet_lite.course.explorers.episode import cases_figure

KINDS = {
    "clean, good mask": (True, True, lambda p, i: p + i),
    "clean, bad mask": (True, False, lambda p, i: p - i),
    "not clean, good mask": (False, True, lambda p, i: i - p),
    "not clean, bad mask": (False, False, lambda p, i: -p - i),
}
for gap in GAPS:
    clean, good = found[gap].precisions >= 0.5, found[gap].ious >= 0.5
    table = ", ".join(f"{name} {((clean == c) & (good == g)).sum()}" for name, (c, g, _) in KINDS.items())
    print(f"gap {gap}: {table}")

cases = []
for name, (c, g, measure) in KINDS.items():
    candidates = []
    for gap in GAPS:
        p, i = found[gap].precisions, found[gap].ious
        members = np.flatnonzero(((p >= 0.5) == c) & ((i >= 0.5) == g))
        candidates += [(float(measure(p[n], i[n])), gap, int(n)) for n in members]
    if candidates:
        value, gap, n = max(candidates)
        cases.append(worlds[gap].open(lists[gap][n]))
        print(f"shown, {name}: gap {gap}, precision {found[gap].precisions[n]:.2f}, IoU {found[gap].ious[n]:.2f}")
    else:
        print(f"none: {name}")
cases_figure(cases)

# %% [markdown]
# *What to see:* the counts first. A selection that is not clean next to never ends in a good mask here; most of these
# have next to no weight on the object. The other way round there is room: a clean selection can end in a bad mask. The
# picture has one column for each kind that exists.

# %% [markdown]
# ## 8.5 How much of the error is the selection's?
#
# Run the same head with a perfect selection, the query's true mask. Then the error splits in two:
#
# $$1 - \text{IoU} = \underbrace{(\text{IoU}_\text{perfect} - \text{IoU})}_{\text{what the selection costs}}
#   + \underbrace{(1 - \text{IoU}_\text{perfect})}_{\text{the rest}}$$
#
# The intervals are 95 % intervals of the mean over episodes, drawn anew within their class; both parts use the same
# draws. They hold for this one network. And mind the second part: the head was not trained with perfect selections,
# so another head could do better with them.

# %%
print(f"{'':10}{'mean IoU':>10}{'perfect':>10}{'what the selection costs':>30}{'the rest':>22}")
costs = {}
for gap in GAPS:
    table, weights = found[gap], bootstrap_weights(found[gap].labels, 1000)
    parts = {"cost": table.oracle_ious - table.ious, "rest": 1 - table.oracle_ious}
    costs[gap] = {name: (part.mean(), *percentile_interval(weights @ part / len(part))) for name, part in parts.items()}
    cost, rest = ("{:.3f} [{:.3f}, {:.3f}]".format(*values) for values in costs[gap].values())
    print(f"gap {gap:<6}{table.ious.mean():10.3f}{table.oracle_ious.mean():10.3f}{cost:>30}{rest:>22}")

figure, panels = plt.subplots(1, 2, figsize=(9, 4.2), layout="constrained", width_ratios=(1.25, 1))
for gap, marker, colour in zip(GAPS, ("o", "s", "^"), (GREEN, BLUE, ORANGE), strict=True):
    panels[0].scatter(
        found[gap].precisions,
        found[gap].ious,
        marker=marker,
        s=28,
        color=colour,
        alpha=0.6,
        edgecolor=BLACK,
        linewidth=0.3,
        label=f"gap {gap}",
    )
panels[0].set_xlabel("precision of the selection", fontsize=12)
panels[0].set_ylabel("IoU of the mask", fontsize=12)
panels[0].legend(frameon=False, fontsize=11, loc="upper left")
bottom = np.zeros(len(GAPS))
for name, label, colour in (("cost", "what the selection costs", ORANGE), ("rest", "the rest", "#BBBBBB")):
    tops = np.array([costs[gap][name][0] for gap in GAPS])
    panels[1].bar(
        [str(gap) for gap in GAPS], tops, bottom=bottom, color=colour, edgecolor=BLACK, linewidth=0.6, label=label
    )
    bottom += tops
panels[1].set_xlabel("gap", fontsize=12)
panels[1].set_ylabel("1 - mean IoU", fontsize=12)
panels[1].set_ylim(0, 1.35 * bottom.max())
panels[1].legend(frameon=False, fontsize=11, loc="upper left")
plt.show()

# %% [markdown]
# *What to see:* left, two clouds, a dense one where the selection hits the object and one where it misses it (many
# points lie on one another at 0), and a band in between, mostly at the largest gap. Right, the cost of the selection
# grows with the gap, and so does the rest: a perfect $P_q$ alone does not make up for what the gap does to everything
# else, the support prototype first. (The lists of the gaps hold different episodes, and intervals of neighbours may
# overlap: compare the ends.) Compare with the bars of the larger gaps before you say that a better selection is all
# that few-shot segmentation needs.

# %% [markdown]
# ## 8.6 Cause or correlation?
#
# Hard episodes are hard for everything: where the selection goes wrong, the decoder may go wrong for its own reasons.
# So far we have seen a correlation, not a cause. An experiment tells: take episodes, and *set* the selection. A share
# $a$ of the weight goes to the largest other object in the query, the rest to the true object; everything else stays as
# it is.
#
# $$w = (1 - a)\,\frac{M_q}{\sum M_q} + a\,\frac{M_\text{other}}{\sum M_\text{other}}$$

# %%
from dpnet_lite.model.prototypes import masks_at

toy, episodes = worlds[0.5], lists[0.5][:40]
SHARES = np.linspace(0, 1, 11)
on_target, on_other = [], []
for episode in episodes:
    labels = toy.world[episode.query].labels  # [H, W]: 0 the background, k class k - 1
    others = [k for k in labels.unique().tolist() if k not in (0, episode.class_index + 1)]
    if not others:
        continue
    wrong = labels == max(others, key=lambda k, labels=labels: int((labels == k).sum()))  # bool [H, W]
    right = labels == episode.class_index + 1
    cells = [masks_at(mask, (24, 24)) for mask in (right, wrong)]  # [H, W] -> [h, w]
    right_ious, wrong_ious = [], []
    for share in SHARES:
        weights = (1 - share) * cells[0] / cells[0].sum() + share * cells[1] / cells[1].sum()
        given = toy.open(episode, selection="oracle", oracle_weights=weights.float())
        mask = torch.from_numpy(given.prediction)
        right_ious.append(given.iou)
        wrong_ious.append(float((mask & wrong).sum() / (mask | wrong).sum().clamp(min=1)))
    on_target.append(right_ious)
    on_other.append(wrong_ious)
dose = {"the object": np.array(on_target), "the other object": np.array(on_other)}  # [episodes, shares]

print(f"{len(on_target)} episodes")
print("share of the weight on the other object " + "".join(f"{share:6.1f}" for share in SHARES))
for name, values in dose.items():
    print(f"mean IoU with {name:26}" + "".join(f"{value:6.2f}" for value in values.mean(axis=0)))

figure, axes = plt.subplots(figsize=(6.6, 4.2), layout="constrained")
generator = np.random.default_rng(0)
draws = generator.integers(len(on_target), size=(1000, len(on_target)))
for (name, values), colour, style in zip(dose.items(), (BLUE, ORANGE), ("-", "--"), strict=True):
    band = np.array([percentile_interval(column) for column in values[draws].mean(axis=1).T])  # [shares, 2]
    axes.fill_between(SHARES, *band.T, color=colour, alpha=0.25, linewidth=0)
    axes.plot(SHARES, values.mean(axis=0), color=colour, linestyle=style, linewidth=2, label=f"set, IoU with {name}")
wrong_share = 1 - found[0.5].precisions
edges = np.array([0, 0.2, 0.4, 0.6, 0.8, 1.0])
bins = np.digitize(wrong_share, edges[1:-1])
for number in np.unique(bins):
    members = bins == number
    axes.plot(
        wrong_share[members].mean(),
        found[0.5].ious[members].mean(),
        "o",
        color=BLACK,
        markersize=7,
        label="as it happens, 8.5" if number == bins.min() else None,
    )
    axes.annotate(
        f"{members.sum()}",
        (wrong_share[members].mean(), found[0.5].ious[members].mean()),
        fontsize=10,
        xytext=(7, 5),
        textcoords="offset points",
    )
axes.set(ylim=(-0.03, 1.03))
axes.set_xlabel("share of the weight that is not on the object", fontsize=12)
axes.set_ylabel("mean IoU", fontsize=12)
axes.legend(frameon=False, fontsize=10, loc="upper center", bbox_to_anchor=(0.5, 1.2), ncols=2)
plt.show()

# %% [markdown]
# *What to see:* the selection is a cause. With all weight on the other object, the very same network with the very same
# support prototype lets go of the object. It does not take up the other object as well as it let go of the first: P
# still asks for the class. On average a small share of wrong weight costs little, so a selection need not be perfect;
# single episodes may switch sharply, each at its own share. The band is the 95 % interval of the mean, episodes drawn
# regardless of their class. The black dots are the episodes of 8.5 in five ranges of their precision, with their
# numbers: they need not lie on the blue line, since their weight lies on several things, and some of the groups are
# small.

# %% [markdown]
# ## 8.7 Could a method notice?
#
# Precision needs the truth. What can a method see of its own selection? Five *signs*, all without the truth: the share
# of ways that come back; the cosine of P and $P_q$; how much the selected cells are like P (weighted mean of the
# cosine); how far the largest of these cosines stands above their mean over the query; how close together the selected
# cells lie.
#
# The measure: the share of pairs (one clean selection, one that is not) in which the clean one has the higher sign.
# It is known as the **area under the ROC curve**, AUC for short (the curve itself is not needed here): 1 tells them
# apart without fail, 0.5 is a coin.
#
# ### Exercise 8.2: clean above not clean (medium, 10 minutes)
#
# Write `my_auc(sign, clean)` for a sign, float [N], and `clean`, bool [N], both as NumPy arrays. A tie counts half.
# Return one number.


# %% jupyter={"source_hidden": true}
def my_auc(sign: np.ndarray, clean: np.ndarray) -> float:
    """Share of pairs in which the clean one has the higher sign."""
    # BEGIN SOLUTION
    difference = sign[clean][:, None] - sign[~clean][None, :]  # [clean ones, others]
    return float((difference > 0).mean() + 0.5 * (difference == 0).mean())
    # END SOLUTION


# %% tags=["check"]
from dpnet_lite.course.exercises.lesson_08 import check_auc

check_auc(my_auc)

# %%
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from dpnet_lite.experiments.intervals import weighted_auc

WIDE_GAPS = GAPS[1:]  # at gap 0 next to all selections are clean: too few others to compare with
print(f"{'AUC':34}" + "".join(f"{f'gap {gap}':>26}" for gap in WIDE_GAPS))
signs = {gap: dict(found[gap].signs) for gap in WIDE_GAPS}
for gap in WIDE_GAPS:  # all signs together, each episode judged by a model that has not seen it
    clean = found[gap].precisions >= 0.5
    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    model = make_pipeline(StandardScaler(), LogisticRegression())
    columns = np.stack(list(found[gap].signs.values()), axis=1)  # [N, 5]
    judged = cross_val_predict(model, columns, clean, cv=folds, method="decision_function")
    signs[gap]["all five, learned"] = judged
for name in signs[0.5]:
    cells = []
    for gap in WIDE_GAPS:
        clean, weights = found[gap].precisions >= 0.5, bootstrap_weights(found[gap].labels, 1000)
        value = weighted_auc(signs[gap][name], clean, np.ones(len(clean)))
        assert np.isclose(value, roc_auc_score(clean, signs[gap][name]))
        low, high = percentile_interval(weighted_auc(signs[gap][name], clean, weights))
        cells.append(f"{value:.2f} [{low:.2f}, {high:.2f}]")
    print(f"{name:34}" + "".join(f"{cell:>26}" for cell in cells))
print(
    f"{'selections that are not clean':34}" + "".join(f"{(found[gap].precisions < 0.5).sum():>26}" for gap in WIDE_GAPS)
)

# %%
from dpnet_lite.course.analysis.selections import SIGNS

print("mean IoU of the 80 % of the episodes with the highest sign, gap 1.0")
table = found[1.0]
best = int(0.8 * len(table.ious))
print(f"{'all episodes':34}{table.ious.mean():.3f}")
for name in SIGNS:
    print(f"{name:34}{table.ious[np.argsort(-table.signs[name], kind='stable')[:best]].mean():.3f}")
print(f"{'precision itself, needs the truth':34}{table.ious[np.argsort(-table.precisions)[:best]].mean():.3f}")

# %% [markdown]
# *What to see:* read the intervals before the numbers; with few bad selections (last line of the first table) they are
# wide. No sign comes near 1, and all of them together, learned, gain nothing over the best alone. We take it to be the
# rule's doing: a wrong object is *chosen* because it is like P, so its likeness to P gives it away only in part. (The
# learned model is tried on episodes that it has not seen, but of classes that it has.) The second table says what a
# warning would be worth: refuse the episodes with the lowest sign, and see how much the rest gains, beside what the
# truth would allow.

# %% [markdown]
# ## 8.8 The gallery on photographs
#
# Photographs of 13 objects that the head never saw in training. Of eight episodes for each object the code shows the
# three with the best selection and the three with the worst, by precision and, of equal ones, by IoU, at most one of an
# object in each three. An object may be among both.

# %%
# %config InlineBackend.figure_formats = ["jpeg"]
from dpnet_lite.course.explorers.episode import precision_of
from dpnet_lite.course.opened_episode import ObjectEpisodes
from dpnet_lite.datasets import OBJECTS_CREDIT

photographs = ObjectEpisodes()
photo_episodes = list(photographs.episodes(count=8 * len(photographs.novel)))
rules = {"default rule": {}, "plain cycle": RULES["plain cycle"]}
in_photos = {name: [photographs.open(e, **switches) for e in photo_episodes] for name, switches in rules.items()}
for name, seen in in_photos.items():
    p, i = np.array([precision_of(v) for v in seen]), np.array([v.iou for v in seen])
    weights = torch.stack([v.trace.reliable[0] / v.trace.reliable[0].sum() for v in seen])  # [N, h, w]
    cells = float((1 / weights.square().sum(dim=(1, 2))).median())  # n equal weights make n
    print(
        f"{name}: precision {p.mean():.2f} on average, {(p < 0.5).sum()} of {len(p)} selections are not clean; "
        f"as much as {cells:.0f} equal cells of {weights[0].numel()}; mean IoU {i.mean():.2f}"
    )


def extremes(seen, count: int, best: bool):
    """The episodes with the best or the worst selection, one of an object."""
    first = {}
    for v in sorted(seen, key=lambda v: (precision_of(v), v.iou), reverse=best):
        first.setdefault(v.class_name, v)
    return list(first.values())[:count]


# %%
print(OBJECTS_CREDIT)
seen = in_photos["default rule"]
shown = extremes(seen, 3, best=True) + extremes(seen, 3, best=False)
cases_figure(shown)

# %%
print(OBJECTS_CREDIT)
tiles_figure([[photographs.open(v.episode, **rules["plain cycle"]) for v in shown]], ["plain cycle"])

# %% [markdown]
# *What to see:* the three best selections are on the left, the three worst on the right. "Worst" is relative: the first
# printed line says how many selections are not clean, and with one object in a photograph there are hardly any. So
# precision no longer tells a good mask from a bad one. On the left, selections that are nearly perfect end in masks
# below the average: the blue lies on one part of the object, and the mask stays near it. On the right, the mask of the
# toy wolf takes the foot of a tree, where no blue is; those of the dog and the toy monster spill over a narrow outline.
#
# The small picture below is what the plain cycle keeps in the same queries; the default rule weighs these cells anew,
# and may add others like them. On the small dog it lets go of most cells that lie beside it.

# %% [markdown]
# ## 8.9 Walk through the gallery yourself
#
# With a running kernel: choose the world (the drawn world, or photographs, which have neither fold nor gap), and see
# one episode of every novel class of a fold, or of every photographed object, sorted by the precision of its selection.
# Compare the worst page of two rules. On which classes do they fail alike?

# %%
from dpnet_lite.course.explorers.apps import gallery_explorer

gallery_explorer()

# %% [markdown]
# ## Recap
#
# - Most of what a selection loses as the gap grows goes to other objects. For their area, those of the same outline
#   attract most.
# - A cycle asks for mutual likeness. A wrong object can have it, and a right one can lack it.
# - A selection that is not clean next to never ends in a good mask. A clean one is no promise.
# - With a perfect selection the same head does better, the more so the larger the gap; and a good part of the error
#   remains.
# - Setting the selection shows that it is a cause: with $P_q$ elsewhere, the network lets go of the object.
# - Signs that need no truth warn of bad selections in part only.
# - On photographs of single objects nearly every selection is clean, and masks fail for other reasons.
#
# **Further reading.** Zhang et al., *Few-shot segmentation via cycle-consistent transformer*, NeurIPS 2021 (CyCTR); Fan
# et al., *Self-support few-shot semantic segmentation*, ECCV 2022 (SSP), which selects by a threshold and faces the
# same question; Fawcett, *An introduction to ROC analysis*, 2006; [Results](../docs/results.md).
#
# Previous: [7 Evaluation](07_evaluation.ipynb).
# Next: [9 Prototype correlations](09_prototype_correlations.ipynb)
