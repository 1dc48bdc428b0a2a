# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 13. Reading a benchmark table
#
# [Start here](00_start_here.ipynb) | [12 When does it pay?](12_when_does_it_pay.ipynb) | **13 Reading a benchmark
# table**
#
# **What you will learn.** How to read one row of a paper's table: what its folds are made of, how sure its digits are,
# and what must be equal before two rows may be subtracted.
#
# **What you need.** [Notebook 1](01_few_shot_segmentation.ipynb): episodes, folds, base and novel classes.
# [Notebook 7](07_evaluation.ipynb): mIoU, FB-IoU, intervals, pairs. No data set, no GPU.
#
# **Time.** About 65 minutes: 35 to read, 30 for the exercises. The cells run in about half a minute.
#
# How to get PASCAL-5i and COCO-20i ready, check a copy, train by a recipe on one GPU or several, and score: that is no
# lesson but a manual, [docs/published.md](../docs/published.md).

# %% [markdown]
# ## 13.1 One row
#
# This is the row that everything in this lesson is about. It is **second-hand**: DPNet on PASCAL-5i with ResNet-50, as
# QPENet (TMM 2024) prints it in its comparison. We have not seen the paper's own table, and have not reproduced it.

# %%
# %matplotlib inline
from dataclasses import replace

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.colors import ListedColormap

from dpnet_lite.course.page import claim, table
from dpnet_lite.experiments.plots import BLACK, BLUE, GREEN, ORANGE

PRINTED = {"1-shot": ((60.7, 69.5, 62.8, 58.0), 62.7), "5-shot": ((64.7, 70.8, 69.0, 60.1), 66.2)}  # mIoU in %
rows = {"mIoU, %": list(PRINTED)}
rows |= {f"fold {fold}": [of_folds[fold] for of_folds, _ in PRINTED.values()] for fold in range(4)}
rows["mean, as printed"] = [mean for _, mean in PRINTED.values()]
rows["mean of the four"] = [float(np.mean(of_folds)) for of_folds, _ in PRINTED.values()]
formats = {name: "{:.1f}" for name in rows if name not in ("mIoU, %", "mean of the four")} | {
    "mean of the four": "{:.2f}"
}
table(rows, "DPNet, PASCAL-5i, ResNet-50: second-hand, as printed by QPENet, not reproduced here", formats=formats)

# %% [markdown]
# Three things can be seen at once. The printed means fit the printed folds up to rounding. Folds differ by more than
# ten points, so a mean over other folds, or over three of them, is another number. And there is no interval: the row
# does not say how sure its last digit is. The next sections take these up in turn.

# %% [markdown]
# ## 13.2 What is in a fold?
#
# **PASCAL-5i** joins two data sets with the same 20 classes, VOC2012 and SBD. Its training images are the union of
# VOC's `train` and SBD's `train_noval`; its test images are VOC's `val`. **COCO-20i** takes the images of COCO and its
# 80 classes. In both, each class is novel in one of four folds and base in the three others
# ![precedent](../figures/badges/precedent.svg) *OSLSM, FWB*. How classes are dealt out differs:

# %% alt=["Three grids of four folds (rows) by classes (columns), novel classes in orange. PASCAL-5i: blocks of five neighbours. COCO-20i as HSNet, PFENet and BAM have it: every fourth class. COCO-20i as the code of SSP has it: blocks of twenty."] jupyter={"source_hidden": true}
from dpnet_lite.datasets.folds import novel_classes
from dpnet_lite.published.protocols.specs import PROTOCOLS

figure, panels = plt.subplots(3, 1, figsize=(7.5, 5.4), layout="constrained")
layouts = {"PASCAL-5i": (20, "blocked")}
layouts |= {
    f"COCO-20i, {names}": (80, PROTOCOLS[names.split(",")[0]].coco_folds) for names in ("hsnet, pfenet, bam", "ssp")
}
for axes, (title, (n_classes, layout)) in zip(panels, layouts.items(), strict=True):
    is_novel = np.zeros((4, n_classes))
    for fold in range(4):
        is_novel[fold, list(novel_classes(n_classes, fold, 4, layout))] = 1
    axes.pcolormesh(is_novel, cmap=ListedColormap(["0.88", ORANGE]), edgecolors="white", linewidth=30 / n_classes)
    axes.invert_yaxis()
    axes.set_xticks(np.arange(0, n_classes, n_classes // 4) + 0.5, range(0, n_classes, n_classes // 4), fontsize=13)
    axes.set_yticks(np.arange(4) + 0.5, [f"fold {fold}" for fold in range(4)], fontsize=13)
    axes.set_title(f"{title}: {layout}", fontsize=14)
panels[-1].set_xlabel("class, in the data set's order", fontsize=13)
plt.show()
assert all(PROTOCOLS[name].coco_folds == "interleaved" for name in ("hsnet", "pfenet", "bam"))

# %% [markdown]
# *What to see:* a row is a fold, orange are its novel classes. Fold 1 of the second picture and fold 1 of the third
# share a quarter of their classes: scores of a single COCO fold from the two kinds of code are scores of other classes.
#
# The folds of PASCAL-5i are not alike either. An image serves a class only if it shows at least 2,048 pixels of it
# ![precedent](../figures/badges/precedent.svg) *PFENet's code*. By that rule, and counted by this project on the masks
# of VOC2012 and SBD (we know of no paper that prints these numbers):

# %%
from dpnet_lite.published.pascal_facts import NOVEL_SHARES, PASCAL5I_FACTS

folds = PASCAL5I_FACTS.folds
table(
    {
        "fold": [str(fold) for fold in range(len(folds))],
        "training images": [fold.train_images for fold in folds],
        "of these with a novel class": [fold.of_them_with_novel for fold in folds],
        "share of them": [f"{100 * fold.of_them_with_novel / fold.train_images:.0f} %" for fold in folds],
        "of all their pixels, novel": [f"{100 * share:.1f} %" for share in NOVEL_SHARES],
        "test images": [fold.val_images for fold in folds],
    },
    f"PASCAL-5i, real: {PASCAL5I_FACTS.train_images:,} training images, {PASCAL5I_FACTS.val_images:,} test images",
    formats={"training images": "{:,}", "of these with a novel class": "{:,}"},
)

# %% [markdown]
# *What to see:* fold 2 holds *person*, which many images show: it has the most test images, and in its training a third
# of the images also show a novel class. What happens to these objects is a choice that a table rarely names:
#
# - **background**: the novel object is taught to be background, like anything else that is not the episode's class
#   ![precedent](../figures/badges/precedent.svg) *PFENet, HSNet*;
# - **ignore**: its pixels leave the loss ![precedent](../figures/badges/precedent.svg) *RePRI*;
# - **drop**: no episode is drawn from such an image ![precedent](../figures/badges/precedent.svg) *BAM, HDMNet*.
#
# The three are different tasks. [Lesson 7.5](07_evaluation.ipynb) tries it once on the drawn world, too small to tell.

# %% [markdown]
# ## 13.3 How sure is a digit?
#
# A score is computed from episodes that were drawn at random. Other episodes give another score. *Which* others? Two
# papers on one benchmark draw **other lists from the same photographs**. Who wants to know how the method does on other
# photographs of these classes asks for more: the photographs themselves were drawn once, and episodes share them
# ([lesson 7.3](07_evaluation.ipynb)). The next cell takes real scores: the networks of the stored study on photographs
# (520 of COCO, four folds with 16 to 19 classes scored in each, 500 episodes per fold, one of its three training
# seeds), and cuts the lists to fewer episodes. *Half width* is half of a 95 % interval: the number behind the "±".
#
# ### Exercise 13.1: before you look (predict, then run, easy, 5 minutes)
#
# A paper tests 1,000 episodes per fold. Other lists could be drawn from its photographs. Predict: (1) Is the half width
# of one fold's mIoU nearer to 0.1, 1 or 3 points? (2) Two networks are scored on the *same* episodes, and their scores
# subtracted. Is the half width of the difference larger or smaller than that of one score? (3) And on *different* lists
# of episodes? (4) How wide is it if the *photographs* were others, too, and do more episodes help?
#
# <details><summary>Hint 1</summary>
#
# An episode's IoU can be anything from 0 to 1. What is the standard deviation of such a number, roughly, and what is
# left of it after dividing by the root of 1,000?
#
# </details>
# <details><summary>Hint 2</summary>
#
# Hard episodes are hard for both networks. What happens to a common part when you subtract? And to two independent
# errors?
#
# </details>
# <details><summary>Answer</summary>
#
# (1) 1 (about 1.2): follow the line of one score to 1,000. (2) Smaller, the more so the more alike the two networks
# are: what is hard for both cancels. (3) Larger, by the root of 2: nothing cancels. Two papers that drew their own
# episodes are in case (3). (4) Here more than twice as wide, both at 500 episodes, and it hardly falls: more
# episodes of the same few photographs bring no new ones.
#
# </details>

# %%
from dpnet_lite.ablation.table import shipped_rows, unpack_scores
from dpnet_lite.evaluation import EpisodeScores
from dpnet_lite.experiments.intervals import bootstrap_interval, paired_difference

stored = [row for row in shipped_rows("modules", "photos") if row["seed"] < 3]
scores = {(row["variant"], row["fold"], row["seed"]): unpack_scores(row["scores"]) for row in stored}
assert {len(set(scores["full", fold, 1].class_index.tolist())) for fold in range(4)} <= set(range(16, 20))
RELATIVES = {
    "support only": ("support only", 1),
    "another training": ("full", 2),
    "training-free": ("training-free", 1),
}


# %%
def first(n: int, of: EpisodeScores, other_photographs: bool) -> EpisodeScores:
    """The first n episodes of a run; classes take turns, so all of them stay. Without images: others of the same ones."""
    return EpisodeScores(
        of.class_index[:n], of.counts[:n], of.class_names, images=of.images[:n] if other_photographs else None
    )


def half_widths(n: int, other_photographs: bool = False) -> dict[str, float]:
    """Mean over the folds, in points, with n episodes per fold."""
    found = {"one score": []} | {f"same episodes, minus {name}": [] for name in RELATIVES}
    for fold in range(4):
        full = first(n, scores["full", fold, 1], other_photographs)
        interval = bootstrap_interval(full)
        found["one score"].append(50 * (interval.high - interval.low))
        for name, (variant, seed) in RELATIVES.items():
            _, paired = paired_difference(full, first(n, scores[variant, fold, seed], other_photographs))
            found[f"same episodes, minus {name}"].append(50 * (paired.high - paired.low))
    return {name: float(np.mean(values)) for name, values in found.items()}


OTHER, COUNTS = "difference, other episodes", (100, 200, 300, 400, 500)
widths = {n: half_widths(n) for n in COUNTS}
for of_n in widths.values():
    of_n[OTHER] = 2**0.5 * of_n["one score"]  # two independent scores, equally wide
at_1000 = {name: value * (500 / 1000) ** 0.5 for name, value in widths[500].items()}
photographed = {n: half_widths(n, other_photographs=True) for n in COUNTS}


# %%
assert 1.1 < at_1000["one score"] < 1.3  # the answer of 13.1 says so
assert all(photographed[500][name] > 1.9 * widths[500][name] for name in photographed[500])  # and these
assert photographed[500]["one score"] > max(2 * widths[500]["one score"], 0.9 * photographed[300]["one score"])
shown_once = [scores["full", fold, 1] for fold in range(4)]
n_images = [len(np.unique(one.images[one.class_index == c])) for one in shown_once for c in np.unique(one.class_index)]
print(f"photographs of a class in these lists: {min(n_images)} to {max(n_images)}, half of the classes", end=" ")
print(f"have at most {np.median(n_images):.0f}")
table(
    {
        "": list(at_1000),
        "other lists, 1,000 episodes": [f"{value:.1f}" for value in at_1000.values()],
        "other lists, 500": [f"{value:.1f}" for value in widths[500].values()],
        "other photographs, 500": [f"{photographed[500][n]:.1f}" if n != OTHER else "" for n in at_1000],
    },
    "Half widths, points; 1,000 episodes: from 500, by the root",
)

# %% alt=["Half width in points against the number of episodes, on double logarithmic axes, for one score, for differences on the same episodes to three relatives, and on other episodes. All fall about as the root of the number; close relatives on the same episodes are lowest, other episodes highest. Above them crosses, one score and other photographs, level off at about four points."] jupyter={"source_hidden": true}
figure, axes = plt.subplots(figsize=(7, 5.6), layout="constrained")
MARKS = (("o", BLUE), ("D", GREEN), ("^", "#CC79A7"), ("v", "#767676"), ("s", ORANGE))
ENDS = {"other episodes": (1.06, "center"), "one score": (0.97, "center")}  # where names would touch
SHORT = ("one score", "minus support only", "minus another training", "minus training-free", "other episodes")
STYLES = dict(zip(widths[500], MARKS, strict=True))
longer = np.array([500, 20000])
for (name, (marker, colour)), short in zip(STYLES.items(), SHORT, strict=True):
    measured = [widths[n][name] for n in COUNTS]
    face = "none" if name == OTHER else colour
    axes.loglog(COUNTS, measured, marker, color=colour, markersize=8, markerfacecolor=face)
    axes.loglog(longer, measured[-1] * (500 / longer) ** 0.5, "--", color=colour)
    low, where = ENDS.get(short, (1, "center"))
    axes.text(23000, low * measured[-1] * (500 / 20000) ** 0.5, short, color=colour, va=where, fontsize=12)
axes.loglog(COUNTS, [photographed[n]["one score"] for n in COUNTS], "x-", color=BLACK, markersize=8)
axes.text(580, photographed[500]["one score"], "one score, other photographs", va="center", fontsize=12)
for n, who in ((1000, "hsnet,\nbam, ssp"), (5000, "pfenet")):
    axes.axvline(n, ymax=0.72, color="grey", linewidth=1)
    axes.text(n * 1.05, 2.9, who, va="top", fontsize=12, color="#444444")
axes.axhline(1, color=BLACK, linewidth=1)
axes.set_xlabel("episodes per fold", fontsize=13)
axes.set_ylabel("half width, points of mIoU", fontsize=13)
axes.set_xticks([100, 500, 1000, 5000, 20000], ["100", "500", "1,000", "5,000", "20,000"])
axes.set_yticks([0.3, 1, 3], ["0.3", "1", "3"])
axes.tick_params(labelsize=12)
axes.minorticks_off()
axes.spines[["top", "right"]].set_visible(False)
plt.show()

# %% [markdown]
# *What to see:* coloured lines are other lists from the same photographs. Each is named at its end; those with *minus*
# are differences on the same episodes. Filled marks are measured; hollow ones are computed from *one score*, as two
# independent scores; dashes go on by the root of the number (the measured marks scatter about such lines). Pairing is
# worth the more, the more alike the two networks are: full and support only of one seed are close relatives, two
# trainings of one network less so, full and training-free least. Two rows of a table that differ by one point at 1,000
# episodes of different lists say little about a fold. The mean of four folds is half as wide.
#
# Two things make real tables *less* sure than the coloured lines. For *other photographs* the crosses hold, and more
# episodes hardly mend it: half of the classes have few photographs here (the printed line; in 13.2 a fold of PASCAL-5i
# has hundreds for its five). And all of this is of the episodes alone: another training of the same network gives
# another score (lesson 7 measures it), and most tables have one training per row.
#
# With a running kernel, draw the lists yourself: each mark is the difference of two stored networks on a list of its
# own (from the same images, so not widened for them); orange ones miss what all episodes say. The rival is scored on *other episodes*, as in two papers. How often
# would you have reported no difference? What do longer lists change, the *same episodes*, a closer rival?

# %%
from dpnet_lite.course.explorers.apps import luck_explorer

luck_explorer("photos")

# %% [markdown]
# ### Exercise 13.2: how many episodes? (write, easy, 10 minutes)
#
# Write `my_episodes_needed(half_width, n, target)`: the half width of a score was measured with n episodes; return the
# smallest whole number of episodes at which it should be at most `target`. Then ask it: if 1,000 episodes give ±1.2,
# how many give ±0.5?
#
# <details><summary>Hint 1</summary>
#
# A half width falls as one over the *root* of the number of episodes: half as wide needs four times as many.
#
# </details>
# <details><summary>Hint 2</summary>
#
# Solve `half_width * (n / needed) ** 0.5 == target` for `needed`, and think of which way to round.
#
# </details>


# %% jupyter={"source_hidden": true}
def my_episodes_needed(half_width: float, n: int, target: float) -> int:
    """Smallest number of episodes with a half width of at most target."""
    # BEGIN SOLUTION
    return int(np.ceil(n * (half_width / target) ** 2))
    # END SOLUTION


# %% tags=["check"]
from dpnet_lite.course.exercises.lesson_13 import check_episodes_needed

check_episodes_needed(my_episodes_needed)

# %% [markdown]
# ## 13.4 The same answers, five protocols
#
# A **protocol** is everything between the network and the number: which episodes, at which size the answer is compared
# with the labels, which pixels count, how pixels become one score. This is what the code of four papers does, and what
# we do (files and lines: [Protocols](../docs/protocols.md)):

# %%
LABELS = {"own": "image size", "network": "network size", "longer side": "longer side"}
table(
    {
        "protocol": list(PROTOCOLS),
        "corners": ["aligned" if p.align_corners else "no" for p in PROTOCOLS.values()],
        "compared at": [LABELS[p.label_resolution] for p in PROTOCOLS.values()],
        "episodes": [f"{len(p.seeds)} x {p.episodes.pascal5i:,}" for p in PROTOCOLS.values()],
        "unseen": ["left out" if p.rule in ("accumulated", "seen") else "0" for p in PROTOCOLS.values()],
        "FB-IoU": ["yes" if p.fb_iou else "no" for p in PROTOCOLS.values()],
    },
    "PASCAL-5i, as the public code has it; episodes: seeds x number per fold; unseen: a class without an episode",
)

# %% [markdown]
# What is that worth? The next cell segments the 13 shipped objects once, with the shipped head and with the
# training-free rule (nearest prototype on the frozen features), and lets each protocol count the *same answers* in its
# way. The photographs are square, so padding changes little here; on real images of PASCAL it changes more
# ([measured](../docs/protocols.md#the-distorted-answer-of-pfenet-and-bam)).

# %%
from dpnet_lite.course.explorers.episode import object_episodes
from dpnet_lite.experiments.jobs import evaluate
from dpnet_lite.published.protocols.scoring import protocol_score
from dpnet_lite.published.score import count_under
from dpnet_lite.scoring import head_segmenter, training_free_segmenter

shown = object_episodes()
methods = {"DPNet": head_segmenter(shown.head), "training-free": training_free_segmenter(shown.backbone.deep_channels)}
listed = [shown.episodes(count=130, seed=2)]
runs = evaluate(methods, shown.bank, listed, count=count_under(list(PROTOCOLS.values())))


def under(runs, protocols) -> dict[str, dict[str, float]]:
    """mIoU in % by method and protocol."""
    made = {}
    for run in runs:
        counted = {name: run.scores[name] for name in protocols}
        scored = {n: protocol_score(protocols[n], s.class_index, s.counts, shown.novel)[0] for n, s in counted.items()}
        made[run.method] = {name: 100 * score for name, score in scored.items()}
    return made


def show(of: dict[str, dict[str, float]], caption: str):
    rows = {"mIoU, %": list(of), "spread": [max(scores.values()) - min(scores.values()) for scores in of.values()]}
    rows |= {name: [scores[name] for scores in of.values()] for name in PROTOCOLS}
    return table(rows, caption, formats="{:.1f}")


as_coded = under(runs, PROTOCOLS)
spread = {method: max(of.values()) - min(of.values()) for method, of in as_coded.items()}
show(
    as_coded,
    f"{len(listed[0])} episodes of shipped photographs, the same answers, counted in five ways; spread: largest minus "
    "smallest",
)

# %%
flagless = {n: replace(p, align_corners=False) if p.geometry != "pad" else p for n, p in PROTOCOLS.items()}
without_flag = under(evaluate(methods, shown.bank, listed, count=count_under(list(flagless.values()))), flagless)
unaligned = {method: max(of.values()) - min(of.values()) for method, of in without_flag.items()}
show(without_flag, "The same, hsnet and ssp without aligned corners")

# %% [markdown]
# *What to see:* no logit of any answer differs within a row, and yet the numbers do. Where they do, nearly all of it is
# one flag: `hsnet` and `ssp` resize the logits with *aligned corners* (the corner cells' centres are put on the image's
# corners), and this network was trained without. The second table takes the flag away. (`pfenet` and `bam` align them,
# too, but in a padded square, which moves the answer back.) In a real comparison the episodes differ on top: each code
# draws its own, in its own number, with its own seeds (BAM also prints the *best* of its five lists, which is too high
# by construction). Where the spread between protocols is as large as the difference of two papers, the two papers have
# not been compared.

# %% [markdown]
# ### What a perfect answer scores
#
# Networks take square images of one size; photographs are neither square nor of one size. Two ways to make them fit are
# in use, if the image is not left at its size (![precedent](../figures/badges/precedent.svg) *SSP*):
#
# - **squash**: resize both sides to the square, whatever becomes of the shapes.
#   ![precedent](../figures/badges/precedent.svg) *HSNet, 400 pixels*
# - **pad**: resize until the longer side fits, and fill what is left of the square with black.
#   ![precedent](../figures/badges/precedent.svg) *PFENet and BAM, 473 pixels*
#
# On the way back the prediction is resized to the size of the labels (or the labels to the network's size, as HSNet
# does). A **perfect prediction** tells what a protocol itself costs: the true mask, as well as a network of that size
# can draw it. It should score 1. `ours` and `ssp` fix no size; here their perfect answer is drawn at 473 pixels, too.
# The next cell cuts wide and tall pictures out of drawn scenes and counts perfect predictions under each protocol.

# %%
import torch

from dpnet_lite.course.analysis.scenes import scored_scenes
from dpnet_lite.published.protocols.counting import (
    compared,
    nearest_labels,
    padded_size,
    perfect_logits,
    protocol_counts,
    sure_logits,
)
from dpnet_lite.scoring import own_labels

SHAPES = {"square": (96, 96), "wide": (60, 96), "tall": (96, 60)}


def cut(labels: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """A window of labels [H, W] around the object, as far as the scene allows."""
    centre = (labels == 1).nonzero().float().mean(dim=0)
    top, left = (
        int(min(max(middle - size / 2, 0), whole - size))
        for middle, size, whole in zip(centre.tolist(), (height, width), labels.shape, strict=True)
    )
    return labels[top : top + height, left : left + width]


# %%
def perfect_answer(protocol, labels: torch.Tensor) -> torch.Tensor:
    """Logits [2, h, w] of a network of a stated size: the protocol's, or 473 where it fixes none."""
    if protocol.size.pascal5i is None:
        return sure_logits(nearest_labels(labels, (473, 473)))
    return perfect_logits(protocol, labels)


drawn = scored_scenes(0)
asked = [(own_labels(drawn.world, e.query, e.class_index), e.class_index) for e in drawn.episodes().episodes[:60]]
scenes, kinds = zip(*[pair for pair in asked if (pair[0] == 1).sum() >= 100], strict=True)
perfect = {}
for shape, size in SHAPES.items():
    pieces = [cut(labels, *size) for labels in scenes]
    for name, protocol in PROTOCOLS.items():
        rows = [protocol_counts(protocol, perfect_answer(protocol, piece), piece) for piece in pieces]
        perfect[shape, name] = protocol_score(protocol, np.array(kinds), torch.stack(rows).numpy())[0]
assert all(perfect[shape, "hsnet"] == 1 for shape in SHAPES)
assert all(perfect[shape, name] > 0.9995 for shape in SHAPES for name in ("ours", "ssp"))  # nearly: resized twice
assert all(perfect["wide", name] < perfect["square", name] < 1 for name in ("pfenet", "bam"))
columns = {shape: [perfect[shape, name] for name in PROTOCOLS] for shape in ("wide", "tall", "square")}
drawn_at = {"drawn at, pixels": [protocol.size.pascal5i or 473 for protocol in PROTOCOLS.values()]}
title = f"mIoU of perfect predictions, {len(scenes)} objects"
table({"protocol": list(PROTOCOLS), **columns, **drawn_at}, title, formats="{:.3f}")

# %% [markdown]
# *What to see:* 1 under three protocols (to three digits), less under `pfenet` and `bam`. Size is not the reason:
# 473 pixels are more than these pictures have, and `ours` and `ssp` lose next to nothing at 473. The next cell looks at
# one wide picture on its way: the one that loses most.

# %%
protocol = PROTOCOLS["pfenet"]
pieces = [cut(labels, *SHAPES["wide"]) for labels in scenes]
one = [protocol_counts(protocol, perfect_logits(protocol, piece), piece) for piece in pieces]
ious = [(row[0] / row[1]).item() for row in one]
piece = pieces[int(np.argmin(ious))]
answer = perfect_logits(protocol, piece)
height, width = piece.shape
side = protocol.size.pascal5i
inside_height, inside_width = padded_size(height, width, side)
taken = height * side / width
returned, target = compared(protocol, answer, piece)
print(f"the one of {len(pieces)} wide pictures that loses most: IoU {min(ious):.2f}")
print(f"all together: mIoU {perfect['wide', 'pfenet']:.2f}")
print(f"{height} rows become {taken:.1f}, rounded down to {inside_height}, a multiple of 8")

# %% jupyter={"source_hidden": true} alt=["Three panels: the labels of a wide picture; the perfect answer in the square, black below, with the row where the picture ends and, lower, the row where it is taken to end; and the comparison, where the answer has slipped upwards: missed below, wrongly found above"]
figure, panels = plt.subplots(1, 3, figsize=(10, 4.6), layout="constrained")
square = np.full((side, side), 0.0)
square[:inside_height, :inside_width] = 0.75
square[:inside_height, :inside_width][answer[1] > 0] = 1.0
panels[0].imshow(piece == 1, cmap="gray", vmin=-1.5, vmax=1)
panels[0].set_title(f"labels, {height} x {width}", fontsize=15)
panels[1].imshow(square, cmap="gray")
panels[1].axhline(inside_height, color=ORANGE, linewidth=2, label=f"ends: row {inside_height}")
panels[1].axhline(taken, color=BLUE, linewidth=2, linestyle="--", label=f"is taken to end: row {taken:.1f}")
panels[1].legend(loc="lower left", fontsize=13)
panels[1].set_title(f"perfect answer in {side} x {side}", fontsize=15)
colours = np.full((height, width, 3), 0.85)
found, true = (returned[:height, :width] == 1).numpy(), (piece == 1).numpy()
for mask, colour in ((found & true, (0, 0.62, 0.45)), (true & ~found, (0, 0.45, 0.7)), (found & ~true, (0.9, 0.62, 0))):
    colours[mask] = colour
panels[2].imshow(colours)
panels[2].set_title(f"compared: IoU {min(ious):.2f}", fontsize=15)
panels[2].set_xlabel("green: right, blue: missed,\norange: wrongly found", fontsize=14)
for panel in panels:
    panel.set_xticks([])
    panel.set_yticks([])
plt.show()

# %% [markdown]
# *What to see:* the two lines. The picture is resized to the square's width, and then *both sides are rounded down to
# a multiple of 8*. On the way back the code resizes the whole square to the longer side of the picture, as if nothing
# had been rounded. So the answer comes back squeezed upwards: the lower a row, the further it is from its place, and
# the last ones get what the network says of the black. How much that is depends on the shape of the picture and on
# where the object lies; small objects suffer most. It is a property of the code, not of a method, and every method
# tested with it pays. `hsnet` gives 1 for another reason: labels and prediction meet at 400 pixels, so nothing comes
# back at all. [Protocols](../docs/protocols.md) has the other differences and what is lost on real masks. In this
# project a prediction is resized back exactly as the image was squashed ![our choice](../figures/badges/ours.svg).

# %% [markdown]
# ### Exercise 13.3: may two rows be subtracted? (write, easy, 10 minutes)
#
# The table of the next cell is **made up**; no such papers exist. A row is a dictionary. Write `may_subtract(row_a,
# row_b)`: `method` and `mIoU` are what is compared, all else are *conditions*. Return the name of the first condition
# in which the two rows differ, in the order of the columns, or `None` where there is none. A condition that a paper
# does not state is `None` in its row, and equals nothing, not even another `None`. (*policy*: what became of novel
# objects in training, 13.2.)
#
# <details><summary>Hint 1</summary>
#
# A loop over the columns of one row; leave out the two that are no conditions.
#
# </details>
# <details><summary>Hint 2</summary>
#
# Two reasons to stop at a column: the values differ, or one of them is `None`. After the loop nothing is left to
# return but `None`.
#
# </details>

# %% tags=["given"]
CONDITIONS = ("backbone", "episodes", "policy", "kept")
PAPERS = [
    {"method": method, "mIoU": miou, **dict(zip(CONDITIONS, conditions, strict=True))}
    for method, miou, *conditions in (
        ("A", 61.2, "ResNet-50", "list 1", "background", "last"),
        ("B", 62.0, "ResNet-50", "list 1", "background", "last"),
        ("C", 63.5, "ResNet-101", "list 1", "background", "last"),
        ("D", 62.9, "ResNet-50", "best of 1 to 5", "background", "best"),
        ("E", 64.1, "ResNet-50", "lists 6 to 10", "drop", "last"),
    )
]
made_up = {name: [paper[name] for paper in PAPERS] for name in PAPERS[0]}
table(
    made_up,
    "Made up; lists 1 to 5 have 1,000 episodes each, lists 6 to 10 5,000; kept: which checkpoint, best: on the test",
    formats={"mIoU": "{:.1f}"},
)


# %% jupyter={"source_hidden": true}
def may_subtract(row_a: dict, row_b: dict) -> str | None:
    """The first condition in which two rows differ; None where there is none."""
    # BEGIN SOLUTION
    for name in row_a:
        if name not in ("method", "mIoU") and (row_a[name] is None or row_a[name] != row_b[name]):
            return name
    return None
    # END SOLUTION


# %% tags=["check"]
from dpnet_lite.course.exercises import ask, require, right

A, B, C, D, E = PAPERS
unknown = {**B, "policy": None}
free = ask(may_subtract, A, B)
require(free not in ("method", "mIoU"), "method and mIoU are what is compared, no conditions")
require(free is None, "A and B differ in no condition: return None")
for one, other, wanted in ((A, C, "backbone"), (B, D, "episodes"), (D, E, "episodes"), (C, E, "backbone")):
    given = ask(may_subtract, one, other)
    require(given == wanted, f"{one['method']} and {other['method']} differ first in {wanted!r}, not in {given!r}")
for pair in ((A, unknown), (unknown, A), (unknown, unknown)):
    require(ask(may_subtract, *pair) == "policy", "what is not stated (None) equals nothing, not even None")
right("13.3", "five pairs of rows, and three with something not stated")

# %% [markdown]
# ### Exercise 13.4: what would you ask the authors for? (explain, medium, 5 minutes)
#
# Which pairs of rows of this table can be subtracted to say something about the *methods*? What would you ask the
# authors of the others for? How sure is the one difference that you may compute?
#
# <details><summary>Hint 1</summary>
#
# Ask `may_subtract` of each pair. Each column that it names is an explanation of the difference other than the method.
#
# </details>
# <details><summary>Hint 2</summary>
#
# The lines with *minus* in 13.3 are examples of how wide the interval may be. What do they leave out?
#
# </details>
# <details><summary>Answer</summary>
#
# Only A and B: same backbone, list, policy, choice of checkpoint. C has another backbone. D has been chosen twice with
# the answers at hand, by the best list and the best checkpoint on the test: too high by an unknown amount. E has
# other episodes and another task (no image with a novel object in training). B minus A is 0.8 points. With the same
# episodes such a difference can be clear of the luck of the list, if the authors give the scores of each episode so
# that it can be paired; but A and B are one training each, and another seed may turn the sign. Ask A and B for more
# seeds, C for the other backbone, D for the mean over lists at the last checkpoint, E for the list and policy of the
# others.
#
# </details>

# %% [markdown]
# ## 13.5 What to ask of every row
#
# | question | why it matters | for the row of 13.1 |
# |---|---|---|
# | which images and folds? | 13.2 | PASCAL-5i; the lists are not known |
# | what became of novel objects in training? | 13.2 | not known |
# | which episodes, how many, how many seeds? | 13.3 | not known |
# | which protocol: size, labels, ignored pixels, mean? | 13.4 | not known |
# | how was the checkpoint chosen? | [lesson 7](07_evaluation.ipynb) | not known |
# | which backbone, with which weights? | features decide much | ResNet-50; its weights are not known |
# | how far do repeated trainings scatter? | lesson 7 | not known |
#
# And of the method itself:
#
# - ![stated](../figures/badges/stated.svg) (abstract, caption of a figure): support and query differ, and that is the
#   obstacle; a pseudo-prototype from selected, reliable features of the query; the correlation of both prototypes
#   reinforces both and the query feature; fusion at several scales; a separate decoder; an auxiliary branch in training
#   only.
# - ![precedent](../figures/badges/precedent.svg) (a public relative does it): the cycle *(CyCTR)*; masked averages;
#   folds, area rule, policies and protocols as above.
# - ![our choice](../figures/badges/ours.svg): every formula in between, such as how selected features are averaged and
#   how the correlation acts.
# - Not known: the paper's formulas, its optimiser and schedule, its input size, its ablation, its FB-IoU.
#
# So a run of our recipes tests *our reconstruction* under a named protocol. If its score differs from the row above,
# that alone does not say which of the two is wrong. [The method](../docs/method.md#what-is-not-known-about-the-paper)
# keeps the full list.

# %% [markdown]
# ## Recap
#
# - Folds are different tests: compare fold by fold, and only the same folds.
# - A score without list, policy and protocol says little; a difference needs the same of all three.
# - Pairing on the same episodes is worth many episodes, the more the more alike the two networks are.
# - How a method does on other photographs is known less well than on other lists, and more episodes of the same few
#   hardly mend it.
# - The paper's row is second-hand, and most of what would make it comparable is not known.


# %%
def clear_folds(other_photographs: bool) -> str:
    """In which folds the interval of full minus support only does not hold 0."""
    ends = []
    for fold in range(4):
        pair = (first(500, scores[name, fold, 1], other_photographs) for name in ("full", "support only"))
        ends.append(paired_difference(*pair)[1])
    ahead, behind = sum(end.low > 0 for end in ends), sum(end.high < 0 for end in ends)
    return f"{ahead + behind} of the four folds ({ahead} ahead, {behind} behind)" if ahead + behind else "no fold"


paired = [value for name, value in at_1000.items() if name.startswith("same episodes")]
assert max(paired) < at_1000["one score"] and min(spread.values()) > 1 and max(unaligned.values()) < 0.5
claim(
    f"With 1,000 episodes per fold the 95 % interval of one fold's mIoU is about <b>±{at_1000['one score']:.1f}</b> "
    f"points over other lists from the same photographs, of a difference on other episodes ±{at_1000[OTHER]:.1f}, on the "
    f"same episodes <b>±{min(paired):.1f} to ±{max(paired):.1f}</b>, by how alike the two are. Over other photographs one "
    f"score is known to ±{photographed[500]['one score']:.1f}, from 500 episodes of a few photographs a class; one "
    f"training. Paired on these 500, full can be told from support only in {clear_folds(False)} over other lists, in "
    f"{clear_folds(True)} over other photographs. "
    f"Counting the same answers by five protocols moves mIoU by {spread['DPNet']:.1f} points (DPNet, "
    f"square photographs), of which all but {unaligned['DPNet']:.1f} is one flag of the resizing."
)

# %% [markdown]
# **Further reading.** [Protocols](../docs/protocols.md); [The published benchmarks](../docs/published.md); Shaban et
# al., *One-shot learning for semantic segmentation*, BMVC 2017 (OSLSM, PASCAL-5i); Nguyen and Todorovic, *Feature
# weighting and boosting for few-shot segmentation*, ICCV 2019 (FWB, COCO-20i); Hariharan et al., *Semantic contours
# from inverse detectors*, ICCV 2011 (SBD); [the few-shot networks named
# here](../docs/method.md#relatives-named-on-this-page).

# %% [markdown]
# ## Five questions

# %%
from dpnet_lite.course.quiz import quiz

quiz("13")

# %% [markdown]
# Previous: [12 When does it pay?](12_when_does_it_pay.ipynb). Back to: [Start here](00_start_here.ipynb)
