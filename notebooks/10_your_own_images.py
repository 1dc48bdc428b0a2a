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
# **What you will learn.** How to segment your own images with one mask, with several, and with several classes; how to
# save the masks; and how to lay out a folder to train on.
#
# **What you need.** [Start here](00_start_here.ipynb): support, query, shots, IoU. The notebook draws a few images of
# its own and saves them as files, so that it runs everywhere; put your own paths in their place.
#
# **Time.** About 20 minutes with the two exercises. The cells run in a few seconds.
#
# **What to expect.** The weights that come with the package know drawn shapes only. For photographs, train on a folder
# of them first (section 10.6). [Results](../docs/results.md) says what that gave, and how far it is from good.

# %%
# %matplotlib inline
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from PIL import Image

from dpnet_lite.checkpoints import shipped_head
from dpnet_lite.course.explorers.panels import show_image
from dpnet_lite.datasets.toy import ToyWorld, catalogue_names
from dpnet_lite.experiments.plots import ORANGE, overlay
from dpnet_lite.predictor import Predictor

# %% [markdown]
# ## 10.1 Some files to work with
#
# Six images of two classes that the network of fold 0 never saw. Of each class the first two come with a mask: an image
# of the same height and width, 0 on the background and one other value on the object. Any drawing program makes one.

# %%
holder = tempfile.TemporaryDirectory()  # deleted when the kernel ends; with your own images: Path("my_folder")
folder = Path(holder.name)
names = catalogue_names()
STAR, KITE = names.index("striped star"), names.index("checked kite")
world = ToyWorld(6, seed=11, targets=(STAR, KITE), others=range(len(names)))
truth = {}
for number in range(6):
    scene, target = world[number], (STAR, KITE)[number % 2]
    stem = f"{'star' if target == STAR else 'kite'}{number // 2 + 1}"
    truth[stem] = (scene.labels == target + 1).numpy()
    Image.fromarray(scene.image.permute(1, 2, 0).numpy()).resize((240, 240)).save(folder / f"{stem}.jpg", quality=95)
    if number < 4:
        mask = Image.fromarray(truth[stem].astype(np.uint8) * 255)
        mask.resize((240, 240), Image.Resampling.NEAREST).save(folder / f"{stem}.png")
print(*sorted(path.name for path in folder.iterdir()))

# %% [markdown]
# ## 10.2 One mask

# %%
predictor = Predictor.load(shipped_head(0))
predictor.set_support([folder / "star1.jpg"], [folder / "star1.png"])
result = predictor.predict(folder / "star3.jpg")
print(f"mask: {result.mask.shape}, {result.mask.dtype}, values {np.unique(result.mask)}; classes {result.class_names}")


def show_answer(stem: str, mask: np.ndarray, axes, title: str) -> None:
    """The image with a mask painted on it."""
    picture = np.array(Image.open(folder / f"{stem}.jpg"))
    show_image(axes, overlay(picture, mask, ORANGE), title)


figure, axes = plt.subplots(1, 3, figsize=(8, 2.8), layout="constrained")
support_mask = np.array(Image.open(folder / "star1.png")) > 0
show_image(axes[0], np.array(Image.open(folder / "star1.jpg")), "support", outline=support_mask)
show_image(axes[1], np.array(Image.open(folder / "star3.jpg")), "your image")
show_answer("star3", result.mask == 1, axes[2], "with one mask")
plt.show()

# %% [markdown]
# The mask has the image's own size, whatever it is. `result.probabilities` has one map per class, background first;
# they add up to 1 at every pixel. With `predict(image, trace=True)`, `result.traces` holds everything that lessons 2
# to 5 look at.

# %%
assert result.mask.shape == (240, 240)
assert np.allclose(result.probabilities.sum(axis=0), 1, atol=1e-5)

# %% [markdown]
# ## 10.3 Paint the mask here
#
# No mask yet? With a running kernel, paint it: hold the mouse button down (or use a finger) and draw over the object.
# `painter.mask` is what you painted, and goes into `set_support` as it is. Without a kernel the picture shows two
# strokes that the cell makes itself, right across the star; press *clear* to begin with your own.

# %%
from dpnet_lite.course.explorers.painter import MaskPainter

painter = MaskPainter(Image.open(folder / "star1.jpg"), radius=8)
painter.paint((155, 165), (157, 205))  # x and y in pixels
painter.paint((135, 185), (178, 185))
painter

# %% [markdown]
# When you have painted, run the next cell again. It compares the answer to your mask with the answer to the exact one.

# %%
whole = np.array(Image.fromarray(truth["star3"]).resize((240, 240), Image.Resampling.NEAREST))


def iou(a: np.ndarray, b: np.ndarray) -> float:
    return float((a & b).sum() / (a | b).sum())


figure, axes = plt.subplots(1, 4, figsize=(9, 2.7), layout="constrained")
for (name, mask), panels in zip(
    {"exact": support_mask, "painted": painter.mask}.items(), (axes[:2], axes[2:]), strict=True
):
    predictor.set_support([folder / "star1.jpg"], [mask])
    found = predictor.predict(folder / "star3.jpg").mask == 1
    show_answer("star1", mask, panels[0], f"{name} support mask")
    show_answer("star3", found, panels[1], f"answer: IoU {iou(found, whole):.2f}")
plt.show()
covered = (painter.mask & support_mask).sum() / support_mask.sum()
stray = (painter.mask & ~support_mask).sum() / painter.mask.sum()
print(f"the painted mask covers {100 * covered:.0f} % of the object; {100 * stray:.0f} % of it lie outside")

# %% [markdown]
# *What to see:* a prototype is a mean, so a rough mask can do, as long as it lies on the object. Try what happens when
# it does not: paint half of your mask beside the star.

# %% [markdown]
# ## 10.4 More masks, and several classes
#
# More support images are two longer lists. Several classes are two dictionaries from class name to such lists; the
# answer has 1 for the first class, 2 for the second, and 0 for the background. Support features are computed once and
# used for every image.

# %%
predictor.set_support(
    {
        "striped star": [folder / "star1.jpg", folder / "star2.jpg"],
        "checked kite": [folder / "kite1.jpg", folder / "kite2.jpg"],
    },
    {
        "striped star": [folder / "star1.png", folder / "star2.png"],
        "checked kite": [folder / "kite1.png", folder / "kite2.png"],
    },
)
answers = {stem: predictor.predict(folder / f"{stem}.jpg") for stem in ("star3", "kite3")}
figure, axes = plt.subplots(2, 3, figsize=(8, 5.4), layout="constrained")
for row, (stem, answer) in zip(axes, answers.items(), strict=True):
    show_image(row[0], np.array(Image.open(folder / f"{stem}.jpg")), "your image")
    for value, (name, panel) in enumerate(zip(answer.class_names, row[1:], strict=True), start=1):
        show_answer(
            stem, answer.mask == value, panel, f"{name}: {100 * (answer.mask == value).mean():.1f} % of the image"
        )
plt.show()

# %% [markdown]
# *What to see:* a row is an image, with what was found of each class. The classes compete: a pixel has one answer.
# Where an image shows nothing of a class, the best panel is an empty one; look whether it is. In the second image the
# network takes a *checked* star for a striped one, which is not there: where a class is absent, it may find its
# look-alike. The numbers below say how well it finds what is there.

# %%
for stem, name in (("star3", "striped star"), ("kite3", "checked kite")):
    whole = np.array(Image.fromarray(truth[stem]).resize((240, 240), Image.Resampling.NEAREST))
    print(f"{stem}: IoU of the {name} {iou(answers[stem].mask == 1 + (stem == 'kite3'), whole):.2f}")

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
again = np.array(Image.open(folder / "star3_mask.png"))
assert (again == answers["star3"].mask).all()
print(f"saved and read again: {[int(value) for value in np.unique(again)]}")

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
# ```
# my_photos/
#   images/STEM.jpg
#   masks/STEM.png     class numbers
#   classes.txt        one class name per line; no line for the background
# ```
#
# The next cell lays out such a folder from our six files and reads it as the training would. With photographs and more
# classes, the command is:
#
# ```
# python -m dpnet_lite train --data folder:my_photos --backbone vgg16 --out outputs/photos.safetensors
# ```
#
# It holds the classes of fold 0 back (every fourth line of `classes.txt`): these stay *novel*, and
# `python -m dpnet_lite evaluate` scores on them. `Predictor.load("outputs/photos.safetensors")` then takes the place of
# the weights that this lesson loaded.

# %%
from dpnet_lite.datasets.folder import FolderDataset

root = folder / "my_photos"
for part in ("images", "masks"):
    (root / part).mkdir(parents=True)
(root / "classes.txt").write_text("star\nkite\n")
for stem, mask in truth.items():
    Image.open(folder / f"{stem}.jpg").resize(mask.shape[::-1]).save(root / "images" / f"{stem}.jpg")
    number = 1 if stem.startswith("star") else 2
    Image.fromarray(np.where(mask, number, 0).astype(np.uint8)).save(root / "masks" / f"{stem}.png")

dataset = FolderDataset(root)
print(f"{len(dataset)} images, classes {dataset.class_names}")
for name, areas in zip(dataset.class_names, dataset.class_areas.T, strict=True):
    share = 100 * areas[areas > 0].mean()
    print(f"  {name}: in {int((areas > 0).sum())} images, covering {share:.0f} % of them on average")

# %% [markdown]
# ## Recap
#
# - `Predictor.load`, `set_support`, `predict`: paths, PIL images, arrays and tensors all do. A painted mask does, too.
# - Several shots are longer lists, several classes are dictionaries.
# - In a *support* mask everything above 0 is the object; in a *training* folder the value is the class, and 255 is
#   ignored.
#
# **Further reading.** [README](../README.md#your-own-images): the same from the command line.
#
# Previous: [9 Prototype correlations](09_prototype_correlations.ipynb). Next: [11 Ablations](11_ablations.ipynb)
