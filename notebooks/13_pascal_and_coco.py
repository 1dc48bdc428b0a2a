# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 13. PASCAL-5i and COCO-20i: the published benchmarks
#
# [Start here](00_start_here.ipynb) | [12 When does it pay?](12_when_does_it_pay.ipynb) | **13 PASCAL and COCO**
#
# **What you will learn.** What the two benchmarks of the literature are made of; what novel classes in training images
# cost; how a list of test episodes is known by its hash; what a recipe says, from epochs to the learning rate; how
# several processes share a training; and how to read the paper's table.
#
# **What you need.** [Notebook 1](01_few_shot_segmentation.ipynb): episodes, folds, base and novel classes.
# [Notebook 6](06_training.ipynb): a training step. [Notebook 7](07_evaluation.ipynb): mIoU, FB-IoU,
# policies for novel objects, protocols. No data set, no GPU.
#
# **Time.** About 75 minutes, of which the three exercises take 35. On the made-up tree the cells run in less than a
# minute; on real data the masks are counted first.
#
# **The data.** PASCAL-5i cannot come with this package. If you have a copy, set the environment variable
# `DPNET_PASCAL_ROOT` to its folder *before* you start Jupyter, and all cells work on it:
#
# ```
# DPNET_PASCAL_ROOT=PATH jupyter lab
# ```
#
# Without it, the next cell writes a small *made-up* tree with the same folders and file formats: 20 classes of coloured
# shapes. Its numbers say nothing about any method. The outputs that come with this notebook are those of the made-up
# tree; a table of such numbers says so in its first line. Numbers of the real data are marked *real*.

# %%
# %matplotlib inline
import hashlib
import json
import os
import tempfile
import textwrap
from dataclasses import asdict, replace
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.colors import ListedColormap, to_rgb
from matplotlib.patches import Patch

from dpnet_lite.course.made_up_pascal import write_pascal
from dpnet_lite.experiments.plots import BLACK, BLUE, ORANGE
from dpnet_lite.published.pascal import PascalFolders

# %%
holder = tempfile.TemporaryDirectory()  # deleted when the kernel ends
given = os.environ.get("DPNET_PASCAL_ROOT")
IS_REAL = given is not None
root = Path(given).expanduser() if IS_REAL else Path(holder.name) / "pascal"
if not IS_REAL:
    write_pascal(root)
COPY = "the copy in DPNET_PASCAL_ROOT" if IS_REAL else "MADE-UP tree, not PASCAL"


def without_root(text: str, folder: Path = root) -> str:
    """Paths as ROOT/..., so that a text does not depend on the computer."""
    return text.replace(str(folder), "ROOT")


folders = PascalFolders(root)
print(f"working on: {COPY}")
for folder in (*folders.images, *folders.masks, folders.voc_lists, root / "sbd"):
    if folder.is_dir():
        files = sorted(path.name for path in folder.iterdir() if path.is_file())
        print(f"  {without_root(str(folder)):48}{len(files):6} files, first {files[0] if files else '-'}")
print("SegmentationClass: VOC's masks. SegmentationClassAug: SBD's masks as PNG.")

# %% [markdown]
# ## 13.1 What the benchmarks are made of
#
# **PASCAL-5i** joins two data sets with the same 20 classes:
#
# - **VOC2012** has masks with a border of *ignored* pixels (255) around each object: 1,464 images of `train`, 1,449 of
#   `val`.
# - **SBD** (Semantic Boundaries Dataset) has masks of more images of VOC, without that border. Its list `train_noval`
#   leaves out VOC's `val`: 5,623 images.
#
# The *training images* are the union of VOC's `train` and SBD's `train_noval`. 1,134 images are in both, so there are
# 1,464 + 5,623 - 1,134 = 5,953. Where an image has two masks, VOC's counts *(our choice)*. The *test images* are VOC's
# `val`: 1,449.
#
# **COCO-20i** takes the images of COCO 2014 and its 80 classes. Masks are drawn from the annotated outlines; what is
# annotated as a *crowd* is ignored, and where two objects overlap the smaller one is on top *(both: our choice)*. Its
# commands are those of this lesson with `coco20i` in the place of `pascal5i`, and a recipe of its own. Two things are
# for PASCAL-5i alone: `data prepare --download`, and published hashes of episode lists (13.4).
#
# Other few-shot networks come up below by name: PFENet, HSNet, BAM, SSP, RePRI, HDMNet, QPENet (few-shot networks whose
# code is public: [the list](../docs/method.md#relatives-named-on-this-page); of QPENet we use the paper's table alone).
#
# A list is a text file with one image name a line. The next cell builds the union by hand.

# %%
from dpnet_lite.published.list_files import read_pfenet_list

train_ids = folders.read_split("train")  # says which list is missing, if one is
voc, sbd, val_ids = (
    set(read_pfenet_list(folders.list_path(name))) for name in ("train.txt", "train_noval.txt", "val.txt")
)
union = (voc | sbd) - val_ids
assert tuple(sorted(union)) == train_ids
REAL = {
    "VOC2012 train": 1464,
    "SBD train_noval": 5623,
    "in both": 1134,
    "union: training": 5953,
    "VOC2012 val: test": 1449,
}
print(f"{'images':20}{'real':>8}{'here':>8}   here: {COPY}")
for (name, real), here in zip(REAL.items(), (voc, sbd, voc & sbd, union, val_ids), strict=True):
    print(f"{name:20}{real:8,}{len(here):8,}")
assert REAL["VOC2012 train"] + REAL["SBD train_noval"] - REAL["in both"] == REAL["union: training"]

# %% [markdown]
# **Folds.** Each class is novel in one of four folds and base in the three others. PASCAL-5i cuts the list of classes
# in *blocks* of five neighbours; COCO-20i deals them out like cards, which is called *interleaved*: fold i has the
# classes i, i + 4, i + 8, ... (counted from 0). Both are *(precedent)*; but SSP's own code cuts COCO in blocks, too.
# The score of a fold then belongs to other classes and cannot be compared.

# %%
from dpnet_lite.published.registry import MIN_PIXELS, PUBLISHED, fold_classes, open_published

figure, grid = plt.subplots(2, 1, figsize=(7, 3.6), layout="constrained")
for axes, name in zip(grid, ("pascal5i", "coco20i"), strict=True):
    entry = PUBLISHED[name]
    is_novel = np.zeros((entry.n_folds, entry.n_classes))
    for fold in range(entry.n_folds):
        is_novel[fold, list(fold_classes(name, fold, "val").novel)] = 1
    axes.pcolormesh(is_novel, cmap=ListedColormap(["0.9", ORANGE]), edgecolors="white", linewidth=30 / entry.n_classes)
    axes.invert_yaxis()
    ticks = np.arange(0, entry.n_classes, entry.n_classes // 4)
    axes.set_xticks(ticks + 0.5, ticks, fontsize=11)
    axes.set_yticks(np.arange(entry.n_folds) + 0.5, [f"fold {fold}" for fold in range(entry.n_folds)], fontsize=12)
    axes.set_xlabel("class, in the data set's order, from 0", fontsize=12)
    axes.set_title(f"{entry.title}: {entry.layout}", fontsize=13)
grid[0].legend(
    handles=[Patch(color=ORANGE, label="novel"), Patch(color="0.9", label="base")],
    loc="center left",
    bbox_to_anchor=(1, 0.5),
    frameon=False,
    fontsize=12,
)
plt.show()

# %% [markdown]
# *What to see:* a row is a fold, a column a class; each column is orange once.
#
# **Is my copy right?** `dpnet-lite data check pascal5i --root PATH` reads every mask and says what it found, what is
# missing and what is wrong. The next cell calls what the command calls. Then it damages a copy of the made-up tree in
# three ways and asks again.

# %%
from dpnet_lite.published.check import check_data

SHOWN = 10  # lines


def show(report, folder: Path) -> None:
    """The first lines of the report."""
    lines = without_root(report.text, folder).splitlines()
    for line in lines[:SHOWN]:
        print(textwrap.fill(line, 100, subsequent_indent=6 * " ", break_long_words=False))
    if len(lines) > SHOWN:
        print(f"  ... {len(lines) - SHOWN} more lines")
    print(f"problem: {without_root(str(report.problem), folder)}")


print(COPY)
show(check_data("pascal5i", root), root)

# %%
damaged = write_pascal(Path(holder.name) / "damaged")
first, second, third = damaged.train_ids[:3]
(damaged.base / "SegmentationClass" / f"{first}.png").write_bytes(b"half a downlo")
(damaged.base / "SegmentationClass" / f"{second}.png").unlink()
(damaged.base / "JPEGImages" / f"{third}.jpg").unlink()
print("a damaged MADE-UP tree")
show(check_data("pascal5i", damaged.root), damaged.root)

# %% [markdown]
# *What to see:* "found" and "worth knowing" stop nothing; with a line under "missing" or "wrong" the command fails, and
# most of these lines say what to do. On the made-up tree the first check notes that no number is the published one:
# scores on other images cannot be compared with published scores.
#
# ## 13.2 The index, and the 2,048-pixel rule
#
# To draw an episode one must know which image shows which class, and how much of it. So all masks are counted once. The
# counts are the **index**: a table with a row for each image and a column for each class. It is kept in a file whose
# name is a hash of the masks (the fingerprint of lesson 1); a changed mask is counted anew.

# %%
from dpnet_lite.features import default_cache

cache = default_cache() if IS_REAL else Path(holder.name) / "cache"
train, val = (open_published("pascal5i", root, split, cache_folder=cache) for split in ("train", "val"))
print(f"index of the training images: {train.class_pixels.shape}, {train.class_pixels.dtype}   ({COPY})")
for row in range(4):
    shown = np.flatnonzero(train.class_pixels[row])
    counts = ", ".join(f"{train.class_names[c]} {train.class_pixels[row, c]:,} px" for c in shown)
    print(f"  {train.ids[row]}  {train.index.sizes[row, 1]} x {train.index.sizes[row, 0]}: {counts}")

labels = train.read_labels(0).numpy()  # the first row by hand
assert [(labels == c + 1).sum() for c in range(20)] == train.class_pixels[0].tolist()

# %% [markdown]
# **The rule** *(precedent: PFENet's code)*: an image serves episodes of a class only if it shows at least 2 x 32 x 32 =
# 2,048 pixels of it, at its own size. The figure is two cells of a grid of 32 x 32 pixels; PFENet's code gives no
# reason for it. On our network's grid, of 8 x 8 pixels, it is 32 cells of an image at its own size. The rule decides
# how many images each fold has. The *real* numbers below were counted by this project on the masks of VOC2012 and SBD;
# we know of no paper that prints them.

# %%
from dpnet_lite.published.pascal_facts import PASCAL5I_FACTS, measured_facts

facts = measured_facts(train.class_pixels, val.class_pixels)
print(f"here: {COPY}\n{'':6}{'training images':>22}{'of these with novel':>25}{'test images':>20}")
print(f"{'fold':6}{'real':>14}{'here':>8}{'real':>17}{'here':>8}{'real':>12}{'here':>8}")
for fold, (real, here) in enumerate(zip(PASCAL5I_FACTS.folds, facts.folds, strict=True)):
    print(f"{fold:<6}{real[0]:14,}{here[0]:8,}{real[1]:17,}{here[1]:8,}{real[2]:12,}{here[2]:8,}")
small = (train.class_pixels > 0) & (train.class_pixels < MIN_PIXELS)
n_small, n_pairs = small.sum(), (train.class_pixels > 0).sum()
print(f"(image, class) pairs of train below the rule: {n_small:,} of {n_pairs:,} here; real: 940 of 8,843")

# %% [markdown]
# *What to see:* the folds differ in size: fold 2 holds *person*, which many images show, so it has the fewest training
# images, the most overlap and the most test images. A mean over folds weighs all four alike.
#
# ## 13.3 Overlap: novel classes in training images
#
# The columns *of these with novel* count the **overlap**: training images that serve a base class and also show a novel
# one. There are three policies (lesson 7 measured *background* and *drop* on the toy world, not *ignore*):
#
# - **background**: the novel object is labelled as background, like anything else that is not the episode's class
#   *(precedent: PFENet, HSNet)*;
# - **ignore**: its pixels become 255 and leave the loss *(precedent: RePRI)*;
# - **drop**: no episode is drawn from such an image *(precedent: BAM, HDMNet)*.
#
# ### Exercise 13.1: images and overlap of a fold (easy, 10 minutes)
#
# Write `my_fold_images(pixels, novel)` for an index, int [n, n_classes], and the list of a fold's novel class numbers,
# counted from 0 (its columns).
# All other classes are base classes. Return two numbers: how many images have at least 2,048 pixels of some base class,
# and how many *of these* show a novel class, with any number of pixels.


# %% jupyter={"source_hidden": true}
def my_fold_images(pixels: np.ndarray, novel: list[int]) -> tuple[int, int]:
    """Training images of a fold, and those of them with a novel class."""
    # BEGIN SOLUTION
    base = [index for index in range(pixels.shape[1]) if index not in novel]
    is_used = (pixels[:, base] >= 2048).any(axis=1)
    shows_novel = (pixels[:, novel] > 0).any(axis=1)
    return int(is_used.sum()), int((is_used & shows_novel).sum())
    # END SOLUTION


# %% tags=["check"]
from dpnet_lite.course.exercises.lesson_13 import check_fold_images

check_fold_images(my_fold_images)

# %% [markdown]
# Now the same training image under each policy. `TrainingView` is a data set as training sees it. The code takes the
# image of fold 0 that shows the most of both, a base class and the novel ones, and an episode of that base class.

# %%
from dpnet_lite.datasets.novel import TrainingView
from dpnet_lite.published.image_source import one_class

FOLD = 0
POLICIES = ("background", "ignore", "drop")
base, novel = (list(classes) for classes in fold_classes("pascal5i", FOLD, "train"))
views = {policy: TrainingView(train, novel, policy) for policy in POLICIES}


def label_picture(labels: np.ndarray) -> np.ndarray:
    """Labels of one class as colours: 1 blue, 0 light grey, 255 black."""
    picture = np.full((*labels.shape, 3), 0.9)
    picture[labels == 1], picture[labels == 255] = to_rgb(BLUE), 0
    return picture


KEY = [
    Patch(color=colour, label=label)
    for colour, label in ((BLUE, "the class"), ("0.9", "background"), (BLACK, "ignored"))
]

serves = (train.class_pixels[:, base] >= MIN_PIXELS).any(axis=1)
of_both = np.minimum(train.class_pixels[:, novel].sum(axis=1), train.class_pixels[:, base].max(axis=1))
row = int(np.argmax(np.where(serves, of_both, -1)))
target = base[int(np.argmax(train.class_pixels[row, base]))]
shown_novel = [train.class_names[c] for c in novel if train.class_pixels[row, c]]
where_novel = np.isin(train.read_labels(row), np.array(novel) + 1)

figure, grid = plt.subplots(1, 4, figsize=(10, 2.9), layout="constrained")
grid[0].imshow(train[row].image.permute(1, 2, 0))
for axes, view in zip(grid[1:], views.values(), strict=True):
    axes.imshow(label_picture(one_class(view, view[row].labels, row, target).numpy()))
    if not view.class_areas[row].any():
        axes.images[0].set_alpha(0.15)
        axes.text(0.5, 0.5, "not used", transform=axes.transAxes, ha="center", va="center", fontsize=16)
name = train.ids[row] if IS_REAL else f"made-up {train.ids[row]}"
for axes, title in zip(grid, (name, *POLICIES), strict=True):
    axes.contour(where_novel, levels=[0.5], colors=[ORANGE], linewidths=2)
    axes.set(xticks=[], yticks=[])
    axes.set_title(title, fontsize=14)
key = [*KEY, plt.Line2D([], [], color=ORANGE, linewidth=2, label="outline of the novel class")]
figure.legend(handles=key, loc="outside lower center", ncols=4, frameon=False, fontsize=11)
plt.show()
print(f"{COPY}: an episode of {train.class_names[target]!r}; novel here: {', '.join(shown_novel)}")

# %% [markdown]
# *What to see:* the orange outline is where the novel object is. Under *background* the network is taught that there is
# nothing to be found. A second large object, as the rectangle or ellipse on the made-up image, is of another *base*
# class: it is background under every policy, as this episode is not about it. (An image of VOC's own also has thin
# black borders; one of SBD has none.) What does each policy cost?

# %%
from dpnet_lite.episodes import class_pools
from dpnet_lite.published.pascal_facts import NOVEL_SHARES

print(f"fold by fold: {COPY}; in brackets the real numbers, counted by this project")
print(f"{'fold':6}{'images: background, ignore':>32}{'images: drop':>22}{'novel pixels in training images':>34}")
for fold, real in enumerate(PASCAL5I_FACTS.folds):
    classes = fold_classes("pascal5i", fold, "train")
    left = {}
    for policy in POLICIES:
        view = TrainingView(train, classes.novel, policy)
        pools = class_pools(view, classes.base, min_area=0, min_pixels=MIN_PIXELS)
        left[policy] = np.unique(np.concatenate(list(pools.values())))
    assert len(left["background"]) == len(left["ignore"])
    kept = left["background"]
    share = train.class_pixels[kept][:, list(classes.novel)].sum() / train.index.sizes[kept].prod(axis=1).sum()
    first = f"{len(kept):,} ({real.train_images:,})"
    second = f"{len(left['drop']):,} ({real.train_images - real.of_them_with_novel:,})"
    third = f"{100 * share:.2f} % ({100 * NOVEL_SHARES[fold]:.2f} %)"
    print(f"{fold:<6}{first:>32}{second:>22}{third:>34}")

# %% [markdown]
# *What to see:* *background* and *ignore* have the same images; *drop* loses the overlap, on the real data between 552
# (fold 0) and 1,345 (fold 2) images. The last column is the share of pixels that *background* teaches as background,
# and that *ignore* leaves out. The made-up tree has small novel objects only; in the real fold 2, about 6 % of all
# pixels are novel objects taught as background. The three are different tasks: a table must name its policy.
#
# ## 13.4 Frozen episode lists and their hashes
#
# Published scores come from 1,000 to 20,000 episodes, drawn anew by each repository. Here a list is **frozen**: it
# follows from the index, the fold, the number of shots and a seed, and from nothing else, so it is the same on every
# computer. It is known by its **SHA-256**, a number of 64 hexadecimal digits computed from the list's text; two lists
# with the same number are the same for all practical purposes. The package comes with the numbers of all lists of the
# real data.

# %%
from dpnet_lite.published.episode_lists import compare_with_published, draw_published, list_name, published_hashes

episodes = draw_published(val, "pascal5i", fold=FOLD, n_shot=1, seed=0)
text = json.dumps(asdict(episodes), sort_keys=True, separators=(",", ":"))
assert hashlib.sha256(text.encode()).hexdigest() == episodes.sha256  # by hand
key = list_name(FOLD, 1, 0)
hashes = published_hashes("pascal5i")
print(f"{key}: {len(episodes):,} episodes from {COPY}")
for episode in episodes.episodes[:3]:
    support = ", ".join(val.ids[index] for index in episode.support)
    print(f"  {val.class_names[episode.class_index]:10} query {val.ids[episode.query]}, support {support}")
print(f"SHA-256 here       {episodes.sha256}")
print(f"SHA-256 published  {hashes.lists[key]}")
print(
    f"the list is {compare_with_published('pascal5i', key, episodes.sha256)}; "
    f"the data set is {'equal' if val.fingerprint == hashes.fingerprint else 'different'}"
)

# %% [markdown]
# *What to see:* on the real masks both lines agree. On the made-up tree they must differ: the text holds a hash of the
# data set's own index, and other masks give other images to draw. `dpnet-lite data episodes pascal5i --root PATH`
# draws all 40 lists of the data set (4 folds, 1 and 5 shots, 5 seeds) and compares each. For COCO-20i no hashes are
# published yet: this project has not had its annotations.
#
# Other repositories draw by other rules. The next cell re-enacts four of them; `draw_for` follows their random numbers.

# %%
from dpnet_lite.published.protocols.drawing import draw_for
from dpnet_lite.published.protocols.specs import PROTOCOLS

print(f"the first three queries of fold {FOLD}, 1-shot: {COPY}")
for name, protocol in PROTOCOLS.items():
    drawn = draw_for(protocol, val, novel, fold=FOLD, n_shot=1, count=3)
    queries = ", ".join(f"{val.class_names[e.class_index]} in {val.ids[e.query]}" for e in drawn)
    number = f"{protocol.episodes.pascal5i:,} x {len(protocol.seeds)} seed{'s' if len(protocol.seeds) > 1 else ''}"
    print(f"  {name:8}{number:16}{queries}")

# %% [markdown]
# *What to see:* five ways of testing the same network, on five different sets of episodes, before a single pixel is
# counted. The real HSNet reads list files of its own for PASCAL-5i; this cell gives none, so all images with any
# pixel of the class stand in for them, in sorted order. PFENet's code names 5,000 episodes and counts one more.
# [Protocols](../docs/protocols.md) has all differences in one table, with the lines of code that say so.
#
# ## 13.5 A recipe, line by line
#
# A **recipe** is a text file that says how one network is trained. This one comes with the package:

# %%
from dpnet_lite.published.recipe_files import FOLDER, load_recipe, shipped_recipes

print((FOLDER / "pascal_resnet50.toml").read_text())
print("all recipes:", ", ".join(shipped_recipes()))

# %% [markdown]
# - `data`, `size` *(precedent)*: the data set; the side of the square that images are brought to. That they are
#   squashed to it, and not padded or cut, is *(our choice)*.
# - `backbone`: the frozen network, ResNet-50 *(precedent)*; torchvision's form of it and its weights *(our choice)*.
# - `novel` *(precedent)*: the policy of 13.3.
# - `epochs`, `batch_size` *(precedent)*: an **epoch** is as many episodes as there are training images; a step takes
#   `batch_size` of them.
# - `channels`, `dropout` *(our choice)*: width of the head; the share of its feature channels that is switched off at
#   random in training.
# - `optimiser`, `momentum`, `weight_decay` *(precedent)*: SGD, which follows the gradient with a memory of earlier
#   ones; a pull of all weights towards 0.
# - `learning_rate`, `schedule`, `warmup_steps` *(precedent)*: how large a step is, and how it falls. See below.
# - `scale`, `rotation`, `blur` *(precedent: the ranges; our choice: how)*: augmentation. See below.
# - `min_pixels` *(precedent)*: the rule of 13.2. `checkpoint_every` *(our choice)*: steps between two saved states.
#
# What the recipe does not name has the default of `dpnet_lite/config.py`. So has the clipped gradient of which the
# file's first lines speak: its largest length, see [lesson 6](06_training.ipynb). The file says it, too: it has *not
# yet been run in full*, and no result is claimed.
#
# **Augmentation** shows the network each image a little changed: mirrored, scaled by 0.9 to 1.1, turned by up to 10
# degrees, shifted (in place of PFENet's random crop: *our choice*), blurred. Image and labels move alike. What comes in
# from outside is unknown, so it is ignored.

# %%
from dpnet_lite.datasets.transforms import resize_sample
from dpnet_lite.episodes import Episode, Part
from dpnet_lite.published.augmentation import augment, draw_views

recipe = load_recipe("pascal_resnet50")
sample = resize_sample(train[row], 128)
seen = one_class(train, sample.labels, row, target)
part = Part(step=10, episodes=(Episode(target, row, (row,)),) * 2, first=0, n_step=2)  # the same image again and again
changes = draw_views(part, recipe.training)
images, masks = augment(sample.image.expand(len(changes), -1, -1, -1), seen.expand(len(changes), -1, -1), changes)

figure, grid = plt.subplots(2, 5, figsize=(9.5, 4.6), layout="constrained")
titles = ["as it is"]
for view in changes:
    words = ["mirrored"] * view.flip + ["blurred"] * view.blur
    titles.append(f"x {view.scale:.2f}, {view.angle:+.0f}°\n{', '.join(words)}")
for column, image, mask, title in zip(grid.T, (sample.image, *images), (seen, *masks), titles, strict=True):
    column[0].imshow(image.permute(1, 2, 0))
    column[1].imshow(label_picture(mask.numpy()))
    column[0].set_title(title, fontsize=12)
    for axes in column:
        axes.set(xticks=[], yticks=[])
figure.legend(handles=KEY, loc="outside lower center", ncols=3, frameon=False, fontsize=11)
plt.show()
print(
    f"{COPY}: one image in {len(changes)} views; share of ignored pixels: "
    + ", ".join(f"{100 * float((mask == 255).float().mean()):.0f} %" for mask in (seen, *masks))
)

# %% [markdown]
# *What to see:* the black wedges at the edges. They are in the labels, so the loss does not count what nobody knows.
# The image has the mean colour of ImageNet there. What is drawn depends on the seed, the step and the place in the step
# alone: a resumed run sees the same views.
#
# **From epochs to steps.** With n training images, E epochs and B episodes a step there are T = E n / B steps, rounded
# down. The **poly schedule** *(precedent)* takes the rate $\eta_t = \eta\,(1 - t/T)^{0.9}$ in step t, counted from 0
# (the log of a training counts finished steps: its step 10 is t = 9).
#
# **Effective rate.** PFENet's configuration file names 0.0025, and its code gives the head ten times as much
# *(precedent)*. Who copies the number of the file trains ten times slower. Our recipes hold the rate that holds, and
# every training logs the rate of its steps.

# %%
from dpnet_lite.losses import learning_rate

steps = {fold: recipe.steps(real.train_images) for fold, real in enumerate(PASCAL5I_FACTS.folds)}
print("steps of the recipe, real data: " + ", ".join(f"fold {fold} {count:,}" for fold, count in steps.items()))
whole = replace(recipe.training, steps=steps[FOLD])
t = np.arange(0, steps[FOLD], 1000)
rates = np.array([learning_rate(int(step), whole) for step in t])
assert np.allclose(rates, 0.025 * (1 - t / steps[FOLD]) ** 0.9)

figure, axes = plt.subplots(figsize=(6, 3), layout="constrained")
axes.plot(t / 1000, rates, color=BLUE, linewidth=2.5, label="what the head gets")
axes.plot(t / 1000, rates / 10, color=ORANGE, linewidth=2.5, linestyle="--", label="what PFENet's file names")
axes.set_xlabel(f"step of {steps[FOLD]:,}, in thousands", fontsize=12)
axes.set_ylabel("learning rate", fontsize=12)
axes.set_ylim(bottom=0)
axes.tick_params(labelsize=11)
axes.legend(frameon=False, fontsize=12)
axes.spines[["top", "right"]].set_visible(False)
plt.show()

# %% [markdown]
# *What to see:* with the power 0.9 the curve is nearly a line; it ends at 0. Stop such a run early and you have not the
# network of a short run, but one that still takes large steps.
#
# ### Exercise 13.2: the rate of a step (easy, 10 minutes)
#
# Write `my_poly_rate(step, n_images, epochs, batch_size, peak)`: the poly rate of a step, counted from 0, of a training
# over `epochs` epochs of `n_images` images with `batch_size` episodes a step, without warm-up.


# %% jupyter={"source_hidden": true}
def my_poly_rate(step: int, n_images: int, epochs: int, batch_size: int, peak: float) -> float:
    """Rate of a step by the poly schedule with the power 0.9."""
    # BEGIN SOLUTION
    steps = epochs * n_images // batch_size
    return peak * (1 - step / steps) ** 0.9
    # END SOLUTION


# %% tags=["check"]
from dpnet_lite.course.exercises.lesson_13 import check_poly_rate

check_poly_rate(my_poly_rate)

# %% [markdown]
# ## 13.6 A small training, five protocols, and the cost
#
# The recipe at small size: the tiny backbone that comes with the package, 96 pixels, a narrow head, few steps. The
# images are read from the files, as at full size.

# %%
from dpnet_lite.backbones.backbone import build_backbone
from dpnet_lite.experiments.experiment import TrainingData
from dpnet_lite.experiments.jobs import train_head
from dpnet_lite.published.image_source import ImageSource

backbone = build_backbone("tiny")
SIZE, STEPS = 96, 60
small = replace(
    recipe,
    name="small",
    backbone="tiny",
    size=SIZE,
    model=replace(recipe.model, channels=32),
    training=replace(recipe.training, steps=STEPS, checkpoint_every=0),
)
source = ImageSource(views[small.novel], backbone, size=SIZE)
data = TrainingData(FOLD, source, tuple(base))
result = train_head(data, small.model, small.training)
print(f"{COPY}, fold {FOLD}, novel objects as {small.novel}; {len(base)} base classes")
for entry in result.losses:
    print(f"  step {entry['step']:3.0f}  cross-entropy {entry['main']:.3f}  learning rate {entry['learning_rate']:.4f}")
print("(the log counts finished steps: its step 10 is t = 9)")

# %% [markdown]
# Now 60 test episodes of the *novel* classes. The predictions are made once; each protocol then counts them in its own
# way: at its own size, with its own rule for ignored pixels, with its own mean. *Training-free* is the nearest
# prototype on the frozen features, without any head.

# %%
from dpnet_lite.experiments.jobs import evaluate
from dpnet_lite.published.score import count_under, protocol_table
from dpnet_lite.scoring import head_segmenter, training_free_segmenter

test_source = ImageSource(val, backbone, size=SIZE, kept=200)
few = replace(episodes, episodes=episodes.episodes[:60])
segmenters = {"training-free": training_free_segmenter(backbone.deep_channels), "DPNet": head_segmenter(result.head)}
protocols = list(PROTOCOLS.values())
runs = evaluate(segmenters, test_source, [few], count=count_under(protocols))
print(f"{COPY}, fold {FOLD}, {len(few)} episodes, a head of {STEPS} steps: NO RESULT, an example of the table\n")
print(protocol_table(runs, protocols, novel))

# %% [markdown]
# *What to see:* for one method all rows come from the same answers (logits) of the network, and yet they differ; only
# `pfenet` and `bam` count alike. In brackets, for `ours`: the 95 % interval of
# lesson 7. "Range of lists" is empty, for there is one list.
# Where the spread between protocols is as large as that between two papers, the two papers have not been compared.
# (Shapes on grey are easy, and these images are small. [Protocols](../docs/protocols.md) has the spread on the masks of
# real photographs, for an artificial coarse prediction and not for a network's.) The same table comes from the command
# line:
#
# ```
# dpnet-lite evaluate --checkpoint HEAD.safetensors --data pascal5i:PATH \
#     --protocol ours hsnet pfenet bam ssp
# ```
#
# **How long is a training of that many steps?** `dpnet-lite train ... --estimate` measures a few steps of a recipe and
# multiplies. Here for the small recipe, with as many steps as fold 0 of the real data has at full size. The answer is
# an **estimate**, for this computer, and the one output of this notebook that changes from run to run.

# %%
from dpnet_lite.experiments.devices import make_fabric
from dpnet_lite.published.train import count_images, estimate_cost

print(f"{COPY}: {count_images(data, small.training):,} training images; tiny backbone, {SIZE} pixels")
planned = replace(small.training, steps=steps[FOLD])
answer = estimate_cost(small, data, planned, make_fabric("cpu", small.training.precision))
print(textwrap.fill(answer, 100))
print("(tiny backbone, 96 px: NOT the cost of the recipe)")

# %% [markdown]
# *What to see:* the steps of the real training at the speed of the smallest network: so many steps take hours even
# then. The next cell says how much more work a step of the full recipe is.

# %%
per_step = recipe.training.batch_size * (1 + recipe.training.n_shot)
total = sum(steps.values())
print(f"full size, real data, {recipe.name}: {total:,} steps for four folds, one seed")
side = recipe.size
print(f"  {total * per_step / 1e6:.1f} million images of {side} x {side} pixels through the backbone")
print(f"  an image has {(side / SIZE) ** 2:.0f} times as many pixels as above, and the backbone is larger, too")
tests = 4 * 5 * 1000
print(f"  tests: {tests:,} episodes at 1 shot and as many at 5 shots, {tests * (2 + 6):,} images")
print("  hours and memory: not yet measured on a GPU")

# %% [markdown]
# *What to see:* each image has many times the pixels of the small training, so the hours above cannot be taken over;
# and the tests are work, too.
#
# So what you need for the full run: the data (`dpnet-lite data prepare pascal5i --root PATH --download` gets it; not
# yet tried on the real archives by us), ImageNet weights of the backbone (torchvision downloads its own;
# `--backbone-weights` takes a file), and a GPU. Ask *your* machine before you start:
#
# ```
# dpnet-lite train --data pascal5i:PATH --recipe pascal_resnet50 --fold 0 \
#     --device cuda --workers 8 --estimate
# ```
#
# The last words of its answer are the share of time that the device waited for images. If it is not near 0, more
# workers help more than a faster device.
#
# ## 13.7 Several processes
#
# With several GPUs, each has a **process** of its own, a running program with a number, its *rank*. All hold the same
# weights; each computes the gradient of its share of a step's episodes; the gradients are added up, and all take the
# same step. To save memory, a process may take its share in several **parts**, one after the other
# (`accumulate`). `StepParts` says who takes what.

# %%
from dpnet_lite.episodes import StepParts
from dpnet_lite.training import training_episodes

divided = replace(small.training, batch_size=8, accumulate=2, steps=2)
listed = training_episodes(source.dataset, base, divided, fold=FOLD).episodes
figure, axes = plt.subplots(figsize=(8, 2.6), layout="constrained")
taken = []
for rank, colour in enumerate((BLUE, ORANGE)):
    for index, part in enumerate(StepParts(listed, divided, range(2), rank=rank, n_processes=2)):
        first = part.step * part.n_step + part.first
        assert part.episodes == listed[first : first + len(part.episodes)]
        taken += range(first, first + len(part.episodes))
        axes.barh(0, len(part.episodes), left=first - 0.5, color=colour, edgecolor="white", linewidth=3, height=0.6)
        axes.text(
            first + 0.5,
            0,
            f"process {rank}\npart {index % 2}",
            ha="center",
            va="center",
            fontsize=11,
            color="white" if rank == 0 else BLACK,
        )
assert sorted(taken) == list(range(16))  # no episode is left out, none is taken twice
for step in range(2):
    axes.text(3.5 + 8 * step, 0.45, f"step {step}", ha="center", fontsize=13)
axes.axvline(7.5, color=BLACK, linewidth=2)
axes.set(xticks=range(16), yticks=[], xlim=(-0.5, 15.5), ylim=(-0.4, 0.65))
axes.tick_params(labelsize=11)
axes.set_xlabel("number of the episode in the run's list", fontsize=12)
axes.spines[["top", "right", "left"]].set_visible(False)
plt.show()

# %% [markdown]
# *What to see:* a step is a run of eight neighbours in one frozen list; each process takes a run of four, in two parts.
# Time flows along the parts of a process; both processes work at once.
#
# **Why the result is the same.** Views, dropout and episodes depend on the seed, the step and the *place in the step*,
# not on who computes them. The loss is a mean over all pixels that count. Parts have different numbers of such pixels,
# for some are ignored; so the mean of the parts' means is *not* the mean of the step. Each part therefore divides its
# sum by the pixels of the whole step, and the sums add up:

# %%
from dpnet_lite.losses import episode_loss, episode_targets, target_weights

whole_step = replace(divided, accumulate=1)


def sums_of(config, n_processes):
    """Loss sum and number of counted pixels of every part of step 0."""
    found = []
    for rank in range(n_processes):
        parts = StepParts(listed, config, range(1), rank=rank, n_processes=n_processes)
        for batch in source.training_batches(parts, config):
            targets = episode_targets(batch, small.model.auxiliary)
            pixels = target_weights([targets], 1.0)
            with torch.no_grad():
                output = result.head(batch, (SIZE, SIZE))
            mean = episode_loss(output, targets, config, pixels)[1]
            found.append((float(mean) * float(pixels[0]), float(pixels[0])))
    return np.array(found)  # [parts, 2]


alone, shared = sums_of(whole_step, 1), sums_of(divided, 2)
print(f"{COPY}; pixels that count in the four parts: {', '.join(f'{n:,.0f}' for n in shared[:, 1])}")
print(f"loss of the step in one piece   {alone[0, 0] / alone[0, 1]:.5f}")
print(f"sum of sums / all pixels        {shared[:, 0].sum() / shared[:, 1].sum():.5f}")
print(f"mean of the parts' means        {(shared[:, 0] / shared[:, 1]).mean():.5f}")
assert np.isclose(alone[0, 0] / alone[0, 1], shared[:, 0].sum() / shared[:, 1].sum(), rtol=1e-5)

# %% [markdown]
# *What to see:* the second line equals the first up to rounding, the third does not. The mean of means is what one gets
# if every process divides by its own pixels: a pixel then weighs more in a part where more are ignored.
#
# ### Exercise 13.3: who takes what (medium, 15 minutes)
#
# Write `my_share(step, rank, part, batch_size, n_processes, n_parts)`: the list of the numbers of the episodes, in the
# run's list, that process `rank` takes in its part `part` of step `step`. Everything is counted from 0; the division
# has no remainder. The picture above is the case of `batch_size` 8, two processes and two parts.


# %% jupyter={"source_hidden": true}
def my_share(step: int, rank: int, part: int, batch_size: int, n_processes: int, n_parts: int) -> list[int]:
    """Numbers of consecutive episodes."""
    # BEGIN SOLUTION
    size = batch_size // (n_processes * n_parts)
    first = step * batch_size + (rank * n_parts + part) * size
    return list(range(first, first + size))
    # END SOLUTION


# %% tags=["check"]
from dpnet_lite.course.exercises.lesson_13 import check_share

check_share(my_share)

# %% [markdown]
# The next cell trains six steps three times: in one piece; in two parts; and stopped after three steps, then gone on
# with from its saved state. (That *two processes* equal one, and that a run can be resumed with another number of them,
# is shown by the tests of the package, which start real ones: `tests/test_processes.py`.)

# %%
from dpnet_lite.training import Trainer, initial_network

six = replace(whole_step, steps=6, checkpoint_every=1)


def weights_after(config, folder=None, stop_after=None, resume=False):
    network = initial_network(small.model, backbone, config.seed)
    trainer = Trainer(network, config, source, base, fold=FOLD, folder=folder)
    return trainer.run(stop_after=stop_after, resume=resume).head.state_dict()


reference = weights_after(six)
in_parts = weights_after(replace(six, accumulate=2))
run_folder = Path(holder.name) / "run"
stopped = weights_after(six, run_folder, stop_after=3)
resumed = weights_after(six, run_folder, resume=True)
print(f"{COPY}; weights compared with those of six steps in one piece")
for name, other in (("in two parts", in_parts), ("after three steps", stopped), ("gone on to six", resumed)):
    distance = max(float((reference[key] - other[key]).abs().max()) for key in reference)
    verdict = "equal to the last bit" if distance == 0 else "equal to 1e-5" if distance < 1e-5 else "different"
    print(f"{name:18} {verdict}")

# %% [markdown]
# *What to see:* the parts and the resumed run give the weights of six steps in one piece. "After three steps:
# different" is the control: it shows that the comparison can tell networks apart.
#
# **The command.** `torchrun`, which comes with PyTorch, starts the processes; each takes its share by itself:
#
# ```
# torchrun --nproc-per-node 2 -m dpnet_lite train --data pascal5i:PATH --recipe pascal_resnet50 --fold 0 \
#     --device cuda --workers 8 --out outputs/pascal_fold0.safetensors
# ```
#
# The batch of the recipe is that of *all* processes, so its rate need not be changed with their number.
#
# **When a process dies** (no memory left, a machine gone), the others cannot go on alone, and `torchrun` ends them.
# What was saved last remains, at most `checkpoint_every` steps old. Run the command again with `--resume`, with any
# number of processes that divides the batch. Ctrl-C, and the SIGTERM with which clusters end a job, save the state of a
# run.

# %% [markdown]
# ## 13.8 How to read the paper's table
#
# What we have of the paper's results is **second-hand**: the row of DPNet on PASCAL-5i with ResNet-50 as QPENet (TMM
# 2024) prints it in its comparison. We have not seen the paper's own table.

# %%
PAPER = {"1-shot": ((60.7, 69.5, 62.8, 58.0), 62.7), "5-shot": ((64.7, 70.8, 69.0, 60.1), 66.2)}
print("mIoU in %, DPNet, PASCAL-5i, ResNet-50: SECOND-HAND, as printed by QPENet, not reproduced here")
heads = "".join(f"{f'fold {fold}':>9}" for fold in range(4))
print(f"{'':8}{heads}{'mean, printed':>16}{'mean of the four':>18}")
for shots, (of_folds, mean) in PAPER.items():
    print(f"{shots:8}" + "".join(f"{value:9.1f}" for value in of_folds) + f"{mean:16.1f}{np.mean(of_folds):18.2f}")

# %% [markdown]
# *What to see:* the printed means fit the printed folds up to rounding (last column). Folds differ by more than ten
# points, most likely because their classes do: compare two papers fold by fold, and only if both did the same. Ask of
# every such table:
#
# | question | why it matters | for this row |
# |---|---|---|
# | which images and lists? | 13.1, 13.2 | not known |
# | what became of novel objects in training? | 13.3 | not known |
# | which episodes, how many, how many seeds? | 13.4 | not known |
# | which protocol: size, labels, ignored pixels, mean? | 13.6; lesson 7, section 7.7 | not known |
# | how was the checkpoint chosen? | [lesson 7](07_evaluation.ipynb), section 7.6 | not known |
# | which backbone, with which weights? | features decide much | ResNet-50; its weights are not known |
# | how far do repeated runs scatter? | lesson 7, sections 7.3 (episodes) and 7.4 (seeds) | not known |
#
# And of the method itself, by the marks of this project:
#
# - **Stated** (abstract, caption of a figure): support and query differ, and that is the obstacle; a pseudo-prototype
#   from selected, reliable features of the query; the correlation of both prototypes reinforces both and the query
#   feature; fusion at several scales; a separate decoder; an auxiliary branch in training only.
# - **Precedent** (a public relative does it): the cycle of CyCTR; masked averages; folds, area rule, policies,
#   protocols and rates as above.
# - **Our choice**: every formula in between, such as how selected features are averaged and how the correlation acts.
# - **Not known**: the paper's formulas, its optimiser and schedule, its input size, its ablation, its FB-IoU.
#
# So a run of our recipes tests *our reconstruction* under a named protocol. If its score differs from the row above,
# that alone does not say which of the two is wrong. [The method](../docs/method.md#what-is-not-known-about-the-paper)
# keeps the full list.

# %% [markdown]
# ## Recap
#
# - PASCAL-5i is VOC2012 and SBD joined: 5,953 and 1,449 images, blocked folds; COCO-20i interleaves. Check a copy
#   before you train on it.
# - An image serves a class from 2,048 pixels on; overlap with novel classes is treated in three ways that are three
#   tasks.
# - A frozen list is known by its hash; a score without list, policy and protocol says little.
# - A recipe gives steps and *effective* rates; the same batch on more processes gives the same network.
# - The paper's row is second-hand, and most of what would make it comparable is not known.
#
# **Further reading.** [Protocols](../docs/protocols.md); Shaban et al., *One-shot learning for semantic segmentation*,
# BMVC 2017 (PASCAL-5i); Nguyen and Todorovic, *Feature weighting and boosting for few-shot segmentation*, ICCV 2019
# (COCO-20i); Hariharan et al., *Semantic contours from inverse detectors*, ICCV 2011 (SBD).
#
# Previous: [12 When does it pay?](12_when_does_it_pay.ipynb). Back to: [Start here](00_start_here.ipynb)
