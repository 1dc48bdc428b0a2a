# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Start here: segment a class from one example
#
# A photograph with a mask of one object goes in; the object comes out marked in another photograph. The part of the
# network that was trained, its *head*, never saw such objects. That is **few-shot segmentation**.

# %% alt=["Five pictures in a row: a toy bear with an outline around it; the same bear before a river; selected cells, in blue, on its head and paws; the predicted mask, in orange, over the whole bear and its crown; the true mask, in green"]
# %matplotlib inline
from dpnet_lite.course.explorers.episode import answer_figure
from dpnet_lite.datasets import OBJECTS_CREDIT
from dpnet_lite.datasets import OBJECTS_FOLDER as photos
from dpnet_lite.predictor import Predictor

predictor = Predictor.load("photographs")
support, mask = photos / "images/bear_plushie_00.webp", photos / "masks/bear_plushie_00.png"
query, truth = photos / "images/bear_plushie_01.webp", photos / "masks/bear_plushie_01.png"
predictor.set_support([support], [mask])
answer = predictor.predict(query, trace=True)  # answer.mask is 1 on the object; trace keeps what was selected
print(OBJECTS_CREDIT)
answer_figure(answer, support, mask, query, truth)

# %% [markdown]
# *What to see:* left, all that the network was told: one photograph and the outline of a mask. Then the photograph to
# segment; in blue, its *selected cells*, small patches that the network trusts, the stronger the more they count; in
# orange, its mask; in green, the truth, which it does not know. *IoU*, from 0 to 1, says how well the mask fits
# (section 4). We chose this pair because it succeeds; section 1 shows every object, not chosen. If the cell failed, run
# the check in section 9.
#
# ## How it works, in one picture
#
# ![The network from left to right. Support and query go through a frozen backbone and one convolution, which give the
# features F_s and F_q. The masked average of F_s is the prototype P. Cycle comparison, CCM, makes the pseudo-prototype
# P_q from the query. Prototype interaction, PIM, reinforces P, P_q and F_q. Multi-scale fusion, MSF, and the decoder
# make the mask. An auxiliary branch and the loss are for training only.](../figures/network.svg)
#
# For now, look at the boxes and at $P$ and $P_q$. The other letters, the sizes in brackets, the auxiliary branch and
# the loss come in later lessons.
#
# 1. The **backbone**, a network that learnt on other images and stays frozen, turns each image into **features**: one
#    vector for every small patch, a *cell*.
# 2. The mean of the features inside the support's mask is the **support prototype** $P$: how the object looks *there*.
# 3. **Cycle comparison** (CCM) looks for cells of the query that probably belong to the object. The mean of these
#    *selected cells* is the **pseudo-prototype** $P_q$: how the object looks *here*.
# 4. The two prototypes reinforce each other (PIM). The query is compared with both, at several scales (MSF), and a
#    small decoder turns the result into a mask.
#
# Step 3 is what is special. This is how a cell of the query earns its trust:
#
# ![Animation of two cycles. An arrow goes from a support cell inside the mask to the most similar cell of the query,
# and back to the most similar cell of the support. The first cycle ends inside the mask, and the query cell is kept.
# The second goes by way of another object and ends outside the mask, and the query cell is
# rejected.](../figures/cycle.gif)
#
# From a support cell inside the mask, go to the most similar cell of the query, and from there to the most similar
# cell of the support. If that lies inside the mask again, the query cell is kept.
#
# The network is a reconstruction of Mao et al., *Learning from the Target*, AAAI 2022, "the paper" below. Of the paper,
# only the abstract and one caption were available to us. So every claim on the method carries a mark:
# ![stated](../figures/badges/stated.svg) the paper says so; ![precedent](../figures/badges/precedent.svg) a public
# relative, which is named, does exactly this; ![our choice](../figures/badges/ours.svg) neither.
#
# ## Three ways through the course
#
# | you have | take |
# |---|---|
# | **30 minutes** | this notebook; then follow a cycle yourself in [3.7](03_cycle_comparison.ipynb) |
# | **one lecture** | this notebook, lessons [2](02_support_prototype.ipynb) and [3](03_cycle_comparison.ipynb), parts of [8](08_inside_the_selection.ipynb) |
# | **the whole course** | all lessons in order, in weeks |
#
# [Teaching with it](../docs/teaching.md) has the plan of the lecture, the weeks and the minutes of each lesson; section
# 8 says what each lesson is for.
#
# **What this lesson is for.** To know what few-shot segmentation is, what its words mean, and what the network does
# with one example and with five.
#
# **What you need.** Python and a first idea of neural networks. No GPU, no network connection, no data: everything
# is in the package.
#
# **Time.** About 40 minutes: 25 to read, 15 for the exercises. The cells run in less than a minute.

# %% [markdown]
# ## 1. Every object once, not chosen
#
# The package brings photographs of 13 objects. A list of tasks is drawn at random, in which the objects take turns. Its
# first 13 tasks show each object once. Each task has one example, which is not shown here.

# %% jupyter={"source_hidden": true} alt=["Thirteen photographs of objects, each with the mask that the network found in orange, the outline of the true mask, and the IoU; they are sorted from the best to the worst"]
from dpnet_lite.course.explorers.episode import object_episodes
from dpnet_lite.course.explorers.panels import new_figure, show_image
from dpnet_lite.experiments.plots import ORANGE, overlay

shown = object_episodes()
opened = sorted((shown.open(e) for e in shown.episodes(count=13)), key=lambda o: o.iou, reverse=True)
figure, grid = new_figure(5, 3, width=1.6, height=2.1)
for axes in grid.flat:
    axes.set_axis_off()
for axes, one in zip(grid.flat, opened, strict=False):
    painted = overlay(one.query_image, one.prediction, ORANGE)
    show_image(axes, painted, "", outline=one.truth)
    axes.set_title(f"{one.class_name}\n{one.iou:.2f}", fontsize=13)
    axes.set_axis_on()
print(OBJECTS_CREDIT)
figure

# %% [markdown]
# *What to see:* the masks in orange, the truth as an outline, and the IoU, from the best to the worst. Most masks cover
# their object; the worst ones take ground with it, or lose a part. (The frozen backbone learnt ImageNet, which has
# dogs, teddies and backpacks, as is usual in this field. The head never saw them.)
#
# ## 2. The words
#
# **Segmentation** means to say of every pixel of an image which **class** of thing it belongs to. Here it is one
# class at a time, so the answer is a **mask**: 1 where the pixel belongs to the class (*foreground*), 0 elsewhere
# (*background*).
#
# A usual network learns its classes from thousands of masks and knows no others. **Few-shot** segmentation is for a
# class that comes up afterwards, with a handful of examples and no time to train:
#
# - the examples are the **support**: images *with* a mask of the class. Their number K is the number of **shots**;
# - the image to segment is the **query**: it comes *without* a mask;
# - one task, made of a class, its support and a query, is an **episode**.
#
# The network does see masks in training, but of other classes, the **base** classes. Classes that it never saw are
# **novel**. To test on many novel classes, the classes are divided into four **folds**: a network for fold 0 is
# trained on the classes of the other folds and tested on those of fold 0.
#
# What makes it hard is that support and query differ in colour, light, size and pose. A summary of the support
# alone does not know how the class looks in the query. The paper names this as the obstacle
# ![stated](../figures/badges/stated.svg).

# %% [markdown]
# ## 3. A small world to try it in
#
# In photographs one cannot turn the light up and leave all else as it is. So the package brings a **drawn world**:
# scenes with objects of 80 classes. A class is an outline with a texture, such as "striped star". Colours, light, size
# and pose differ from scene to scene ![our choice](../figures/badges/ours.svg). No file is read: scene number i is
# always the same for a given seed.

# %% jupyter={"source_hidden": true} alt=["Six drawn scenes with stars, kites and other outlines in many colours and textures; above each, the name of its novel class"]
import matplotlib.pyplot as plt

from dpnet_lite.datasets.folds import base_classes, novel_classes
from dpnet_lite.datasets.toy import ToyWorld, catalogue_names

FOLD = 0
names = catalogue_names()
base, novel = base_classes(len(names), FOLD), novel_classes(len(names), FOLD)
assert not set(base) & set(novel)
print(f"{len(names)} classes; fold {FOLD} holds back {len(novel)} of them as novel, {len(base)} are base classes")

world = ToyWorld(200, seed=2022, targets=novel, others=range(len(names)))  # every scene shows a novel class
figure, grid = plt.subplots(2, 3, figsize=(7, 5.1), layout="constrained")
for number, axes in enumerate(grid.flat):
    axes.imshow(world[number].image.permute(1, 2, 0))
    axes.set_title(names[novel[number]], fontsize=13)
    axes.set_axis_off()
plt.show()

# %% [markdown]
# *What to see:* six scenes. The title names the novel class that the scene was made for. It appears once or several
# times, among objects of other classes; some of those share its outline and some its texture, so neither is enough
# by itself.

# %% [markdown]
# ## 4. One example, one answer
#
# Now the same in the drawn world, with weights that were trained on the base classes of fold 0. We take the first
# episode of a list that is drawn at random.

# %%
from dpnet_lite.checkpoints import load_head, shipped_head
from dpnet_lite.episodes import draw_episodes

head, facts = load_head(shipped_head(FOLD))
assert facts["fold"] == FOLD  # so the novel classes above are novel to these weights
episodes = draw_episodes(world, novel, fold=FOLD, n_shot=5, count=60, seed=1)
episode = episodes[0]

support, query = world[episode.support[0]], world[episode.query]
support_mask = support.labels == episode.class_index + 1  # in the labels, 0 is the background
truth = (query.labels == episode.class_index + 1).numpy()

predictor = Predictor.load(shipped_head(FOLD))
predictor.set_support([support.image], [support_mask])
mask = predictor.predict(query.image).mask == 1
print(f"class: {names[episode.class_index]} ({'base' if episode.class_index in base else 'novel'})")

# %% [markdown]
# How good is a mask? It can be wrong in two ways: it takes too much, or it takes too little. One number punishes both:
# of all pixels that are in the mask or in the truth, the share that is in both. It is 1 for a perfect mask and 0 where
# nothing fits.

# %% jupyter={"source_hidden": true} alt=["Four copies of a scene: the predicted mask in orange, the true mask in green, the pixels in both in blue, the pixels in at least one in black; the titles count the pixels"]
from dpnet_lite.experiments.plots import BLACK, BLUE, GREEN

image = query.image.permute(1, 2, 0).numpy()
panels = {"mask": (mask, ORANGE), "truth": (truth, GREEN), "in both": (mask & truth, BLUE)}
panels["in one or both"] = (mask | truth, BLACK)
figure, grid = plt.subplots(1, 4, figsize=(8, 2.6), layout="constrained")
for axes, (title, (pixels, colour)) in zip(grid, panels.items(), strict=True):
    axes.imshow(overlay(image, pixels, colour), interpolation="nearest")
    axes.set_title(f"{title}\n{pixels.sum()} pixels", fontsize=13)
    axes.set_axis_off()
plt.show()

# %% [markdown]
# This is the **IoU**, *intersection over union*, of a mask $M$ and the truth $T$:
#
# $$\mathrm{IoU} = \frac{|M \cap T|}{|M \cup T|}$$

# %%
iou = (mask & truth).sum() / (mask | truth).sum()
print(f"IoU = {(mask & truth).sum()} / {(mask | truth).sum()} = {iou:.2f}")

# %% [markdown]
# ### Exercise 0.1: the IoU as a function (write, easy, 5 minutes)
#
# Write `my_iou(mask, truth)` for two bool arrays of the same shape [H, W]. Return the IoU, and 0 where both masks are
# empty. The cell after it checks your lines.
#
# <details><summary>Hint 1</summary>
#
# `mask & truth` is True where both are, `mask | truth` where one or both are; `.sum()` counts.
#
# </details>
# <details><summary>Hint 2</summary>
#
# With two empty masks the union is 0, and one must not divide by it. Which small number could stand in for it, if the
# intersection is 0 as well?
#
# </details>


# %% jupyter={"source_hidden": true}
def my_iou(mask, truth):
    """IoU of two masks, bool [H, W]; 0 where both are empty."""
    # BEGIN SOLUTION
    in_both, in_one_or_both = (mask & truth).sum(), (mask | truth).sum()
    return in_both / max(in_one_or_both, 1)
    # END SOLUTION


# %% jupyter={"source_hidden": true} tags=["check"]
import numpy as np
import torch

from dpnet_lite.course.exercises import ask, compare_cases, require, require_number, right
from dpnet_lite.evaluation import episode_counts

generator, cases = np.random.default_rng(0), []  # what is given, what is wanted, and typical mistakes
for share in (0.2, 0.5, 0.8):
    one, other = generator.random((6, 8)) < share, generator.random((6, 8)) < 0.5
    given = require_number(ask(my_iou, one, other), "my_iou")
    both, either = episode_counts(*map(torch.from_numpy, (one.astype(int), other.astype(int))))[:2].tolist()
    mistakes = {
        "that is the accuracy, the share of all pixels that are right; background in both must not count": (
            (one == other).mean()
        ),
        "that is the Dice coefficient, which counts the intersection twice": 2 * both / (one.sum() + other.sum()),
        "you divide by the truth alone: a mask that takes the whole image would get 1": both / other.sum(),
        "you divide by the mask alone: a mask of one right pixel would get 1": both / one.sum(),
        "the two areas added up count the intersection twice; take mask | truth": both / (one.sum() + other.sum()),
        "it is upside down: divide the intersection by the union": either / both,
    }
    cases.append((given, both / either, mistakes))
answers, wanted, typical = zip(*cases, strict=True)
compare_cases(answers, wanted, typical, lambda case: f"the IoU should be {wanted[case]:.3f}, not {answers[case]:.3f}")
empty = np.zeros((6, 8), dtype=bool)
of_empty = require_number(ask(my_iou, empty, empty), "my_iou of two empty masks")
require(of_empty == 0, "two empty masks: the IoU should be 0")
right("0.1", "three random pairs agree with dpnet_lite.evaluation, and two empty masks give 0")

# %% [markdown]
# ## 5. What the network looks at
#
# The two prototypes $P$ and $P_q$ of the picture above decide. That $P_q$ is made from trusted cells of the query is
# ![stated](../figures/badges/stated.svg); that it is their mean is ![our choice](../figures/badges/ours.svg). The way
# there and back is ![precedent](../figures/badges/precedent.svg) *CyCTR*. The kept cells may lie on several things;
# those that resemble each other most then count most ![our choice](../figures/badges/ours.svg). Lesson 3 does all this
# step by step.
#
# The next picture shows four episodes, the one from above first. The other three are the next ones in the list.

# %% alt=["Four episodes of the drawn world, one per row: the support with the outline of its mask, the query, its selected cells in blue, the predicted mask in orange with its IoU, the truth in green. In the second row the blue lies beside the object and the mask is empty"]
from dataclasses import replace

from dpnet_lite.backbones.backbone import build_backbone
from dpnet_lite.experiments.kept_features import compute_features
from dpnet_lite.experiments.plots import episodes_figure

bank = compute_features(world, build_backbone("tiny"), size=facts["size"])  # features of all scenes, computed once
one_shot = replace(episodes, n_shot=1, episodes=tuple(replace(e, support=e.support[:1]) for e in episodes))
figure = episodes_figure(bank, one_shot[:4], {"DPNet": head})
for axes in figure.axes:
    axes.title.set_fontsize(12)
plt.show()

# %% [markdown]
# *What to see:* one episode per row. From left to right: the support with the outline of its mask; the query; in blue,
# the selected cells, the stronger the more they count in $P_q$; the network's mask in orange, with its IoU; the truth
# in green, outlined. Compare blue with green: blue beside the true objects means that $P_q$ has mixed in something
# else. Compare orange with green: that is what the network made of it.
#
# The next cell puts a number on the first comparison: how much of $P_q$ comes from the class.

# %%
from dpnet_lite.model.prototypes import masks_at

batch = bank.batch(list(one_shot))
with torch.no_grad():
    output = head(batch, (bank.size, bank.size), trace=True)
reliable = output.trace.reliable  # share of every query cell in P_q; they sum to 1
true_share = masks_at(batch.query_labels == 1, batch.cells)  # how much of every cell is the class
from_class = (reliable * true_share).sum(dim=(1, 2))
by_chance = true_share.mean(dim=(1, 2))
print("the four episodes above:", ", ".join(f"{100 * share:.0f} %" for share in from_class[:4]))
print(f"mean of {len(batch.query_labels)} episodes: {100 * from_class.mean():.0f} %")
print(f"if all cells of the query counted the same: {100 * by_chance.mean():.0f} %")

# %% [markdown]
# ## 6. One shot or five
#
# More examples should help, because the one example may show the class in an unusual way. K examples are combined
# without new weights: $P$ is the mean of the K support prototypes, and the cycle runs once per support image; each
# query cell's share in $P_q$ is the mean of its K shares ![our choice](../figures/badges/ours.svg).
#
# To see the effect, the same queries are segmented twice: with one support image, and with that one and four more. The
# score of a whole list is the **mIoU**: the pixels of all episodes of a class are counted together, which gives one IoU
# per class, and the mean is taken over the classes.

# %%
from dpnet_lite.course.page import claim, table
from dpnet_lite.scoring import head_segmenter, score_episodes

lists = {1: one_shot, 5: episodes}
scores = {n_shot: score_episodes(head_segmenter(head), bank, of_list) for n_shot, of_list in lists.items()}
# The counts are intersection and union of the foreground, then those of the background.
each = {n_shot: score.counts[:, 0] / score.counts[:, 1].clip(min=1) for n_shot, score in scores.items()}
gain = each[5] - each[1]
table(
    {
        "shots": list(scores),
        "mIoU, %": [100 * score.miou for score in scores.values()],
        "episodes with IoU under 0.1": [int((of_list < 0.1).sum()) for of_list in each.values()],
    },
    f"The same {len(episodes)} queries with one example and with five",
    formats="{:.1f}",
)

# %% jupyter={"source_hidden": true} alt=["A scatter plot: the IoU with one support image across, with five upwards. Most dots lie near the diagonal at the top right; a few at the left edge lie high above it"]
figure, axes = plt.subplots(figsize=(4.2, 4.2), layout="constrained")
axes.plot([0, 1], [0, 1], color="grey", linewidth=1)
axes.scatter(each[1], each[5], color=BLUE, alpha=0.6)
axes.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.03), aspect=1)
axes.set_xlabel("IoU with one support image", fontsize=13)
axes.set_ylabel("IoU with five", fontsize=13)
axes.tick_params(labelsize=12)
plt.show()

# %% [markdown]
# *What to see:* one dot per episode. Above the grey line the five support images gave the better mask, below it the
# single one did. Dots at the left edge are queries where one example failed altogether; the higher such a dot, the
# more the other four repaired. A dot at the bottom right is the reverse: with five, a good mask was lost. With so few
# episodes the two scores depend much on chance: [Results](../docs/results.md) has the scores of long lists, with
# intervals.

# %% [markdown]
# ## 7. Try it yourself
#
# With a running kernel the next cell is an *explorer*: choose the world (the drawn world or the photographs), the fold,
# the class, the **gap** (how far support and query may differ in colour, light and pose, from 0 to 1), the seed and the
# shots. More shots join the support; the query stays. Photographs have neither fold nor gap. On a page without a kernel
# you see its first picture.

# %%
from dpnet_lite.course.explorers.apps import episode_explorer

episode_explorer(FOLD)

# %% [markdown]
# *What to see:* the support with the outline of its mask; the query; in blue its selected cells; the prediction in
# orange with its IoU; the truth in green. Move the gap to 1 and back to 0, and give the network more shots: where does
# the blue go? The button *show a failure* brings an episode that goes wrong, with a line under the picture on why.
#
# ### Exercise 0.2: say why it failed (explain, easy, 10 minutes)
#
# Press *show a failure* three times. Each time cover the line under the picture, look at the picture, and say in one
# sentence where the mask went, and what may have led it there. Then read the line. What do the failures have in common,
# and does each of them fit?
#
# <details><summary>Hint 1</summary>
#
# Is the wrong object like the support's in outline, in texture, or in neither?
#
# </details>
# <details><summary>Hint 2</summary>
#
# The line says where the selected cells lie. Is the mask on the same thing?
#
# </details>
# <details><summary>Answer</summary>
#
# In most failures of the drawn world the selected cells lie on another object, often one that shares the outline or the
# texture with the class, and the mask lies there as well. Lesson 8 counts how often, and tests whether the one causes
# the other. In some the selection is right, and the mask still covers only a part of the object, or spreads over the
# background.
#
# </details>
#
# `make app` shows this explorer and the others on one web page, without code.

# %% [markdown]
# ## 8. Recap, and what each lesson is for
#
# - Few-shot segmentation marks a class in a query image, given K support images with masks of it.
# - It is tested on novel classes, those of the fold that was held back from training.
# - The network compares the query with two prototypes, $P$ from the support and $P_q$ from the query itself.
# - Lesson 3 measures whether the cycle is worth its trouble: simpler ways to choose the cells do as well. What helps in
#   the drawn world is that there is a $P_q$.
#
# | lesson | the question that it answers | afterwards you can |
# |---|---|---|
# | [1 The task](01_few_shot_segmentation.ipynb) | What is a fair test, and what is hard about the task? | draw folds and episodes; say what the gap costs |
# | [2 The support prototype](02_support_prototype.ipynb) | How far does the support alone carry? | make a prototype by hand, and see where it fails |
# | [3 Cycle comparison](03_cycle_comparison.ipynb) | Which cells of the query can one trust? | follow a cycle; judge a selection by precision and recall |
# | [4 Prototype interaction](04_prototype_interaction.ipynb) | What do the two prototypes tell each other? | compute it, and measure whether it helps |
# | [5 Multi-scale fusion](05_multi_scale_fusion.ipynb) | How do small and large objects both come out? | say which scale carries which objects |
# | [5b Build it yourself](05b_build_it_yourself.ipynb) | Do you have all of it? | write the network, from features to mask |
# | [6 Training](06_training.ipynb) | How does the head learn to do this for classes it never saw? | train, stop and resume it; see it over-fit |
# | [7 Evaluation](07_evaluation.ipynb) | When may one believe a score? | pair, put intervals on it, and not fool yourself |
# | [8 Inside the selection](08_inside_the_selection.ipynb) | Where does a selection go wrong, and what does it cost? | tell cause from correlation |
# | [9 Prototype correlations](09_prototype_correlations.ipynb) | Which prototypes belong together? | measure it, within and across classes |
# | [10 Your own images](10_your_own_images.ipynb) | Does it work on your photographs? | segment your own files |
# | [11 Ablations](11_ablations.ipynb) | What is each module worth? | plan a paired comparison, and say how sure it is |
# | [12 When does it pay?](12_when_does_it_pay.ipynb) | When does the second prototype help? | say when, and when not |
# | [13 Reading a benchmark table](13_pascal_and_coco.ipynb) | What do the numbers in the papers mean? | read a benchmark table |
#
# Lessons 1 to 5 take the method apart and build on each other, 5b puts it together; 6 and 7 need them; 8 and 9 look
# inside; 10 needs this notebook only; 11 to 13 need 7. The folder `student` holds the lessons without the solutions of
# their exercises.
#
# Elsewhere: [the method](../docs/method.md), every formula and whether the paper states it;
# [results](../docs/results.md), scores with intervals, and how they were made;
# [README](../README.md#your-own-images), your own images from the command line. `make demo` trains a network in front
# of your eyes and scores it beside two rivals.

# %% jupyter={"source_hidden": true}
from dpnet_lite.experiments.intervals import bootstrap_weights, percentile_interval

on_photographs = sum(o.iou for o in opened) / len(opened)
mean_gains = bootstrap_weights(scores[1].class_index) @ gain / len(gain)  # of lists that might have been drawn as well
low, high = percentile_interval(mean_gains, 0.95)
assert on_photographs > 0.7 and from_class.mean() > 5 * by_chance.mean() and low > 0
claim(
    f"One example is often enough: over one episode of each of the {len(opened)} photographed objects, the mean IoU is "
    f"<b>{on_photographs:.2f}</b>. In the drawn world <b>{100 * from_class.mean():.0f} %</b> of P<sub>q</sub> comes from "
    f"the class, which covers {100 * by_chance.mean():.0f} % of the query. Five examples in place of one change "
    f"the mean of the episodes' IoU by <b>{100 * gain.mean():+.1f}</b> [{100 * low:+.1f}, {100 * high:+.1f}] points (95 % "
    f"interval over {len(gain)} episodes, paired); mIoU, another mean, which adds up the pixels of a class first, changes "
    f"by {100 * (scores[5].miou - scores[1].miou):+.1f}."
)

# %% [markdown]
# ## 9. Is everything there?
#
# The next cell checks what the notebooks need. Every line should begin with `[OK]`. A line with `[FAIL]` says what to
# do about it.

# %% jupyter={"source_hidden": true}
import importlib.util
import sys
from importlib import metadata

REMEDY = "run `make lab` in the project's folder; it installs what is missing and opens this notebook"


def check(label: str, ok: bool, remedy: str = REMEDY) -> bool:
    """Print one line about a thing that must be there."""
    print(f"[OK]   {label}" if ok else f"[FAIL] {label}: {remedy}")
    return ok


check(f"Python {sys.version_info.major}.{sys.version_info.minor}", sys.version_info >= (3, 11), "use 3.11 or newer")
NEEDED = "torch torchvision numpy safetensors matplotlib seaborn scikit-learn ipywidgets ipyevents jupyterlab"
for package in NEEDED.split():
    found = importlib.util.find_spec({"scikit-learn": "sklearn"}.get(package, package)) is not None
    check(f"{package} {metadata.version(package).split('+')[0] if found else 'is missing'}", found)

if check("dpnet_lite", importlib.util.find_spec("dpnet_lite") is not None):
    from dpnet_lite.checkpoints import shipped_head

    for name in (*range(4), "photographs"):
        path = shipped_head(name)
        check(f"trained weights {path.name}", path.is_file(), "get the whole repository again; the file belongs to it")

# %% [markdown]
# ## Five questions

# %%
from dpnet_lite.course.quiz import quiz

quiz("00")
