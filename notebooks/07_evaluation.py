# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 7. Evaluation without fooling yourself
#
# [Start here](00_start_here.ipynb) | [6 Training](06_training.ipynb) | **7 Evaluation** |
# [8 Inside the selection](08_inside_the_selection.ipynb)
#
# **What you will learn.** How much of a score is chance, and what an interval covers and does not cover; what three
# metrics say about the same masks; how two methods are compared; and two traps, novel objects in training images and a
# choice made on the test, and what can be measured of them.
#
# **What you need.** [Notebook 1](01_few_shot_segmentation.ipynb) (episodes, folds, base and novel classes) and
# [Notebook 6](06_training.ipynb). What a mean, a standard deviation and a quantile are; no more statistics.
#
# **Time.** About 80 minutes: 40 to read, 40 for the exercises. The cells run in about a minute.

# %%
# %matplotlib inline
from dataclasses import replace

import matplotlib.pyplot as plt
import numpy as np

from dpnet_lite.course.explorers.panels import show_image
from dpnet_lite.course.live_training import small_toy_fold
from dpnet_lite.course.page import claim, table
from dpnet_lite.evaluation import EpisodeScores
from dpnet_lite.experiments.intervals import bootstrap_interval, mean_paired_difference, paired_difference, percent
from dpnet_lite.experiments.plots import BLACK, BLUE, GREEN, ORANGE

plt.rcParams.update({"font.size": 12, "axes.spines.top": False, "axes.spines.right": False})
FOLD = 0
data = small_toy_fold(FOLD, n_train=100)  # its training scenes are not used here
print(f"{len(data.test.dataset)} test scenes, {len(data.novel)} novel classes")

# %% [markdown]
# ## 7.1 What is kept of an episode
#
# A prediction and the truth divide the pixels of the query into four kinds: *right* (object, found), *missed* (object,
# not found), *wrongly found* (no object, found) and *rest*. From these follow the four counts that are kept of every
# episode:
#
# - foreground: intersection = right; union = right + missed + wrongly found;
# - background: intersection = rest; union = rest + missed + wrongly found.
#
# An **IoU** is an intersection divided by its union. With the counts of every episode, any metric and any interval can
# be computed afterwards. The next cell scores four methods on the same 600 episodes: the training-free baseline (the
# nearest prototype, on frozen features), two networks that come with the package (DPNet, and the same without the
# prototype from the query), and one that always answers *nothing here*. The networks are one training each; 7.4 says
# what that leaves out.

# %%
from dpnet_lite.checkpoints import load_head, shipped_head
from dpnet_lite.episodes import draw_episodes
from dpnet_lite.experiments.experiment import TEST_SEED
from dpnet_lite.scoring import head_segmenter, predicted_mask, score_episodes, training_free_segmenter

heads = {"support only": load_head(shipped_head("toy_support_only"))[0], "DPNet": load_head(shipped_head(FOLD))[0]}
episodes = draw_episodes(data.test.dataset, data.novel, fold=FOLD, n_shot=1, count=600, seed=TEST_SEED)
segmenters = {"training-free": training_free_segmenter(data.test.backbone.deep_channels)}
segmenters |= {name: head_segmenter(head) for name, head in heads.items()}
scores = {name: score_episodes(segment, data.test, episodes) for name, segment in segmenters.items()}
area = scores["DPNet"].counts[:, 1] + scores["DPNet"].counts[:, 2]  # pixels of the image
truth = np.array([int((data.test.binary_labels(e.query, e.class_index) == 1).sum()) for e in episodes])
nothing = np.stack([np.zeros_like(truth), truth, area - truth, area], axis=1)
scores["nothing"] = replace(scores["DPNet"], counts=nothing)
print(f"{len(episodes)} episodes, {len({e.query for e in episodes})} different queries")

# %% jupyter={"source_hidden": true} alt=["Three panels of the first test episode: the query with the outline of the truth, DPNet's prediction painted on it, and the four kinds of pixels in colours: right, missed, wrongly found, rest"]
one = episodes[0]
query = data.test.dataset[one.query]
picture = query.image.permute(1, 2, 0).numpy()
target = data.test.binary_labels(one.query, one.class_index).numpy() == 1
segment = segmenters["DPNet"]
found = predicted_mask(segment(data.test.batch([one]))[0], target.shape).numpy() == 1
colours = np.full((*target.shape, 3), 0.85)
names = ("right", "missed", "wrongly found")
kinds = dict(zip(names, (found & target, target & ~found, found & ~target), strict=True))
for mask, colour in zip(kinds.values(), ((0, 0.62, 0.45), (0, 0.45, 0.7), (0.9, 0.62, 0)), strict=True):
    colours[mask] = colour
figure, panels = plt.subplots(1, 3, figsize=(9, 3.7), layout="constrained")
show_image(panels[0], picture, "", outline=target)
show_image(panels[1], np.where(found[..., None], [230, 159, 0], picture // 2 + 100).astype(np.uint8), "")
show_image(panels[2], (255 * colours).astype(np.uint8), "")
for panel, title in zip(panels, ("query, truth outlined", "DPNet finds", "four kinds of pixels"), strict=True):
    panel.set_title(title, fontsize=14)
panels[2].legend(
    handles=[plt.Rectangle((0, 0), 1, 1, color=c) for c in (GREEN, BLUE, ORANGE, "0.85")],
    labels=[*(f"{name}: {mask.sum()}" for name, mask in kinds.items()), f"rest: {scores['DPNet'].counts[0, 2]}"],
    ncols=2,
    columnspacing=0.8,
    loc="upper center",
    bbox_to_anchor=(0.5, 0),
    frameon=False,
)
plt.show()
right, missed, wrong = (int(mask.sum()) for mask in kinds.values())
assert scores["DPNet"].counts[0].tolist()[:2] == [right, right + missed + wrong]
print(f"IoU of the foreground: {right} / ({right} + {missed} + {wrong}) = {right / (right + missed + wrong):.2f}")

# %% [markdown]
# ## 7.2 Three metrics, the same masks
#
# - **mIoU** ![precedent](../figures/badges/precedent.svg) *PFENet, HSNet*: first add up the pixels of all episodes of
#   a class c, then divide, then take the mean over the classes:
#   $\frac{1}{|C|}\sum_{c \in C} \frac{\sum_{e \in c} I_e}{\sum_{e \in c} U_e}$, with $I_e$ and $U_e$ the foreground's
#   intersection and union in episode e. It is the metric of this project.
# - **FB-IoU** ![precedent](../figures/badges/precedent.svg) *PFENet*: the mean of the foreground's IoU and the
#   background's, each added up over all episodes.
# - **per-episode IoU**: the mean of $I_e / U_e$ over episodes. Some published code reports it as mIoU. A small object
#   then weighs as much as a large one.

# %%
counts, classes = scores["DPNet"].counts, scores["DPNet"].class_index
per_class = [counts[classes == c, 0].sum() / counts[classes == c, 1].sum() for c in np.unique(classes)]
assert np.isclose(np.mean(per_class), scores["DPNet"].miou)
foreground, background = (counts[:, k].sum() / counts[:, k + 1].sum() for k in (0, 2))
assert np.isclose((foreground + background) / 2, scores["DPNet"].fb_iou)
assert np.isclose((counts[:, 0] / counts[:, 1]).mean(), scores["DPNet"].episode_miou)

METRICS = {"mIoU": "miou", "FB-IoU": "fb_iou", "IoU per episode": "episode_miou"}
columns = {label: [100 * getattr(score, metric) for score in scores.values()] for label, metric in METRICS.items()}
table({"method": list(scores), **columns}, "The same masks under three metrics, in %", formats="{:.1f}", strong=[3])

# %% [markdown]
# *What to see:* the last row. A method that finds nothing has an mIoU of 0, and yet an FB-IoU far from 0: most of an
# image is background, and saying *background* is mostly right. FB-IoU also differs less from method to method. And the
# same masks have different scores under mIoU and per episode: a table that does not name its metric says little.

# %% [markdown]
# ### Exercise 7.1: mIoU from counts (write, easy, 10 minutes)
#
# Write `my_miou(counts, class_index)` for the counts [n, 4] of n episodes (foreground intersection and union,
# background intersection and union) and the class of each, [n]. Return a number between 0 and 1.
#
# <details><summary>Hint 1</summary>
# Which comes first: adding up or dividing? Read the formula from the inside outwards.
# </details>
#
# <details><summary>Hint 2</summary>
# For one class c: <code>rows = counts[class_index == c]</code>, then the sum of column 0 divided by the sum of
# column 1. Classes with many episodes weigh no more than others.
# </details>


# %% jupyter={"source_hidden": true}
def my_miou(counts: np.ndarray, class_index: np.ndarray) -> float:
    """Mean over classes of the IoU of all pixels of the class."""
    # BEGIN SOLUTION
    sums = [counts[class_index == c].sum(axis=0) for c in np.unique(class_index)]
    return float(np.mean([row[0] / row[1] for row in sums]))
    # END SOLUTION


# %% tags=["check"]
from dpnet_lite.course.exercises.lesson_07 import check_miou

check_miou(my_miou)

# %% [markdown]
# ## 7.3 How much of a score is chance?
#
# A list of episodes is a sample. Other lists would give other scores. Here the 600 episodes are cut into lists of 50,
# 100, 200 and 300, and each list gets its score.


# %% alt=["One dot per list: the mIoU of the same network on lists of 50, 100, 200 and 300 episodes; the dots spread less the longer the lists, around a line at the score of all 600; a black dash per column, the mean, falls towards that line"]
def part(score: EpisodeScores, rows: np.ndarray) -> EpisodeScores:
    """Some episodes of a run, with the images that they were drawn from."""
    chosen = {"class_index": score.class_index[rows], "counts": score.counts[rows], "images": score.images[rows]}
    return replace(score, **chosen, episodes_sha256="")


SIZES = (50, 100, 200, 300)
figure, axes = plt.subplots(figsize=(6, 3.2), layout="constrained")
means = []
for position, size in enumerate(SIZES):
    values = [100 * part(scores["DPNet"], rows).miou for rows in np.arange(600).reshape(-1, size)]
    axes.plot([position] * len(values), values, "o", color=BLUE, alpha=0.6)
    means.append(np.mean(values))
    axes.plot([position - 0.25, position + 0.25], [means[-1]] * 2, color=BLACK, linewidth=4)
axes.axhline(100 * scores["DPNet"].miou, color=BLACK, linewidth=1)
axes.set_xticks(range(4), SIZES)
axes.set(xlabel="episodes in the list", ylabel="mIoU of the same network")
plt.show()
print(", ".join(f"lists of {size}: mean {mean:.1f}" for size, mean in zip(SIZES, means, strict=True)))
assert means == sorted(means, reverse=True)

# %% [markdown]
# *What to see:* one dot per list; the thin line is the score of all 600, a black dash the mean of a column. With few
# episodes, the same network can look points better or worse. Look at the dashes too: short lists score *higher*. With
# few episodes of a class there is less to add up, and mIoU comes near the per-episode IoU of section 7.2. So lists of
# different lengths are not comparable.
#
# One usually has one list only. The **bootstrap** asks it how much it would vary: draw as many episodes from the list,
# *with replacement*, score them, repeat 1,000 times; the middle 95 % of these scores are the interval. The package
# draws within each class, because a list gives each class its fixed number of episodes
# ![our choice](../figures/badges/ours.svg).


# %%
def plain_bootstrap(score: EpisodeScores, generator: np.random.Generator, n_resamples: int = 1000) -> np.ndarray:
    """Ends of the middle 95 % of the mIoU of resamples, drawn within each class."""
    ious = []
    for c in np.unique(score.class_index):
        members = np.flatnonzero(score.class_index == c)
        drawn = generator.choice(members, (n_resamples, len(members)))  # numbers of episodes
        sums = score.counts[drawn, :2].sum(axis=1)  # [n_resamples, 2], intersection and union
        ious.append(sums[:, 0] / sums[:, 1])
    return np.quantile(np.mean(ious, axis=0), [0.025, 0.975])


first = part(scores["DPNet"], np.arange(200))
low, high = plain_bootstrap(first, np.random.default_rng(1))
packaged = bootstrap_interval(first)
assert low > scores["DPNet"].miou > packaged.low > scores["DPNet"].miou - 0.005  # the text of 7.3 says so
assert 1.02 < (packaged.high - packaged.low) / (high - low) < 1.3
print(f"the first 200 episodes: by hand [{100 * low:.1f}, {100 * high:.1f}], package {percent(first.miou, packaged)}")
print(f"all 600: {100 * scores['DPNet'].miou:.1f}")

# %% [markdown]
# ### Exercise 7.2: an interval (write, medium, 15 minutes)
#
# Write `my_interval(values, generator)` for n numbers [n] and a NumPy generator. Return `(low, high)`: the middle 95 %
# of the means of 1,000 resamples.
#
# <details><summary>Hint 1</summary>
# Two steps: first 1,000 numbers, each the mean of one resample; then two quantiles of these 1,000 numbers, not of the
# values themselves.
# </details>
#
# <details><summary>Hint 2</summary>
# A resample is <code>generator.choice(values, len(values))</code>: as many as there are, with replacement. The middle
# 95 % leaves 2.5 % at each end.
# </details>


# %% jupyter={"source_hidden": true}
def my_interval(values: np.ndarray, generator: np.random.Generator) -> tuple[float, float]:
    """Percentile bootstrap of the mean."""
    # BEGIN SOLUTION
    means = [generator.choice(values, len(values)).mean() for _ in range(1000)]
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)
    # END SOLUTION


# %% tags=["check"]
from dpnet_lite.course.exercises.lesson_07 import check_interval

check_interval(my_interval)

# %% [markdown]
# ### Does an interval of 95 % hold 95 %?
#
# The interval by hand of the first 200 episodes does not hold the score of all 600; the package's is a little wider and
# just holds it. Was that bad luck? It can be counted: take scores whose truth is known, draw many lists, make the
# interval of each, and count how many hold the truth. That share is the **coverage**.
#
# First, a reason for doubt. Episodes are drawn from the images of a class, and where these are few, one image is the
# query of several episodes and the support of others. An image that is hard is hard in all of them. The next cell asks
# real scores, those of the package's ablation on photographs (`shipped_rows` reads them, wherever the package lies): by
# how much do the IoUs of two episodes of one class differ, by which image they share?

# %%
from dpnet_lite.ablation.table import shipped_rows, unpack_scores

rows = {data: shipped_rows("modules", data) for data in ("toy", "photos")}
runs, photographs = (
    {(row["variant"], row["fold"], row["seed"]): unpack_scores(row["scores"]) for row in own} for own in rows.values()
)
seeds = range(1, 6)
assert all((name, fold, seed) in runs for name in ("full", "support only") for fold in range(4) for seed in seeds)
apart = {"no image": [], "the support": [], "the query": []}
for fold in range(4):
    score = photographs["full", fold, 1]
    one, two = np.triu_indices(len(score.counts), 1)  # every pair of episodes
    one, two = (places[score.class_index[one] == score.class_index[two]] for places in (one, two))
    difference = np.subtract(*(score.counts[places, 0] / score.counts[places, 1] for places in (one, two)))
    query, support = (score.images[one] == score.images[two]).T
    across = (score.images[one] == score.images[two][:, ::-1]).any(axis=1)  # one's query is the other's support
    kinds = (~query & ~support & ~across, support & ~query, query & ~support)
    for found, kind in zip(apart.values(), kinds, strict=True):
        found.extend(difference[kind] ** 2)
nothing_shared, same_support, same_query = (float(np.mean(found)) for found in apart.values())
assert 0.6 < (same_query / nothing_shared) ** 0.5 < 0.75 and same_query < same_support < nothing_shared
columns = {"two episodes of a class share": list(apart), "pairs": [len(found) for found in apart.values()]}
columns["their IoUs differ by, points"] = [100 * np.mean(found) ** 0.5 for found in apart.values()]
table(columns, "DPNet on photographs; root of the mean squared difference", formats="{:.1f}")

# %% [markdown]
# *What to see:* two episodes with the same query are clearly more alike than two that share nothing; the same support
# matters less. So they are not **independent**, that is, what one says of a score the other says in part, too. A
# hundred episodes of ten images are less than a hundred pieces of news.
#
# These three numbers do more. Think of an episode's IoU as a mean plus three parts, drawn at random: one of the query
# image, one of the support image, one of this episode alone. Two episodes with the same query have its part in common,
# and it drops out of their difference. So the differences say how large each part is. With parts of that size the next
# cell makes up images and episodes, whose true mIoU we know: 0.5. A second kind of list has real episodes, drawn each
# by itself from the 500 of one fold of the drawn world; there the truth is the score of all 500. The cell after it
# counts the coverage of the bootstrap by hand and of the package's interval.

# %%
PARTS = [((nothing_shared - same) / 2) ** 0.5 for same in (same_query, same_support)]  # standard deviations
PARTS.append((nothing_shared / 2 - PARTS[0] ** 2 - PARTS[1] ** 2) ** 0.5)


def made_up(generator: np.random.Generator, n_images: int, n_episodes: int) -> EpisodeScores:
    """Five classes, each with images of its own and episodes drawn from them."""
    classes = np.repeat(np.arange(5), n_episodes)
    query = generator.integers(n_images, size=len(classes))
    support = (query + generator.integers(1, n_images, size=len(classes))) % n_images  # another image
    of_query, of_support = (generator.normal(0, size, (5, n_images)) for size in PARTS[:2])
    iou = 0.5 + of_query[classes, query] + of_support[classes, support] + generator.normal(0, PARTS[2], len(classes))
    right = np.rint(1000 * iou.clip(0, 1)).astype(int)  # of 1,000 pixels
    counts = np.stack([right, np.full_like(right, 1000), np.full_like(right, 8000), 9000 - right], axis=1)
    images = n_images * classes[:, None] + np.stack([query, support], axis=1)
    return EpisodeScores(classes, counts, tuple("abcde"), images=images)


world = runs["full", 0, 1]
members = [np.flatnonzero(world.class_index == c) for c in np.unique(world.class_index)]


def drawn(generator: np.random.Generator, n_episodes: int) -> EpisodeScores:
    """Real episodes, drawn with replacement: copies are no shared images, so these are taken away."""
    picked = part(world, np.concatenate([generator.choice(m, n_episodes) for m in members]))
    return replace(picked, images=None)


# %%
def coverage(make, truth: float, *sizes: int, n_lists: int = 200) -> list[float]:
    """Share of intervals that hold the truth, by hand and the package's; and of the latter, how many lie above it."""
    generator, found = np.random.default_rng(0), []
    for number in range(n_lists):
        score = make(generator, *sizes)
        by_hand = plain_bootstrap(score, generator, 300)
        low, high = bootstrap_interval(score, n_resamples=300, seed=number)
        found.append([by_hand[0] <= truth <= by_hand[1], low <= truth <= high, low > truth])
    return list(np.mean(found, axis=0))


SETTINGS = ((300, 100), (30, 100), (10, 100), (300, 5))  # images and episodes of a class
held = {f"made up: {images} images, {n} episodes": coverage(made_up, 0.5, images, n) for images, n in SETTINGS}
held |= {f"drawn world: {n} episodes": coverage(drawn, world.miou, n) for n in (25, 5)}
by_hand, package, above = (100 * np.array(column) for column in zip(*held.values(), strict=True))
columns = {
    "of each class": list(held),
    "by hand, %": by_hand,
    "package, %": package,
    "package, above the truth, %": above,
}
error = 200 * (0.95 * 0.05 / 200) ** 0.5  # two standard errors of a share of 95 %
# The text below says so.
assert by_hand[0] > 95 - 1.5 * error and by_hand[0] > by_hand[1] > by_hand[2] and by_hand[2] < 60 and by_hand[3] < 91
assert all(abs(package - 95) < 1.2 * error) and package[5] > by_hand[5] + 1.2 * error and by_hand[5] < 95 - 2 * error
assert above[5] > 0.9 * (100 - package[5])
caption = f"Coverage of intervals that are called 95 %, of 200 lists each, which know such a share to ± {error:.0f}"
table(columns, caption, formats="{:.0f}")

# %% [markdown]
# *What to see:* with many images (first row) the share by hand is at most a little too low. It falls with the number of
# images, though the number of episodes is the same: a resample draws from the same ten
# images, and so knows nothing of others. With few episodes (fourth and last row) it is too low as well: resamples of n
# things show only (n - 1) / n of their variance, and n is the number of episodes *per class*. The package's share is near
# 95 % in all rows, by what 200 lists can tell.
#
# **What the package does** ![our choice](../figures/badges/ours.svg), in three steps:
#
# - *Shared images.* It finds the size of the three parts in the list itself, as we did above: from how alike episodes
#   are that share an image. From these follows how far a mean is off when *images* and episodes are drawn anew, and the
#   resamples' spread is stretched to that. So the interval speaks about other images of these classes. Scores that do
#   not name their images are taken as of independent episodes.
# - *Few episodes.* The missing 1 / n of the variance is added. And a spread that is known from few images or episodes
#   may itself be too small by luck; for this the interval is widened as Student's t is.
# - *Short lists.* mIoU is too high on short lists, as the dashes above showed, and resamples of a short list are too
#   high once more. That second excess is known, the mean of the resamples minus the score, and is taken off.
#
# (`experiments/shared_images.py` and `experiments/intervals.py` have the formulas, `tests/experiments/test_coverage.py`
# a larger table: with five support images of few, the interval comes out a little too wide.)
#
# **What it does not mend** is in the last column of the last row: nearly all intervals that miss lie *above* the truth.
# The score of a short list itself stays too high, and the interval lies around that score. Do not report a score of five
# episodes per class.

# %% [markdown]
# ## 7.4 Comparing two methods
#
# Is the second prototype worth anything? The fair opponent of DPNet is not the training-free baseline, which differs in
# everything. It is the network that differs in this one thing: *support only*, the same without the prototype from the
# query, trained from the same initial weights on the same episodes. Here is one training of each, on the first 200
# episodes of the test list; the last two lines printed are those of all 500. (Both are of the study, trained shorter
# than the shipped heads of 7.1.)
#
# Some episodes are hard for both. Two methods on the *same* episodes share this luck, so their difference is known
# better than either score. The interval must therefore be **paired**: each resample draws episodes, and both methods
# are scored on the same ones. The next cell compares that with drawing for each method by itself.

# %%
full, control = (part(runs[name, 0, 1], np.arange(200)) for name in ("full", "support only"))  # fold 0, seed 1
difference, paired = paired_difference(full, control)
half = [(end.high - end.low) / 2 for end in map(bootstrap_interval, (full, control))]
unpaired = float(np.hypot(*half))  # half the width, where each method has lists of its own
iou = {name: score.counts[:, 0] / score.counts[:, 1] for name, score in (("full", full), ("control", control))}
assert paired.low > 0 and paired.high - paired.low < 0.5 * 2 * unpaired  # the text below says so
assert bootstrap_interval(full).low < bootstrap_interval(control).high  # the two overlap
print(f"DPNet {percent(full.miou, bootstrap_interval(full))}")
print(f"support only {percent(control.miou, bootstrap_interval(control))}")
print(f"difference {percent(difference, paired, signed=True)} paired, about +- {100 * unpaired:.1f} unpaired")
whole = [runs[name, 0, 1] for name in ("full", "support only")]
assert bootstrap_interval(whole[0]).low < bootstrap_interval(whole[1]).high  # with all 500, too
print(f"with all {len(whole[0].counts)} the difference is {percent(*paired_difference(*whole), signed=True)}")
of_all = [percent(score.miou, bootstrap_interval(score)) for score in whole]
print(f"and the scores DPNet {of_all[0]}, support only {of_all[1]}")

# %% jupyter={"source_hidden": true} alt=["Left: one dot per episode, the IoU of support only against that of DPNet; the dots lie along the diagonal. Right: the same difference of the two with its paired interval, and with the unpaired one, which is more than twice as wide"]
figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
left.plot(iou["control"], iou["full"], "o", color=BLUE, alpha=0.35, markersize=5)
left.plot([0, 1], [0, 1], color=BLACK, linewidth=1)
left.set(xlabel="IoU of support only", ylabel="IoU of DPNet", aspect="equal")
left.set_title(f"one dot per episode, r = {np.corrcoef(iou['full'], iou['control'])[0, 1]:.2f}", fontsize=13)
for height, (low, high) in enumerate((paired, (difference - unpaired, difference + unpaired))):
    right.plot([100 * low, 100 * high], [height] * 2, color=(BLUE, ORANGE)[height], linewidth=4)
    right.plot(100 * difference, height, "o", color=BLACK, markersize=9)
right.axvline(0, color=BLACK, linewidth=1)
right.set_yticks([0, 1], ["paired", "unpaired"])
right.set(ylim=(-0.6, 1.6), xlabel="DPNet minus support only, in points")
right.set_title("the same difference, twice", fontsize=13)
plt.show()

# %% [markdown]
# *What to see:* left, an episode that is hard for one is mostly hard for the other. Right, what pairing gains: the
# interval is less than half as wide. The two scores have intervals that overlap, on 200 episodes and on 500, and yet
# the difference is clearly above 0: overlapping intervals of two *scores* do not say that the methods are equal. Only
# the interval of the *difference* answers that.

# %% [markdown]
# ### Exercise 7.3: lose the pairing (break it on purpose, medium, 10 minutes)
#
# Shuffle the episodes of `control` *within each class*, so that row k of `full` and row k of `control` are no longer
# the same episode. First predict: which of these three change: the mIoU of `control`, the difference, its paired
# interval? Then do it in the cell below with `part` and `paired_difference`.
#
# <details><summary>Hint 1</summary>
# mIoU adds up the pixels of a class. Does the order of its episodes matter?
# </details>
#
# <details><summary>Hint 2</summary>
# Begin with <code>rows = np.arange(200)</code>. For each class c, its places are
# <code>m = np.flatnonzero(full.class_index == c)</code>; set <code>rows[m] = generator.permutation(m)</code>. Then
# <code>paired_difference(full, part(control, rows))</code>.
# </details>

# %%
# Room for exercise 7.3.

# %% [markdown]
# <details><summary>Answer</summary>
#
# The score of `control` and the difference stay exactly as they are: sums do not care for the order. The interval
# becomes about as wide as the unpaired one. What pairing gains is nothing but the correlation of the two columns, and
# shuffling destroys it:
#
# ```
# rows = np.arange(200)
# for c in np.unique(full.class_index):
#     m = np.flatnonzero(full.class_index == c)
#     rows[m] = generator.permutation(m)
# print(percent(*paired_difference(full, part(control, rows)), signed=True))
# ```
# </details>

# %% [markdown]
# ### One training seed is not enough
#
# Episodes are one source of chance. The **seed** of the training (the initial weights, the order of episodes) is
# another, and no number of test episodes removes it. Left below: DPNet minus support only for four folds with five
# seeds each. Right, a test of the method itself: *DPNet minus DPNet*, for every two seeds of a fold. There the true
# difference is 0.

# %%
pairs = [(runs["full", fold, seed], runs["support only", fold, seed]) for fold in range(4) for seed in range(1, 6)]
each = [paired_difference(*pair) for pair in pairs]
same = [
    paired_difference(runs["full", fold, seed], runs["full", fold, other])
    for fold in range(4)
    for seed in range(1, 6)
    for other in range(1, seed)
]
false_alarms = np.mean([end.low > 0 or end.high < 0 for _, end in same])
seed_luck = 100 * float(np.quantile([abs(value) for value, _ in same], 0.95))
gain, gain_interval = mean_paired_difference(*zip(*pairs, strict=True), n_resamples=2000)
assert all(end.low > 0 for _, end in each) and 0.15 < false_alarms < 0.5
print(f"DPNet minus support only, {len(pairs)} pairs: {percent(gain, gain_interval, signed=True)}")
print(f"DPNet minus DPNet: {100 * false_alarms:.0f} % of {len(same)} intervals do not hold 0;")
print(f"in 95 % of the pairs two seeds are less than {seed_luck:.1f} points apart")

# %% jupyter={"source_hidden": true} alt=["Left: 20 differences DPNet minus support only with intervals, by fold and seed, all above 0. Right: 40 differences between two seeds of DPNet with intervals, sorted; about a quarter, in orange, do not hold 0"]
figure, panels = plt.subplots(1, 2, figsize=(9, 4), layout="constrained", sharey=True)
panels[0].axhspan(*(100 * end for end in gain_interval), color=BLUE, alpha=0.15)
for axes, values, step in ((panels[0], each, 5), (panels[1], sorted(same, key=lambda pair: pair[0]), len(same))):
    for place, (value, end) in enumerate(values):
        x = place + 1.5 * (place // step)
        colour = ORANGE if axes is panels[1] and not end.low <= 0 <= end.high else BLUE
        axes.plot([x, x], [100 * end.low, 100 * end.high], color=colour, linewidth=2)
        axes.plot(x, 100 * value, "o", color=colour, markersize=5)
    axes.axhline(0, color=BLACK, linewidth=1)
panels[0].set_xticks([2 + 6.5 * fold for fold in range(4)], [f"fold {fold}" for fold in range(4)])
panels[1].set_xticks([])
panels[0].set_title("DPNet minus support only", fontsize=14)
panels[1].set_title("DPNet minus DPNet, another seed", fontsize=14)
panels[0].set_ylabel("points of mIoU")
panels[1].set_xlabel("all pairs of seeds of a fold, sorted")
plt.show()

# %% [markdown]
# *What to see:* bars are paired intervals over episodes. Left, the shaded band is the interval of the mean over all 20
# pairs, and every single pair is above 0. Right, nothing is to be found, and still many intervals (orange) exclude 0.
# They are not wrong: these two networks do differ on such episodes. But that is luck of the training, not a better
# method. (The pairs share their networks, five per fold, so take the share as a rough size.) **An interval over
# episodes speaks about two networks; only several seeds speak about two methods.**
#
# What each interval of this project draws anew, and what it takes as given:

# %% jupyter={"source_hidden": true}
table(
    {
        "interval": ["one score", "difference, one seed", "mean difference, several seeds"],
        "drawn anew": [
            "episodes of each class; widened for images that they share and for few of them",
            "the same, with the same episodes for both",
            "the same; and pairs of runs, within each fold, widened as in Student's t",
        ],
        "taken as given": [
            "this network, the classes",
            "these two networks, the classes",
            "the classes, the folds, the backbone, the settings",
        ],
        "so it speaks about": ["one network", "two networks", "two ways of training, on these classes"],
    },
    "What is resampled",
)

# %% [markdown]
# Tables of this project say under them which it is: *episodes only, one training a fold*, or *episodes and trainings*.
# Folds differ because their classes do, and they overlap in training classes, so four folds are not quite four independent
# trials, and twenty pairs are far from twenty: [lesson 11.2](11_ablations.ipynb) counts them. A table should say over
# what it averages: episodes, seeds, folds.

# %% [markdown]
# **Try your luck.** With a running kernel: the difference of two stored networks on twenty lists of episodes, each with
# its interval (lists from the same images, so not widened for them); orange ones miss what all 500 episodes say. Make the lists shorter, and score the rival on *other
# episodes*: how often would you have reported no difference, or the wrong sign?

# %%
from dpnet_lite.course.explorers.apps import luck_explorer

luck_explorer()

# %% [markdown]
# ## 7.5 First trap: novel objects in training images
#
# Scenes in the wild show many things. A training image of a *base* class may show an object of a *novel* class, and
# there its pixels are labelled *background*. The network is then taught that this object is background, and at the test
# it is asked to find it. Three policies are in use:
#
# - **background**: leave it so. ![precedent](../figures/badges/precedent.svg) *PFENet, HSNet*
# - **ignore**: leave these pixels out of the loss. ![precedent](../figures/badges/precedent.svg) *RePRI*
# - **drop**: take no image that shows a novel class. ![precedent](../figures/badges/precedent.svg) *BAM, HDMNet*; the
#   toy world trains so ![our choice](../figures/badges/ours.svg).
#
# They are different tasks, and a table that mixes them compares nothing. The next cell draws training scenes in which
# any class may stand beside the base classes, and trains twice on them.

# %%
from dpnet_lite.config import ModelConfig
from dpnet_lite.datasets.novel import TrainingView
from dpnet_lite.datasets.toy import ToyWorld, catalogue_names
from dpnet_lite.experiments.jobs import train_head
from dpnet_lite.experiments.kept_features import compute_features
from dpnet_lite.experiments.presets import TOY

wild = ToyWorld(600, seed=100, targets=data.base, others=range(len(catalogue_names())))
bank = compute_features(wild, data.test.backbone, size=wild.size)
shows_novel = (wild.class_areas[:, list(data.novel)] > 0).any(axis=1)
print(f"{100 * shows_novel.mean():.0f} % of the training scenes show a novel class")

settings = replace(TOY.training, steps=120, batch_size=4)
fewer = replace(episodes, episodes=episodes.episodes[:400])
by_policy = {}
for policy in ("background", "drop"):
    seen = replace(data, train=bank.seen_by_training(TrainingView(wild, data.novel, policy)))
    trained = train_head(seen, ModelConfig(), settings).head
    by_policy[policy] = score_episodes(head_segmenter(trained), data.test, fewer)
policy_gain, policy_interval = paired_difference(by_policy["drop"], by_policy["background"])
for policy, score in by_policy.items():
    print(f"{policy:10} mIoU of novel classes {100 * score.miou:.1f}")
print(f"drop minus background: {percent(policy_gain, policy_interval, signed=True)}")
further = np.mean([abs(value) > policy_gain for value, _ in same])
print(f"in 7.4 two seeds of one network were further apart than that in {100 * further:.0f} % of {len(same)} pairs")
assert policy_gain > 0 and 0.05 < further < 0.25

# %% [markdown]
# *What to see:* the last two lines. The two runs have the same settings and number of steps; the policy differs, and
# with it the number of scenes (the first line). In these two runs the score is *lower* where novel objects were trained
# as background. But it is one seed per policy, and in some pairs of 7.4 two seeds of one and the same network were
# further apart: luck of the seed is not excluded. (Those had other training scenes and were trained longer, so take
# that share as a rough size.) This experiment is too small to say which policy is better.

# %% [markdown]
# ## 7.6 Second trap: choosing on the test
#
# A training run gives many checkpoints, and a network has many settings. Published code often keeps what scores best
# *on the novel classes of the test*, often on a short list, because scoring takes time. The score that is then reported
# is the largest of several draws: it is too high even if all candidates are equally good.
#
# The cell takes 30 networks: the six forms of the interaction of [lesson 11](11_ablations.ipynb), five seeds each, all
# scored on the same 500 episodes of this fold. Again and again it draws two lists of the same length that share no
# episode, chooses the best of some candidates on the first, and compares its score there (*reported*) with the same
# network's score on *the second list*, which had no part in the choice. The two are not quite independent: both are cut
# from one fixed list, so where the first is easy by luck the second is a little harder, and what is flattered comes out
# slightly too large.

# %%
table_30 = [unpack_scores(row["scores"]) for row in shipped_rows("interaction") if row["fold"] == FOLD]
assert len(table_30) == 30
members = np.stack([np.flatnonzero(table_30[0].class_index == c) for c in np.unique(table_30[0].class_index)])
pixels = np.stack([score.counts[:, :2] for score in table_30])[:, members].astype(float)  # [30, classes, 25, 2]


def miou_of(pixels: np.ndarray) -> np.ndarray:
    """mIoU in points of networks [m] from their foreground counts [m, classes, episodes, 2]."""
    sums = pixels.sum(axis=2)  # [m, classes, 2]
    return 100 * (sums[..., 0] / sums[..., 1]).mean(axis=1)


def choose_on_the_test(n_candidates: int, per_class: int, n_draws: int = 1000) -> np.ndarray:
    """mIoU of the best of some candidates as reported minus on the second list, in points [n_draws]."""
    generator, flattery = np.random.default_rng(0), []
    for _ in range(n_draws):
        order = generator.permuted(np.tile(np.arange(25), (len(members), 1)), axis=1)  # within each class
        chosen = pixels[generator.choice(30, n_candidates, replace=False)]
        candidates = np.take_along_axis(chosen, order[None, :, : 2 * per_class, None], axis=2)
        first, second = (miou_of(candidates[:, :, k * per_class : (k + 1) * per_class]) for k in (0, 1))
        flattery.append(first[first.argmax()] - second[first.argmax()])
    return np.array(flattery)


# %% alt=["Reported mIoU minus that on the second list against the number of candidates, 1 to 30, a line per length of list: near 0 for one candidate, rising with the number of candidates, steepest for the shortest list"]
CANDIDATES, LISTS = (1, 2, 5, 10, 30), {"40 episodes": 2, "100 episodes": 5, "240 episodes": 12}
flattered = {name: [choose_on_the_test(m, n).mean() for m in CANDIDATES] for name, n in LISTS.items()}
figure, axes = plt.subplots(figsize=(7, 3.8), layout="constrained")
for (name, values), colour, style in zip(flattered.items(), (ORANGE, BLUE, GREEN), ("o-", "s--", "^:"), strict=True):
    axes.plot(CANDIDATES, values, style, color=colour, linewidth=2, markersize=7, label=name)
axes.axhline(100 * gain, color=BLACK, linewidth=1)
axes.text(30, 100 * gain, "what DPNet's second prototype is worth", ha="right", va="bottom")
axes.set_xscale("log")
axes.set_xticks(CANDIDATES, CANDIDATES)
axes.set(xlabel="candidates to choose from", ylabel="too high by, in points", ylim=(-0.5, 100 * gain + 0.8))
axes.legend(frameon=False, title="the test list has")
plt.show()
assert all(abs(values[0]) < 0.6 and values[-1] > values[1] for values in flattered.values())
assert flattered["40 episodes"][-1] > 2.5

# %% [markdown]
# *What to see:* a point is a mean of 1,000 draws. With one candidate nothing is chosen and the mean is near 0. It rises
# with the number of candidates, and the shorter the list the more. With 30 candidates and a short list, choosing alone
# gives a good part of what the method itself is worth. (These six forms and seeds differ little. Where one candidate is
# better than the others by more than lists scatter, it wins nearly every time, and little is flattered.)
#
# Does an interval protect from this? The next cell plays a paper with little to report: *ours* is the best of 29
# networks on a list of 100 episodes, the *baseline* is the one that is left. Both come from the same drawer, in which
# networks differ a little.

# %%
generator, claims = np.random.default_rng(1), {"reported": [], "second list": []}
for _ in range(150):
    baseline, *others = generator.permutation(30)
    mixed = generator.permuted(members, axis=1)  # [classes, 25] episode numbers
    first, second = (mixed[:, k : k + 5].ravel() for k in (0, 5))
    best = max(others, key=lambda number: part(table_30[number], first).miou)
    for name, rows in (("reported", first), ("second list", second)):
        two = (part(table_30[number], rows) for number in (best, baseline))
        claims[name].append(paired_difference(*two, n_resamples=300))
better = {name: np.mean([end.low > 0 for _, end in found]) for name, found in claims.items()}
mean_claim = {name: 100 * np.mean([value for value, _ in found]) for name, found in claims.items()}
assert better["reported"] > 2 * better["second list"]
for name in claims:
    print(f"{name:11}: {mean_claim[name]:+.1f} points on average; {100 * better[name]:.0f} % of intervals above 0")

# %% [markdown]
# *What to see:* no. The paired interval knows nothing of the choice, and lies above 0 far more often than on episodes
# that had no part in it, where most of the gain is gone. In this project a checkpoint is chosen on *base* classes held
# out from training, or the last one is taken ![our choice](../figures/badges/ours.svg).

# %% [markdown]
# ### Exercise 7.4: how many candidates are too many? (predict, then run, easy, 5 minutes)
#
# Predict *by how many points* the reported score is too high for the best of 30 on a
# list of 20 episodes (one per class), and for the best of 2 on 240. Write both numbers down. Then call
# `choose_on_the_test(n_candidates, per_class).mean()` in the cell below.
#
# <details><summary>Hint 1</summary>
# Continue the picture: what do the lines do when a list becomes shorter by a factor of 2.5?
# </details>
#
# <details><summary>Hint 2</summary>
# The scatter of a list's score goes like one over the root of its number of episodes, and what is flattered goes with
# the scatter.
# </details>

# %%
# Room for exercise 7.4.

# %% [markdown]
# <details><summary>Answer</summary>
#
# `choose_on_the_test(30, 1).mean()` is about as much as the second prototype is worth: one episode per class and
# thirty tries are enough to invent a method. `choose_on_the_test(2, 12).mean()` is small, and not 0. The candidates are
# scored on the same episodes and share most of their luck; only what they do not share can be chosen.
# </details>

# %% [markdown]
# ## Recap
#
# - Name the metric; FB-IoU is kind to those who find nothing.
# - A score without an interval invites wrong conclusions; an interval that takes episodes as independent is too narrow
#   where they share images.
# - Compare two methods by the interval of their *paired* difference, over several training seeds.
# - Say over what you average, and what is drawn anew in an interval: episodes, seeds, folds.
# - Say what became of novel objects in training images, and never choose on the test: no interval repairs that.
# - Name the protocol, all that stands between an answer and its score: [lesson 13.4](13_pascal_and_coco.ipynb) counts
#   even perfect predictions, and not all protocols give them 1.
#
# **Further reading.** [Results](../docs/results.md), made by these rules; Efron and Tibshirani, *An introduction to the
# bootstrap*, 1993; Boudiaf et al., *Few-shot segmentation without meta-learning*, CVPR 2021 (RePRI).

# %%
assert gain_interval.low > 0.03 and false_alarms > 0.15 and mean_claim["reported"] > mean_claim["second list"] + 1
claim(
    f"On the drawn world DPNet is {percent(gain, gain_interval, signed=True)} points of mIoU ahead of support only: "
    f"{len(pairs)} paired trainings, 95 % interval over episodes and seeds. An interval over episodes alone, of "
    f"<i>one</i> training each, finds a difference between two seeds of the same network in "
    f"{100 * false_alarms:.0f} % of {len(same)} cases. The best of 29 networks on a list of 100 episodes is reported "
    f"{mean_claim['reported']:+.1f} points ahead of the one left over; on a second list it is "
    f"{mean_claim['second list']:+.1f}."
)

# %% [markdown]
# ## Five questions

# %%
from dpnet_lite.course.quiz import quiz

quiz("07")

# %% [markdown]
# Previous: [6 Training](06_training.ipynb). Next: [8 Inside the selection](08_inside_the_selection.ipynb)
