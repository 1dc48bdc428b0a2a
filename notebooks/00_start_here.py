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
# One photograph with a mask of an object, and the network marks the object in another photograph, although its trained
# part, the *head*, never saw such objects: that is *few-shot segmentation*.

# %%
from dpnet_lite.datasets import OBJECTS_FOLDER as photos
from dpnet_lite.predictor import Predictor

predictor = Predictor.load("photographs")
support, mask = photos / "images/backpack_dog_00.webp", photos / "masks/backpack_dog_00.png"
query, truth = photos / "images/backpack_dog_01.webp", photos / "masks/backpack_dog_01.png"
predictor.set_support([support], [mask])
answer = predictor.predict(query, trace=True)  # .mask: 1 on the object, else 0

# %%
# %matplotlib inline
from dpnet_lite.course.explorers.episode import answer_figure
from dpnet_lite.datasets import OBJECTS_CREDIT

print(OBJECTS_CREDIT)
answer_figure(answer, support, mask, query, truth)

# %% [markdown]
# *What to see:* left, all that the network was told: one photograph and the outline of a mask. Then the photograph to
# segment; in blue, the small patches of it that the network trusts, the stronger the more they count; in orange, its
# mask; in green, the truth, which it does not know. The mask is not perfect: it covers the front of the backpack, and
# misses its dark side, the lower edge and the strap. *IoU*, from 0 to 1, says how well it fits (section 4). These are
# the first two photographs of the first of the 13 objects that come with the package, not chosen;
# [lesson 8](08_inside_the_selection.ipynb) shows the extremes, and [lesson 10](10_your_own_images.ipynb) takes
# photographs of your own. The course uses a drawn world besides, where one can turn every knob.
#
# What sees the pixels first, the frozen *backbone*, learnt ImageNet, which has such classes (backpacks, dogs, teddies),
# as is usual in this field; the head never saw them.
#
# **What you will learn.** What few-shot segmentation is, what its words mean, and what the dual prototype network
# does with one example and with five.
#
# The network is a reconstruction of Mao et al., *Learning from the Target*, AAAI 2022, "the paper" below. Of the paper
# only the abstract and one caption are public to us, so every claim on the method carries a mark: *stated by the
# paper*; *precedent*, a public relative does exactly this; *our choice*, neither.
#
# **What you need.** Python and a first idea of neural networks. No GPU, no network connection, no data: everything
# is in the package.
#
# **Time.** About 10 minutes to read. The cells run in less than a minute.

# %% [markdown]
# ## 1. Is everything there?
#
# The next cell checks what this notebook needs; run it, too, if a cell above failed. Every line should begin with
# `[OK]`. A line with `[FAIL]` says what to do about it.

# %%
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
# ## 2. Few-shot segmentation in a few words
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
# The network does see masks in training, but of other classes. Those are the **base** classes. Classes that it
# never saw are **novel**. To test on many novel classes, the classes are split into four parts, the **folds**: a
# network for fold 0 is trained on the classes of the other folds and tested on those of fold 0.
#
# What makes it hard is that support and query differ in colour, light, size and pose. A summary of the support
# alone does not know how the class looks in the query. The paper names this as the obstacle *(stated by the
# paper)*.

# %% [markdown]
# ## 3. A small world to try it in
#
# The package brings a **toy world**: drawn scenes with objects of 80 classes. A class is an outline with a texture,
# such as "striped star". Colours, light, size and pose differ from scene to scene *(our choice)*. No file is read:
# scene number i is always the same for a given seed.

# %%
import matplotlib.pyplot as plt

from dpnet_lite.datasets.folds import base_classes, novel_classes
from dpnet_lite.datasets.toy import ToyWorld, catalogue_names

FOLD = 0
names = catalogue_names()
base, novel = base_classes(len(names), FOLD), novel_classes(len(names), FOLD)
assert not set(base) & set(novel)
print(f"{len(names)} classes; fold {FOLD} holds back {len(novel)} of them as novel, {len(base)} are base classes")
print("novel:", ", ".join(names[index] for index in novel[:6]), "...")

world = ToyWorld(200, seed=2022, targets=novel, others=range(len(names)))  # every scene shows a novel class
figure, grid = plt.subplots(1, 6, figsize=(10, 2), layout="constrained")
for number, axes in enumerate(grid):
    axes.imshow(world[number].image.permute(1, 2, 0))
    axes.set_title(names[novel[number]], fontsize=10)
    axes.set_axis_off()
plt.show()

# %% [markdown]
# *What to see:* six scenes. The title names the novel class that the scene was made for. It appears once or several
# times, among objects of other classes; some of those share its outline and some its texture, so neither is enough
# by itself.

# %% [markdown]
# ## 4. One example, one answer
#
# `Predictor` is the short way: load trained weights, show the support, ask for the query. The weights below were
# trained on the base classes of fold 0. We take the first episode of a list that is drawn at random, not a chosen
# one.

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
prediction = predictor.predict(query.image)
mask = prediction.mask == 1

print(f"class: {names[episode.class_index]} ({'base' if episode.class_index in base else 'novel'})")
print(f"the network marks {mask.sum()} pixels, the truth has {truth.sum()}, {(mask & truth).sum()} are in both")

# %% [markdown]
# How good is a mask? The usual measure is the **IoU**, *intersection over union*: the number of pixels that are in
# both masks, divided by the number that are in at least one. It is 1 for a perfect mask and 0 where nothing fits.

# %%
iou = (mask & truth).sum() / (mask | truth).sum()
print(f"IoU = {(mask & truth).sum()} / {(mask | truth).sum()} = {iou:.2f}")

# %% [markdown]
# ## 5. What the network looks at
#
# Two summaries of the class are at work. Each is a **prototype**: one vector, the mean of the features of some
# pixels. (A *feature* is the vector that the network computes for a small patch of the image.)
#
# - $P$, the **support prototype**: the mean over the pixels inside the support's mask.
# - $P_q$, the **pseudo-prototype**: the mean over pixels of the *query* that the network trusts to belong to the
#   class *(that it is made from such pixels is stated, their mean is our choice)*. It knows how the class looks in the
#   query.
#
# Which pixels are trusted? From a support pixel inside the mask, go to the most similar pixel of the query, and
# from there to the most similar pixel of the support. If that lies inside the mask again, the query pixel is kept
# *(precedent: CyCTR, a published relative)*. *Pixel* means a small patch here, since the network compares features.
# The kept patches may lie on several things; those that resemble each other most then count most *(our choice)*. Lesson
# 3 does all this step by step.
#
# The next picture shows four episodes, the one from above first. The other three are the next ones in the list.

# %%
from dataclasses import replace

from dpnet_lite.backbones.backbone import build_backbone
from dpnet_lite.experiments.plots import episodes_figure
from dpnet_lite.features import compute_features

bank = compute_features(world, build_backbone("tiny"), size=facts["size"])  # features of all scenes, computed once
one_shot = replace(episodes, n_shot=1, episodes=tuple(replace(e, support=e.support[:1]) for e in episodes))
figure = episodes_figure(bank, one_shot[:4], {"DPNet": head})
plt.show()

# %% [markdown]
# *What to see:* one episode a row. From left to right: the support with the outline of its mask; the query; in blue,
# the query pixels behind $P_q$, the stronger the more they count; the network's mask in orange, with its IoU; the truth
# in green, outlined. Compare blue with green: blue beside the true objects means that $P_q$ has mixed in something
# else. Compare orange with green: that is what the network made of it.
#
# The next cell puts a number on the first comparison: how much of $P_q$ comes from pixels of the class.

# %%
import torch

from dpnet_lite.model.prototypes import masks_at

batch = bank.batch(list(one_shot))
with torch.no_grad():
    output = head(batch, (bank.size, bank.size), trace=True)
reliable = output.trace.reliable  # share of every query pixel in P_q, at the size of the features; they sum to 1
true_share = masks_at(batch.query_labels == 1, batch.cells)
from_class = (reliable * true_share).sum(dim=(1, 2))
by_chance = true_share.mean(dim=(1, 2))
print("the four episodes above:", ", ".join(f"{100 * share:.0f} %" for share in from_class[:4]))
print(f"mean of {len(batch.query_labels)} episodes: {100 * from_class.mean():.0f} %")
print(f"if all pixels of the query counted the same: {100 * by_chance.mean():.0f} %")

# %% [markdown]
# ## 6. One shot or five
#
# More examples should help, because the one example may show the class in an unusual way. To see it, the same
# queries are segmented twice: with one support image and with five. The score of a whole list is the **mIoU**: the
# pixels of all episodes of a class are counted together, which gives one IoU for the class, and the mean is taken
# over the classes.

# %%
from dpnet_lite.experiments.plots import BLUE
from dpnet_lite.scoring import head_segmenter, score_episodes

scores = {
    episode_list.n_shot: score_episodes(head_segmenter(head), bank, episode_list)
    for episode_list in (one_shot, episodes)
}
for n_shot, score in scores.items():
    print(f"{n_shot} shot{'s' if n_shot > 1 else ' '}: mIoU {100 * score.miou:.1f} % over {len(episodes)} episodes")

# The counts are intersection and union of the foreground, then those of the background.
each = {n_shot: score.counts[:, 0] / score.counts[:, 1].clip(min=1) for n_shot, score in scores.items()}
gain = each[5] - each[1]
print(f"five shots are better by more than 0.05 in {(gain > 0.05).sum()} episodes, worse in {(gain < -0.05).sum()}")

figure, axes = plt.subplots(figsize=(4, 4), layout="constrained")
axes.plot([0, 1], [0, 1], color="grey", linewidth=1)
axes.scatter(each[1], each[5], color=BLUE, alpha=0.6)
axes.set(xlabel="IoU with one support image", ylabel="IoU with five", xlim=(-0.03, 1.03), ylim=(-0.03, 1.03), aspect=1)
plt.show()

# %% [markdown]
# *What to see:* one dot an episode. Above the grey line the five support images gave the better mask, below it the
# single one did. Dots at the left edge are queries where one example failed altogether; the higher such a dot, the
# more the other four repaired. A dot at the bottom right is the reverse: with five, a good mask was lost.
# A dot in the corner at 0 failed both times. With so few
# episodes the two scores depend much on chance: `docs/results.md` has the scores of long lists, with intervals.

# %% [markdown]
# ## 7. Try it yourself
#
# With a running kernel the next cell is an *explorer*: choose the world (the drawn world or the photographs), the fold,
# the class, the **gap** (how far support and query may differ in colour, light and pose, from 0 to 1), the seed and the
# shots. Photographs have neither fold nor gap. On a page without a kernel you see its first picture.

# %%
from dpnet_lite.course.explorers.apps import episode_explorer

episode_explorer(FOLD)

# %% [markdown]
# *What to see:* the support with the outline of its mask, the query, the prediction in orange with its IoU, the truth
# in green. The first picture is a failure: a striped cross is taken for the striped star. Move the gap to 1 and back to
# 0.
#
# `make app` shows this explorer and the others on one web page, without code.
#
# ## 8. Recap, and what next
#
# - Few-shot segmentation marks a class in a query image, given K support images with masks of it.
# - It is tested on novel classes, those of the fold that was held back from training.
# - The network compares the query with two prototypes, $P$ from the support and $P_q$ from the query itself.
#
# **The map of the course**
#
# | lesson | afterwards you can | minutes |
# |---|---|---|
# | [1 The task](01_few_shot_segmentation.ipynb) | draw fair episodes and folds; say why the gap is the obstacle | 30 |
# | [2 The support prototype](02_support_prototype.ipynb) | make a prototype by hand, and see where it fails | 30 |
# | [3 Cycle comparison](03_cycle_comparison.ipynb) | follow a cycle; judge a selection by precision and recall | 40 |
# | [4 Prototype interaction](04_prototype_interaction.ipynb) | measure whether the interaction helps | 25 |
# | [5 Multi-scale fusion](05_multi_scale_fusion.ipynb) | say which scale carries which objects | 25 |
# | [6 Training](06_training.ipynb) | train the network, stop and resume it; see it over-fit | 30 |
# | [7 Evaluation](07_evaluation.ipynb) | not fool yourself with a score | 40 |
# | [8 Inside the selection](08_inside_the_selection.ipynb) | say where a selection goes wrong, and its price | 40 |
# | [9 Prototype correlations](09_prototype_correlations.ipynb) | measure which prototypes belong together | 45 |
# | [10 Your own images](10_your_own_images.ipynb) | segment your own files | 20 |
# | [11 Ablations](11_ablations.ipynb) | say what each module is worth, and how sure that is | 45 |
# | [12 When does it pay?](12_when_does_it_pay.ipynb) | say when the second prototype helps, and when not | 45 |
# | [13 PASCAL and COCO](13_pascal_and_coco.ipynb) | plan a full training; compare scores of different papers | 75 |
#
# Lessons 1 to 5 take the method apart and build on each other; 6 and 7 need them; 8 and 9 look inside; 10 needs this
# notebook only; 11 to 13 need 7. The folder `student` holds the lessons without the solutions of their exercises.
#
# Elsewhere: [the method](../docs/method.md), every formula and whether the paper states it;
# [results](../docs/results.md), scores with intervals, and how they were made;
# [README](../README.md#your-own-images), your own images from the command line. `make demo` trains a network in front
# of your eyes and scores it beside two rivals.
