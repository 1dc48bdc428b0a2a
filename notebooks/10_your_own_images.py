# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 10. Your own images: from a few masks to many
#
# [Start here](00_start_here.ipynb) | [9 Prototype correlations](09_prototype_correlations.ipynb) |
# **10 Your own images** | [11 Ablations](11_ablations.ipynb)
#
# **What you will learn.** How to segment your own photographs without any training: with one mask, with several, with
# several classes, with a painted mask or a box; how to save the masks; and how to lay out a folder to train on.
#
# **What you need.** [Start here](00_start_here.ipynb): support, query, shots, IoU. The notebook takes a few photographs
# that come with the package, so that it runs everywhere; put your own paths in their place.
#
# **Time.** About 20 minutes with the two exercises. The cells run in less than a minute.
#
# **What to expect.** The head of `Predictor.load("photographs")` was trained on photographs of other classes than the
# objects below. One clear object is the easy case, two classes that look alike are a hard one; both are shown. Thin
# parts and small objects are hard as well ([lesson 2.5](02_support_prototype.ipynb) shows one).
# [Results](../docs/results.md) has the scores.

# %%
# %matplotlib inline
# %config InlineBackend.figure_formats = ["jpeg"]
import shutil
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from PIL import Image

from dpnet_lite.course.explorers.panels import show_image
from dpnet_lite.datasets import OBJECTS_CREDIT, OBJECTS_FOLDER
from dpnet_lite.experiments.plots import ORANGE, overlay
from dpnet_lite.predictor import Predictor

# %% [markdown]
# ## 10.1 Some files to work with
#
# Photographs of two sneakers. Of each the first three come with a mask: an image of the same height and width, 0 on the
# background and one other value on the object. Any drawing program makes one. The masks have a folder of their own, for
# the command line of 10.5 takes every image file of a folder.

# %%
holder = tempfile.TemporaryDirectory()  # deleted when the kernel ends; with your own images: Path("my_folder")
folder = Path(holder.name)
images, masks = folder / "images", folder / "masks"
images.mkdir()
masks.mkdir()
truth = {}
for name, subject in (("sneaker", "colorful_sneaker"), ("shiny", "shiny_sneaker")):
    for number, image in enumerate(sorted(OBJECTS_FOLDER.glob(f"images/{subject}_*.webp")), start=1):
        stem, mask = f"{name}{number}", Image.open(OBJECTS_FOLDER / "masks" / f"{image.stem}.png")
        shutil.copy(image, images / f"{stem}.webp")
        truth[stem] = np.array(mask) > 0
        if number <= 3:
            mask.save(masks / f"{stem}.png")
for part in (images, masks):
    print(f"{part.name}:", *sorted(path.stem for path in part.iterdir()))
print(OBJECTS_CREDIT)

# %% [markdown]
# ## 10.2 One mask

# %%
predictor = Predictor.load("photographs")
predictor.set_support([images / "sneaker1.webp"], [masks / "sneaker1.png"])
result = predictor.predict(images / "sneaker4.webp")
print(f"mask: {result.mask.shape}, {result.mask.dtype}, values {np.unique(result.mask)}; classes {result.class_names}")


def picture(stem: str) -> np.ndarray:
    """The photograph, uint8 [H, W, 3]."""
    return np.array(Image.open(images / f"{stem}.webp"))


def show_answer(stem: str, mask: np.ndarray, axes, title: str) -> None:
    """The image with a mask painted on it."""
    show_image(axes, overlay(picture(stem), mask, ORANGE), title)


def iou(a: np.ndarray, b: np.ndarray) -> float:
    return float((a & b).sum() / (a | b).sum())


figure, axes = plt.subplots(1, 3, figsize=(8, 2.8), layout="constrained")
show_image(axes[0], picture("sneaker1"), "support", outline=truth["sneaker1"])
show_image(axes[1], picture("sneaker4"), "your image")
show_answer("sneaker4", result.mask == 1, axes[2], f"IoU {iou(result.mask == 1, truth['sneaker4']):.2f}")
plt.show()
print(OBJECTS_CREDIT)

# %% [markdown]
# *What to see:* the whole shoe is found, and a rim of the bench with it. That rim is all that the IoU lacks.
#
# The mask has the image's own size, whatever it is. `result.probabilities` has one map per class, background first;
# they add up to 1 at every pixel. With `predict(image, trace=True)`, `result.traces` holds everything that lessons 2
# to 5 look at.

# %%
assert result.mask.shape == picture("sneaker4").shape[:2]
assert np.allclose(result.probabilities.sum(axis=0), 1, atol=1e-5)

# %% [markdown]
# ## 10.3 Paint the mask here, or give a box
#
# No mask yet? With a running kernel, paint it: hold the mouse button down (or use a finger) and draw over the object.
# `painter.mask` is what you painted, and goes into `set_support` as it is. Without a kernel the picture shows two
# strokes that the cell makes itself, across the shoe; press *clear* to begin with your own.

# %%
from dpnet_lite.course.explorers.painter import MaskPainter

painter = MaskPainter(Image.open(images / "sneaker2.webp"), radius=16)
painter.paint((130, 170), (190, 215))  # x and y in pixels
painter.paint((190, 225), (290, 260))
print(OBJECTS_CREDIT)
painter

# %% [markdown]
# A *box* is quicker still: a mask that is 1 in a rectangle. When you have painted, run the next cell again. It compares
# the answers to the exact mask, to yours, and to the box around the exact mask.


# %%
def box_around(mask: np.ndarray) -> np.ndarray:
    """True in the smallest rectangle that holds the mask, bool [H, W]."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    box = np.zeros_like(mask)
    box[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] = True
    return box


exact = truth["sneaker2"]
supports = {"exact mask": exact, "painted mask": painter.mask, "box": box_around(exact)}
figure, axes = plt.subplots(2, 3, figsize=(7.5, 5.2), layout="constrained")
for (name, mask), (above, below) in zip(supports.items(), axes.T, strict=True):
    predictor.set_support([images / "sneaker2.webp"], [mask])
    answer = predictor.predict(images / "sneaker4.webp").mask == 1
    show_answer("sneaker2", mask, above, f"support: {name}")
    show_answer("sneaker4", answer, below, f"answer: IoU {iou(answer, truth['sneaker4']):.2f}")
    covered, stray = (mask & exact).sum() / exact.sum(), (mask & ~exact).sum() / mask.sum()
    print(f"{name}: covers {covered:.0%} of the object; {stray:.0%} of it lies outside")
plt.show()
print(OBJECTS_CREDIT)

# %% [markdown]
# One example proves little. The next cell asks the same of all 13 objects that come with the package: the first
# photograph of each is the support, once with its mask and once with the box around it, the last one is segmented.

# %%
from dpnet_lite.datasets import objects

photographs = objects()
which = photographs.class_areas.argmax(axis=1)  # the object of each photograph
pairs = []
for first, last in ((np.flatnonzero(which == k)[0], np.flatnonzero(which == k)[-1]) for k in range(which.max() + 1)):
    support, query = photographs[int(first)], photographs[int(last)]
    pairs.append([])
    for mask in ((support.labels > 0).numpy(), box_around((support.labels > 0).numpy())):
        predictor.set_support([support.image], [mask])
        pairs[-1].append(iou(predictor.predict(query.image).mask == 1, (query.labels > 0).numpy()))
with_mask, with_box = np.array(pairs).T
print(f"mean IoU: with a mask {with_mask.mean():.2f}, with a box {with_box.mean():.2f}")
print(
    f"the mask is better for {(with_mask > with_box).sum()} of {len(pairs)} objects; lost by the box at worst: "
    f"{(with_mask - with_box).max():.2f} ({photographs.class_names[(with_mask - with_box).argmax()]})"
)

# %% [markdown]
# *What to see:* a prototype is a mean, so a rough mask can do, as long as it lies on the object. In the picture the
# painted strokes even do better than the exact mask, perhaps because they leave out the border, where a cell shows both
# shoe and ground. A box takes background along, the more the less the object fills it. Over the 13 objects it is worse
# for most, by little. So give a mask where you can, and a box where a rough answer will do. Try it: paint half of your
# mask beside the shoe.

# %% [markdown]
# ## 10.4 More masks, and several classes
#
# More support images are two longer lists. Support features are computed once and used for every image.

# %%
later = [stem for stem in truth if not (masks / f"{stem}.png").exists()]  # the photographs without a mask
for name in ("sneaker", "shiny"):
    for n_shot in (1, 3):
        stems = [f"{name}{number}" for number in range(1, n_shot + 1)]
        predictor.set_support([images / f"{s}.webp" for s in stems], [masks / f"{s}.png" for s in stems])
        found = {s: predictor.predict(images / f"{s}.webp").mask == 1 for s in later if s.startswith(name)}
        print(
            f"{name}, {n_shot} mask{'s' if n_shot > 1 else ' '}: IoU",
            *(f"{iou(m, truth[s]):.2f}" for s, m in found.items()),
        )

# %% [markdown]
# *What to see:* three masks are hardly better than one here, for the shiny shoe slightly worse. More views help where
# the first shows the object in an unusual way.
#
# Several classes are two dictionaries from class name to such lists; the answer has 1 for the first class, 2 for the
# second, and 0 for the background. Two sneakers are a hard case: each is the other's look-alike.

# %%
CLASSES = {"sneaker": ("sneaker1", "sneaker2", "sneaker3"), "shiny sneaker": ("shiny1", "shiny2", "shiny3")}
predictor.set_support(
    {name: [images / f"{stem}.webp" for stem in stems] for name, stems in CLASSES.items()},
    {name: [masks / f"{stem}.png" for stem in stems] for name, stems in CLASSES.items()},
)
answers = {stem: predictor.predict(images / f"{stem}.webp") for stem in ("sneaker4", "shiny4")}
figure, axes = plt.subplots(2, 3, figsize=(7.5, 5.2), layout="constrained")
for row, (stem, answer) in zip(axes, answers.items(), strict=True):
    show_image(row[0], picture(stem), "your image")
    for value, (name, panel) in enumerate(zip(answer.class_names, row[1:], strict=True), start=1):
        share = 100 * (answer.mask == value).mean()
        show_answer(stem, answer.mask == value, panel, f"{name}: {share:.1f} %")
plt.show()
print(OBJECTS_CREDIT)
for stem in later:
    mask, right = predictor.predict(images / f"{stem}.webp").mask, 1 if stem.startswith("sneaker") else 2
    print(
        f"{stem}: IoU {iou(mask == right, truth[stem]):.2f}; of the shoe's pixels "
        f"{(mask[truth[stem]] == 3 - right).mean():.0%} are called the other shoe"
    )

# %% [markdown]
# *What to see:* a row is an image, with what was found of each class, in % of the image. The classes compete: a pixel
# has one answer. Each image shows one shoe, so one of its two panels should be empty; neither is. In the upper row the
# network fails: it calls most of the shoe by the other's name. The list says for all photographs without a mask how
# much of the shoe goes to its look-alike. Compare its IoUs with those of the first list of 10.4, where each shoe was
# asked for alone and could lose nothing to the other.

# %% [markdown]
# ## 10.5 Save the masks
#
# A PNG with class numbers keeps everything. It looks black in most viewers, because 1 and 2 are nearly black; a palette
# changes the colours, not the numbers.

# %%
for stem, answer in answers.items():
    image = Image.fromarray(answer.mask)
    image.putpalette([0, 0, 0, 230, 159, 0, 0, 114, 178])  # background, first class, second class: red, green, blue
    image.save(folder / f"{stem}_mask.png")
again = np.array(Image.open(folder / "sneaker4_mask.png"))
assert (again == answers["sneaker4"].mask).all()
print(f"saved and read again: {[int(value) for value in np.unique(again)]}")

# %% [markdown]
# The same from the command line, for one image or a whole folder; `--overlay` also paints the masks on the images, and
# `--support-box X0 Y0 X1 Y1` takes the place of a mask:
#
# ```
# python -m dpnet_lite predict my_folder/images --overlay --out outputs/masks \
#     --support my_folder/images/sneaker1.webp my_folder/masks/sneaker1.png
# ```

# %% [markdown]
# ### Exercise 10.1: class numbers from 0 and 255 (easy, 5 minutes)
#
# To *train* on a folder, masks hold class numbers: 0 background, k = line k of `classes.txt`, and 255 means *ignored*.
# Drawing programs often give 0 and 255 instead. Write `my_class_mask(drawn, number)`: from a uint8 array with 0 and
# larger values make a uint8 array with 0 and `number`.


# %% jupyter={"source_hidden": true}
def my_class_mask(drawn: np.ndarray, number: int) -> np.ndarray:
    """0 stays 0, everything else becomes the class's number."""
    # BEGIN SOLUTION
    return np.where(drawn > 0, number, 0).astype(np.uint8)
    # END SOLUTION


# %% tags=["check"]
from dpnet_lite.course.exercises.lesson_10 import check_class_mask

check_class_mask(my_class_mask)

# %% [markdown]
# ### Exercise 10.2: one mask from several (medium, 10 minutes)
#
# You have one mask per class, bool [H, W], in a list, and want one array for the folder: 0 background, k where mask k
# (counted from 1) is True. Where two masks overlap, nobody knows: set 255, which is ignored in training and in scoring.
# Write `my_merged(masks)`.


# %% jupyter={"source_hidden": true}
def my_merged(masks: list[np.ndarray]) -> np.ndarray:
    """Class numbers, 255 where masks overlap."""
    # BEGIN SOLUTION
    stack = np.stack(masks)  # [n, H, W]
    numbers = np.arange(1, len(masks) + 1)[:, None, None]
    merged = (stack * numbers).sum(axis=0)
    merged[stack.sum(axis=0) > 1] = 255
    return merged.astype(np.uint8)
    # END SOLUTION


# %% tags=["check"]
from dpnet_lite.course.exercises.lesson_10 import check_merged

check_merged(my_merged)

# %% [markdown]
# ## 10.6 Train on your own folder
#
# Where the shipped weights do not do for your kind of images, train on a folder of them, with more classes than these:
#
# ```
# my_photos/
#   images/STEM.webp   any size; also jpg, png, bmp, tif
#   masks/STEM.png     class numbers
#   classes.txt        one class name per line; no line for the background
# ```
#
# The next cell lays out such a folder from our files and reads it as the training would. The command is
#
# ```
# python -m dpnet_lite train --data folder:my_photos --out outputs/photos.safetensors
# ```
#
# The frozen backbone is MobileNetV2, whose weights come with the package. With `--from photographs` the training goes
# on from the shipped head. It holds the classes of fold 0 back (every fourth line of `classes.txt`): these stay
# *novel*, and `python -m dpnet_lite evaluate` scores on them. `Predictor.load("outputs/photos.safetensors")` then takes
# the place of the weights that this lesson loaded.

# %%
from dpnet_lite.datasets.folder import FolderDataset

root = folder / "my_photos"
for part in ("images", "masks"):
    (root / part).mkdir(parents=True)
(root / "classes.txt").write_text("sneaker\nshiny sneaker\n")
for stem, mask in truth.items():
    shutil.copy(images / f"{stem}.webp", root / "images")
    number = 1 if stem.startswith("sneaker") else 2
    Image.fromarray(np.where(mask, number, 0).astype(np.uint8)).save(root / "masks" / f"{stem}.png")

dataset = FolderDataset(root)
print(f"{len(dataset)} images, classes {dataset.class_names}")
for name, areas in zip(dataset.class_names, dataset.class_areas.T, strict=True):
    share = 100 * areas[areas > 0].mean()
    print(f"  {name}: in {int((areas > 0).sum())} images, covering {share:.0f} % of them on average")

# %% [markdown]
# ## Recap
#
# - `Predictor.load("photographs")`, `set_support`, `predict`: paths, PIL images, arrays and tensors all do, without
#   training. A painted mask or a box goes in the same way; 10.3 shows what that changes.
# - Several shots are longer lists, several classes are dictionaries.
# - In a *support* mask everything above 0 is the object; in a *training* folder the value is the class, and 255 is
#   ignored.
#
# **Further reading.** [README](../README.md#your-own-images): the same from the command line.
#
# Previous: [9 Prototype correlations](09_prototype_correlations.ipynb). Next: [11 Ablations](11_ablations.ipynb)
