# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 12. When does the second prototype pay?
#
# [Start here](00_start_here.ipynb) | [10 Your own images](10_your_own_images.ipynb) |
# [11 Ablations](11_ablations.ipynb) | **12 When does it pay?** | [13 PASCAL and COCO](13_pascal_and_coco.ipynb)
#
# **What you will learn.** Under which conditions the pseudo-prototype $P_q$ helps: how far support and query differ,
# how many support images there are, how careful their masks are; in which scenes the difference arises; and which
# episodes it costs.
#
# **What you need.** [Notebook 3](03_cycle_comparison.ipynb): $P_q$ and the precision of a selection.
# [Notebook 7](07_evaluation.ipynb): mIoU and bootstrap intervals. [Notebook 11](11_ablations.ipynb): variants, pairs,
# verdicts.
#
# **Time.** About 50 minutes with the two exercises. The cells run in about a minute.

# %%
# %matplotlib inline
import matplotlib.pyplot as plt
import numpy as np
from IPython.display import display

from dpnet_lite.ablation.figures import conditions_figure
from dpnet_lite.ablation.studies import load_study
from dpnet_lite.course.analysis.payoff import (
    PRECISION,
    by_fact,
    differences_along,
    extremes,
    facts_of,
    precision_along,
    scored_episodes,
    scores_along,
    study_rows,
)
from dpnet_lite.course.analysis.scenes import FACTS, HIDDEN, scene_plan, scored_scenes
from dpnet_lite.course.analysis.strata import overall, paired_ious
from dpnet_lite.course.explorers.episode import cases_figure
from dpnet_lite.course.explorers.payoff import along_figure, strata_figure
from dpnet_lite.experiments.plots import BLACK, BLUE, ORANGE, overlay

studies = {name: load_study(name) for name in ("gap", "shots", "label-noise")}
rows = {name: study_rows(name) for name in studies}
for name, study in studies.items():
    runs = {(row["fold"], row["seed"]) for row in rows[name]}
    print(f"{name}: {len(rows[name])} rows, {len(runs)} pairs of fold and seed. {study.question}")

# %% [markdown]
# ## 12.1 Along the dial
#
# The toy world has a dial, the **gap**: at 0 all objects of a class look alike, at 1 colour, light, pose and the scale
# of the texture differ nearly freely between two scenes. Support-query diversity is the obstacle that the paper names
# *(stated)*; the dial is *(our choice)*. All networks were trained at gap 0.5 and are tested along the dial. The
# variants:
#
# - *baseline*: P alone, no interaction, one scale. *CCM*: with $P_q$. *MSF*: the baseline with dilated convolutions.
#   *CCM + PIM*: both prototypes interact, one scale. *full*: all three modules, in the forms of lesson 11.
# - *support only*: the full network with P in the place of $P_q$. As many parameters, not the idea. So
#   **full less support only** is the fair measure of what $P_q$ is worth to the whole network.
#
# Test scenes are drawn anew for each gap, so a column has its own episodes; within a column all variants have the same.

# %%
gap = studies["gap"]
names = [condition.name for condition in gap.conditions]
scores = {variant.name: 100 * scores_along(gap, rows["gap"], variant.name) for variant in gap.variants}
print(f"{'mIoU, %':16}" + "".join(f"{name:>10}" for name in names))
for name, values in scores.items():
    print(f"{name:16}" + "".join(f"{value:10.1f}" for value in values))
display(conditions_figure(gap, rows["gap"]))
plt.close("all")

# %% [markdown]
# *What to see:* each line is a variant; bars are 95 % intervals over episodes and seeds. Where does a line fall? A fall
# says that the scenes got harder for this variant, or less like those it was trained on (gap 0.5); this picture cannot
# part the two. (*Training-free* is low along the whole dial: it has little to lose.) What $P_q$ changes is the distance
# between two lines. The next cell measures it in pairs: the same episodes, the same fold and seed. Its verdicts are not
# corrected for their number: expect about one in twenty of those about nothing to be chance.


# %%
def verdict(interval):
    """In words: which of the two is ahead, as far as the interval tells."""
    low, high = interval
    return "ahead" if low > 0 else "behind" if high < 0 else "no measurable difference"


PAIRS = {
    "CCM less baseline": ("CCM", "baseline"),
    "MSF less baseline": ("MSF", "baseline"),
    "CCM + PIM less CCM": ("CCM + PIM", "CCM"),
    "full less support only": ("full", "support only"),
}
along = {name: differences_along(gap, rows["gap"], *pair) for name, pair in PAIRS.items()}
for name, found in along.items():
    print(name)
    for condition, value, (low, high) in zip(found.conditions, 100 * found.values, found.intervals, strict=True):
        print(f"  {condition:9} {value:+5.1f} [{100 * low:+5.1f}, {100 * high:+5.1f}]  {verdict((low, high))}")
display(along_figure(along, "difference of mIoU, points"))

# by hand: rows are paired by fold and seed, and every pair counts the same
for condition, value in zip(names, along["full less support only"].values, strict=True):
    own = {
        name: {
            (row["fold"], row["seed"]): row["miou"]
            for row in rows["gap"]
            if (row["variant"], row["condition"]) == (name, condition)
        }
        for name in ("full", "support only")
    }
    assert np.isclose(value, np.mean([own["full"][key] - own["support only"][key] for key in own["full"]]))

# %% [markdown]
# *What to see:* above the black line the first of the two is ahead; an interval that crosses it says that these runs
# cannot tell. Compare the two lines that are about $P_q$ (*CCM less baseline* and *full less support only*) with the
# other two, and look whether they rise or fall along the dial.
#
# Now the question of the study: where does the support prototype break, and does the pseudo-prototype rescue it? The
# cell takes the score at gap 0 as what a variant can do when nothing differs, and calls the drop since then its
# **loss**. *Breaks* is where the loss of *support only* first exceeds a quarter of its score at gap 0 *(our choice)*.
# *Rescued* is the share of that loss which *full* does not have: 100 % if *full* lost nothing, 0 % if both lose the
# same, negative if *full* loses more. A lead that is there at gap 0 already is none of it. The share is left out where
# the loss is below five points.

# %%
support_only, full = scores["support only"], scores["full"]
loss, loss_full = support_only[0] - support_only, full[0] - full
print(f"{'':10}{'support only':>13}{'full':>8}{'loss of support only':>22}{'loss of full':>14}{'rescued':>10}")
for k, name in enumerate(names):
    rescued = f"{100 * (1 - loss_full[k] / loss[k]):8.0f} %" if loss[k] >= 5 else f"{'-':>10}"
    print(f"{name:10}{support_only[k]:13.1f}{full[k]:8.1f}{loss[k]:22.1f}{loss_full[k]:14.1f}{rescued}")
broken = [name for name, value in zip(names, loss, strict=True) if value > support_only[0] / 4]
print(f"support only breaks at: {broken[0] if broken else 'none of these'} (a loss above {support_only[0] / 4:.1f})")

# %% [markdown]
# *What to see:* the last column. Read off how far it stays from 100 %: to be ahead everywhere is one thing, to rescue
# what the gap takes is another. One reason shows in the next picture: the selection behind $P_q$ starts from the
# support, and so it suffers from the same gap.

# %%
selecting = {name: precision_along(gap, rows["gap"], name) for name in ("CCM", "CCM + PIM", "full")}
display(along_figure(selecting, "precision of the selection, %", percent=True))
for name, found in selecting.items():
    print(f"{name:10}" + "".join(f"{100 * value:8.1f}" for value in found.values))

# %% [markdown]
# *What to see:* precision is the share of $P_q$'s weight that lies on the object, here its mean over episodes. Where it
# falls, $P_q$ describes something else more often (12.4 shows that it is mostly all or nothing). The three lines lie on
# each other: the networks select alike, and differ in what they make of it.
#
# ## 12.2 More support images, careless masks
#
# Two further studies test the same trained networks; they were trained with one support image and exact masks. *Shots*:
# 1 to 20 support images. *Label noise*: the support masks are too small (eroded), too large (dilated) or beside the
# object (shifted), by the named number of pixels *(all our choice)*. *As drawn* is gap 0.5 again. *Shots* has shorter
# episode lists of its own, printed below, so its first column differs a little from both.

# %%
against = {"gap": along["full less support only"]}  # for each study; section 12.7 comes back to it


def show(name):
    study = studies[name]
    print(f"{name}: {study.n_episodes} episodes of each fold for every condition")
    display(conditions_figure(study, rows[name]))
    plt.close("all")
    against[name] = found = differences_along(study, rows[name], "full", "support only")
    display(along_figure({"full less support only": found}, "difference of mIoU, points"))
    print(f"full less support only, {name}")
    for condition, value, (low, high) in zip(found.conditions, 100 * found.values, found.intervals, strict=True):
        print(f"  {condition:13} {value:+5.1f} [{100 * low:+5.1f}, {100 * high:+5.1f}]  {verdict((low, high))}")
    free = differences_along(study, rows[name], "training-free", "full")
    leads = [condition for condition, (low, _) in zip(free.conditions, free.intervals, strict=True) if low > 0]
    print(f"training-free is ahead of full at: {', '.join(leads) or 'none of these'}")
    for variant in study.variants:
        means = 100 * scores_along(study, rows[name], variant.name)
        print(f"mIoU of {variant.name}: " + ", ".join(f"{mean:.1f}" for mean in means))


show("shots")

# %%
show("label-noise")

# %% [markdown]
# *What to see:* each study has two pictures: first the scores, then what $P_q$ adds. Two things could happen with more
# shots: P becomes better and leaves less to do, or the selection becomes better and $P_q$ with it. If the difference
# falls by more than its intervals leave open, the first weighs more; if not, these runs cannot tell. With careless
# masks look at *support only* first: how much does a wrong mask cost P? Where both networks have next to nothing left
# (the last printed lines), it matters little which of them is behind. Then ask whether the difference is larger than
# with the masks as drawn, as it would be if $P_q$ made up for the errors. Keep in mind that the way back of the cycle
# trusts the same mask, also where it covers background. And look where *training-free* crosses the trained networks.
# They saw exact masks only in training; it has learned nothing that a wrong mask could upset *(our guess, not tested)*.
# A moved mask is another kind of error than one of the wrong size, so no line joins the two.
#
# ## 12.3 What the labels do not say
#
# Means over all episodes hide where a difference comes from. We need facts about single episodes. Some are in the
# labels: how much of the image the class covers (called *object size* here). Others are not: how many objects were
# drawn; how many are of another class (**distractors**), and how many of these share the class's outline or texture
# (look-alikes); which share of the object others hide (**hidden share**). The toy world can tell them: every scene is
# drawn from a plan, and `course.analysis.scenes` repeats the plan with the same random numbers. The first assertion
# says that the labels agree, the second that the episode list is the one that was scored.

# %%
EXAMPLE_FOLD = 0
scenes = scored_scenes(EXAMPLE_FOLD)
episodes = scenes.episodes()
for index in range(12):
    assert np.array_equal(scene_plan(scenes.world, index).labels, scenes.world[index].labels.numpy())
condition = next(condition for condition in gap.conditions if condition.gap == 0.5)
paired = paired_ious(rows["gap"], "full", "support only", condition.name)
assert episodes.sha256 == paired.episodes_sha256[EXAMPLE_FOLD]

facts = facts_of(paired, condition)
print(f"{len(paired.folds)} episodes of {len(np.unique(paired.class_names))} novel classes, {condition.name}, 1 shot")
print(f"{'fact':26}{'lowest':>9}{'median':>9}{'highest':>9}")
for name in FACTS:
    low, middle, high = np.quantile(facts[name], [0, 0.5, 1])
    print(f"{name:26}{low:9.2f}{middle:9.2f}{high:9.2f}")

# %% [markdown]
# Sizes are shares of the image. The next cell shows the query with the largest hidden share in this fold.

# %%
own = [scenes.facts[episode.query][episode.class_index].hidden for episode in episodes]
most = episodes[int(np.argmax(own))]
plan = scene_plan(scenes.world, most.query)
is_own = np.array([c == most.class_index for c in plan.classes])
whole = plan.masks[is_own].any(axis=0)
visible = plan.labels == most.class_index + 1
image = scenes.world[most.query].image.permute(1, 2, 0).numpy()

figure, grid = plt.subplots(1, 3, figsize=(8, 3), layout="constrained")
for axes, picture, title in zip(
    grid,
    (image, overlay(image, visible, BLUE), overlay(image, whole & ~visible, ORANGE)),
    (f"query: {scenes.class_names[most.class_index]}", "what is seen of it", "what others hide"),
    strict=True,
):
    axes.imshow(picture)
    axes.set(xticks=[], yticks=[])
    axes.set_title(title, fontsize=12)
plt.show()
print(f"objects in the order of painting: {[scenes.class_names[c] for c in plan.classes]}")
print(f"hidden share: {1 - visible.sum() / whole.sum():.2f}")

# %% [markdown]
# *What to see:* blue, what the labels call the class; orange, pixels that would be the class's if nothing lay before
# them. The world looks for room when it places its objects, so large hidden shares are rare.
#
# ### Exercise 12.1: the hidden share (medium, 15 minutes)
#
# Objects are painted one after the other; a later one hides an earlier one. Write `my_hidden_share(masks, own)` for
# `masks`, bool [n, H, W], where each object would be seen if it were alone, in the order of painting, and `own`, bool
# [n], which of them are the class's. Return the share of the class's pixels that *other* objects hide. A pixel that
# two own objects share counts once, and an own object hides nothing of another own one. Ask of each pixel: which object
# lies on top?


# %% jupyter={"source_hidden": true}
def my_hidden_share(masks: np.ndarray, own: np.ndarray) -> float:
    """Share of the pixels of the own objects on which an object of another class lies on top."""
    # BEGIN SOLUTION
    top = np.full(masks.shape[1:], -1)
    for number, mask in enumerate(masks):
        top[mask] = number
    whole = masks[own].any(axis=0)
    seen = np.isin(top, np.flatnonzero(own))
    return 1 - seen.sum() / whole.sum()
    # END SOLUTION


# %% tags=["check"]
from dpnet_lite.course.exercises.lesson_12 import check_hidden_share

check_hidden_share(my_hidden_share)

# %% [markdown]
# ## 12.4 Where the difference comes from
#
# We sort the episodes by a fact into **strata**, groups with similar values, and take the difference *full less support
# only* within each. The measure changes: a stratum may hold few episodes of a class, so we take the mean over episodes
# of their IoU, not mIoU. It is not comparable with the numbers above. Intervals: episodes are resampled within their
# class, seeds within their fold; all strata share the draws.
#
# Let $d_e$ be the difference of episode e, averaged over seeds, N the number of episodes and $G_k$ stratum k. Then
#
# $$\frac{1}{N}\sum_e d_e = \sum_k \frac{|G_k|}{N} \cdot \frac{1}{|G_k|}\sum_{e \in G_k} d_e$$
#
# Each term on the right is the **contribution** of a stratum: its share of the episodes times its mean. Contributions
# add up to the whole; means do not.
#
# ### Exercise 12.2: contributions (easy, 10 minutes)
#
# Write `my_contributions(differences, numbers, n_strata)` for the differences, float [N], and the number of each
# episode's stratum, int [N] from 0 to `n_strata` - 1. Return the contribution of each stratum, an array [n_strata]. A
# stratum without episodes adds 0.


# %% jupyter={"source_hidden": true}
def my_contributions(differences: np.ndarray, numbers: np.ndarray, n_strata: int) -> np.ndarray:
    """What each stratum adds to the mean of all differences."""
    # BEGIN SOLUTION
    return np.array([differences[numbers == k].sum() / len(differences) for k in range(n_strata)])
    # END SOLUTION


# %% tags=["check"]
from dpnet_lite.course.exercises.lesson_12 import check_contributions

check_contributions(my_contributions)

# %%
whole = overall(paired)
tables = {name: by_fact(paired, facts, name) for name in (*FACTS, PRECISION)}
low, high = whole.interval
print(
    f"all episodes: full {100 * whole.variant:.1f}, support only {100 * whole.control:.1f}, "
    f"difference {100 * whole.difference:+.1f} [{100 * low:+.1f}, {100 * high:+.1f}]"
)
for name, (table, labels) in tables.items():
    low, high = table.contrast_interval
    print(
        f"\n{name}, last stratum less first: {table.verdict} "
        f"({100 * table.contrast:+.1f} [{100 * low:+.1f}, {100 * high:+.1f}])"
    )
    for label, stratum in zip(labels, table.strata, strict=True):
        low, high = stratum.interval
        print(
            f"  {label:12} {100 * stratum.share:3.0f} % of episodes, support only {100 * stratum.control:5.1f}, "
            f"difference {100 * stratum.difference:+6.1f} [{100 * low:+6.1f}, {100 * high:+6.1f}], "
            f"adds {100 * stratum.contribution:+5.2f}"
        )
    assert np.isclose(sum(stratum.contribution for stratum in table.strata), whole.difference)
display(strata_figure(tables, whole.difference))

# by hand, for one stratum
differences = paired.differences.mean(axis=0)  # [S, N] -> [N]
untouched = facts[HIDDEN] < 0.001
assert np.isclose(differences[untouched].mean(), tables[HIDDEN][0].strata[0].difference)

# %% [markdown]
# *What to see:* a panel for each fact; a point is a stratum with its interval, the dashed line is the mean of all
# episodes, and the number in brackets is the stratum's share of the episodes in per cent. Where all intervals contain
# the dashed line these runs do not show that the fact matters to the *difference*, however much it may matter to both
# scores (the column *support only* above). The printed contrast compares only the last stratum with the first: a bump
# between them escapes it, so look at the panel too. Wide intervals belong to small strata.
#
# Three cautions. We look at eight facts, and one in twenty such contrasts looks like something by chance. Facts hang
# together: a query with three objects of the class also shows more of the class. And the last panel is of another kind:
# precision is not a fact of the scene but an outcome of *full* itself. The difference takes out what is hard for both
# networks, but not this: where *support only* is near 0 there is little to lose, where it is near 100 little to win.
# Read that panel as a description, not as cause and effect.
#
# ## 12.5 The worst and the best episodes
#
# Means and strata say how often; single cases say how. For every episode we average the difference over the seeds. The
# code takes the largest losses and the largest wins of fold 0, each query once; no person has picked them.

# %%
K = 4
in_fold = np.flatnonzero(paired.folds == EXAMPLE_FOLD)
order = in_fold[np.argsort(differences[in_fold], kind="stable")]  # the largest loss first


def first_of_each_query(positions):
    """The positions whose query did not come before."""
    queries = [episodes[int(paired.numbers[position])].query for position in positions]
    return np.array([p for k, p in enumerate(positions) if queries[k] not in queries[:k]])


picked = {"largest losses": first_of_each_query(order)[:K], "largest wins": first_of_each_query(order[::-1])[:K]}
for title, positions in picked.items():
    chosen = [episodes[int(paired.numbers[position])] for position in positions]
    all_opened = scored_episodes(EXAMPLE_FOLD, chosen)
    assert [opened.class_name for opened in all_opened] == list(paired.class_names[positions])
    figure = cases_figure(all_opened)
    for axes, position in zip(figure.axes[-K:], positions, strict=True):
        ours, theirs = paired.variant[:, position].mean(), paired.control[:, position].mean()
        precision = paired.precision[:, position].mean()
        axes.set_xlabel(f"study: full {ours:.2f}\nsupport only {theirs:.2f}\nprecision {precision:.2f}", fontsize=10)
    figure.suptitle(f"{title} of full against support only", fontsize=12)
    display(figure)

# %% [markdown]
# *What to see:* top row: the support; middle: the pixels behind $P_q$; bottom: the mask; the outline is the truth.
# These pictures come from the *shipped* network, which was trained longer. The numbers below them are means of the
# study's networks; where their precision and the one in the picture disagree, believe the one below, and do not read
# the picture. In the other columns, look where the blue lies in a loss, and where in a win.
#
# A few pictures are a few pictures. The next cell compares the facts of the worst and the best episodes, one in twenty
# of each, of all folds, with those of all.

# %%
n = len(differences) // 20
worst, best = extremes(paired, n)
assert np.array_equal(worst[:1], [np.argmin(differences)]) and np.array_equal(best[:1], [np.argmax(differences)])
print(f"{'mean of':26}{'worst ' + str(n):>12}{'all':>9}{'best ' + str(n):>12}")
for name, values in facts.items():
    values = np.broadcast_to(values, paired.differences.shape).mean(axis=0)
    print(f"{name:26}{values[worst].mean():12.2f}{values.mean():9.2f}{values[best].mean():12.2f}")
for name, values in (("IoU of full", paired.variant), ("IoU of support only", paired.control)):
    values = values.mean(axis=0)
    print(f"{name:26}{values[worst].mean():12.2f}{values.mean():9.2f}{values[best].mean():12.2f}")

bad = paired.precision < 0.2
total = paired.differences.size
print(
    f"\nepisodes, each scored by the network of one seed, with a precision below 0.2: {100 * bad.mean():.0f} %; "
    f"they add {100 * paired.differences[bad].sum() / total:+.2f} points to the difference, "
    f"all others {100 * paired.differences[~bad].sum() / total:+.2f}"
)

figure, axes = plt.subplots(figsize=(6, 3.4), layout="constrained")
axes.hist(100 * differences, bins=np.arange(-100, 101, 5), color=BLUE)
axes.axvline(0, color=BLACK, linewidth=1)
axes.axvline(100 * differences.mean(), color=ORANGE, linewidth=2, linestyle="--", label="mean")
axes.set_xlabel("full less support only, IoU of an episode, points", fontsize=11)
axes.set_ylabel("episodes", fontsize=11)
axes.legend(frameon=False, fontsize=11)
plt.show()
print(
    f"episodes where full is ahead by more than 5 points: {100 * (differences > 0.05).mean():.0f} %, "
    f"behind by more than 5: {100 * (differences < -0.05).mean():.0f} %"
)

# %% [markdown]
# *What to see:* the difference is a balance. The picture shows for how many episodes $P_q$ changes little, and how long
# both tails are. The table says what sets the tails apart: compare the scene's facts, which the support and the query
# decide, with the precision of the selection, which the method decides.
#
# A caution: the worst and the best of many are extreme partly by luck. The averages over seeds lessen that, they do not
# remove it. The strata of 12.4 are the safer evidence.
#
# ## 12.6 Look yourself
#
# With a running kernel: choose a study, one of its conditions and a fact. Does the pattern by precision stay the same
# along the dial? With twenty shots? With shifted masks?

# %%
from dpnet_lite.course.explorers.payoff import payoff_explorer

payoff_explorer()

# %% [markdown]
# ## 12.7 When does it pay?
#
# The summary is written by code from the rows, so that it says no more than they do.

# %%
for name, found in against.items():
    by_verdict = {}
    for condition, interval in zip(found.conditions, found.intervals, strict=True):
        by_verdict.setdefault(verdict(interval), []).append(condition)
    for word, where in by_verdict.items():
        print(f"{name}, full less support only: {word}: {', '.join(where)}")
    print()
for name, found in along.items():
    if name != "full less support only":
        ahead = [c for c, (low, _) in zip(found.conditions, found.intervals, strict=True) if low > 0]
        behind = [c for c, (_, high) in zip(found.conditions, found.intervals, strict=True) if high < 0]
        print(f"gap, {name}: ahead at {', '.join(ahead) or 'none'}; behind at {', '.join(behind) or 'none'}")
print()
for name, (table, labels) in tables.items():
    print(f"{name}, {labels[-1]!r} less {labels[0]!r}: {table.verdict}")
largest = max(tables, key=lambda name: abs(tables[name][0].contrast))
print(f"\nlargest contrast: {largest}, {100 * tables[largest][0].contrast:+.1f} points")
first = tables[PRECISION][0].strata[0]
print(f"lowest precisions: {100 * first.share:.0f} % of all scored episodes, full is {verdict(first.interval)} there")

# %% [markdown]
# How to read it:
#
# - **What goes with it.** If the largest contrast is that of the precision, then no single fact of the scene parts the
#   episodes as the outcome of the selection does. The facts may still act through it. Our reading, which these tables
#   cannot prove: where the selection lies on the object, $P_q$ adds what the support did not show; where it lies on
#   another object, $P_q$ describes the wrong thing, and the network follows it. The last line says whether *full* is
#   behind there.
# - **Under which conditions.** The lists say where the balance is positive, where negative, and where these runs cannot
#   tell; they are not corrected for their number. An error that lets *background* into the support mask can hit twice:
#   P averages wrong cells, and the way back accepts them. Look whether the lead turns with a small such error, or with
#   the larger ones only.
# - **What to do with it.** The fact that matters most is not known when a new query comes: precision needs the truth.
#   [Lesson 8](08_inside_the_selection.ipynb) asks which signs could stand in for it.
#
# All this is measured on a drawn world, with our formulas, a small backbone and a short training. It says nothing
# about the paper's own numbers.
#
# ## Recap
#
# - *Full less support only*, in pairs, is what $P_q$ is worth; a mean over all episodes hides a balance of wins and
#   losses.
# - Strata of facts show where it arises; contributions add up to the whole.
# - Facts that the labels lack (occlusion, look-alikes) can be told by the world that drew the scenes.
# - Cases must be chosen by code, and extremes are partly luck.
#
# **Further reading.** [Results](../docs/results.md), section *Where the difference to support-only is lost*; Efron and
# Tibshirani, *An introduction to the bootstrap*, 1993.
#
# Previous: [11 Ablations](11_ablations.ipynb). Next: [13 PASCAL and COCO](13_pascal_and_coco.ipynb)
