"""Masks for one's own images from the command line: photographs without a checkpoint, several classes, outlines."""

from __future__ import annotations

import argparse
import errno
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
from PIL import Image
from small_runs import run

from dpnet_lite.cli.predict import _support
from dpnet_lite.datasets import OBJECTS_FOLDER
from dpnet_lite.predictor import Predictor

DOG, DUCK = [OBJECTS_FOLDER / "images" / f"{stem}.webp" for stem in ("dog3_00", "duck_toy_01")]
DOG_MASK, DUCK_MASK = [OBJECTS_FOLDER / "masks" / f"{path.stem}.png" for path in (DOG, DUCK)]
OTHER_DOG = OBJECTS_FOLDER / "images" / "dog3_02.webp"


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.array(image)


def test_without_a_checkpoint_the_weights_for_photographs_segment(tmp_path: Path, capsys) -> None:
    options = ["--support", DOG, DOG_MASK, "--overlay", "--out", tmp_path]
    assert run("predict", OTHER_DOG, *options) == 0, capsys.readouterr().err
    mask, painted = pixels(tmp_path / "dog3_02.png") > 0, pixels(tmp_path / "dog3_02_overlay.png")
    truth = pixels(OBJECTS_FOLDER / "masks" / "dog3_02.png") > 0
    assert (mask & truth).sum() / (mask | truth).sum() > 0.5
    expected = Predictor.load("photographs").set_support([DOG], [DOG_MASK]).predict(OTHER_DOG).mask
    np.testing.assert_array_equal(mask, expected == 1)
    original = pixels(OTHER_DOG)
    np.testing.assert_array_equal(painted[~mask], original[~mask])
    inner = np.lib.stride_tricks.sliding_window_view(np.pad(mask, 4), (9, 9)).all(axis=(2, 3))  # all within 4 pixels
    np.testing.assert_allclose(painted[inner], 0.65 * original[inner] + 0.35 * np.array([230, 159, 0]), atol=1)
    outline = mask & ~(np.roll(mask, 1, 0) & np.roll(mask, -1, 0) & np.roll(mask, 1, 1) & np.roll(mask, -1, 1))
    outline[[0, -1]] = outline[:, [0, -1]] = False  # a mask that leaves the picture has no outline there
    assert outline.any() and (painted[outline] == [230, 159, 0]).all()


def test_a_folder_and_several_classes_give_numbers_and_a_palette(tmp_path: Path, capsys) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    for path in (OTHER_DOG, DUCK):
        (folder / path.name).write_bytes(path.read_bytes())
    for name in ("notes.txt", "a.gif", "B.GIF", ".hidden"):
        (folder / name).write_text("no image")
    (folder / "a_support.png").write_bytes(DOG_MASK.read_bytes())  # not an image to segment: it is the support's
    classes = ["--support", DOG, folder / "a_support.png", "--support", DUCK, DUCK_MASK, "--names", "dog", "duck"]
    assert run("predict", folder, *classes, "--out", tmp_path / "out") == 0, capsys.readouterr().err
    both = {"dog": [DOG], "duck": [DUCK]}, {"dog": [DOG_MASK], "duck": [DUCK_MASK]}
    predictor = Predictor.load("photographs").set_support(*both)
    left_out, *lines = capsys.readouterr().out.splitlines()
    assert left_out == f"{folder}: left out: 2 .gif, 1 .txt, 1 of --support"
    for path, line in zip((OTHER_DOG, DUCK), lines, strict=True):
        mask = pixels(tmp_path / "out" / f"{path.stem}.png")
        np.testing.assert_array_equal(mask, predictor.predict(path).mask)
        shares = [100 * (mask == value).mean() for value in (1, 2)]
        assert line.endswith(f"{path.stem}.png: {shares[0]:.1f} % dog, {shares[1]:.1f} % duck")
        assert max(shares) > 5
        with Image.open(tmp_path / "out" / f"{path.stem}.png") as image:
            colours = image.convert("RGB").getcolors()
        assert {colour for _, colour in colours} <= {(0, 0, 0), (230, 159, 0), (0, 114, 178)}


def test_classes_without_names_are_numbered() -> None:
    given = argparse.Namespace(names=None, support=[[DOG, DOG_MASK], [DUCK, DUCK_MASK]])
    assert list(_support(given)[0]) == ["class 1", "class 2"]


@pytest.mark.parametrize(
    ("outline", "inside"),
    [
        (["--support-box", 10, 20, 30, 50], lambda x, y: (x >= 10) & (x <= 30) & (y >= 20) & (y <= 50)),
        (["--support-polygon", 0, 0, 100, 0, 0, 100], lambda x, y: x + y <= 100),
        (["--support-box", 0, 0, 40, 40], lambda x, y: (x <= 40) & (y <= 40)),
    ],
)
def test_an_outline_stands_in_for_a_mask(outline, inside, tmp_path: Path, capsys) -> None:
    y, x = np.mgrid[:384, :384]
    Image.fromarray(np.uint8(255) * inside(x, y).astype(np.uint8)).save(tmp_path / "drawn.png")
    assert run("predict", OTHER_DOG, "--support", DOG, *outline, "--out", tmp_path / "a") == 0
    assert f"{DOG}: an outline takes in what lies beside the object too; a mask is better" in capsys.readouterr().out
    assert run("predict", OTHER_DOG, "--support", DOG, tmp_path / "drawn.png", "--out", tmp_path / "b") == 0
    np.testing.assert_array_equal(pixels(tmp_path / "a" / "dog3_02.png"), pixels(tmp_path / "b" / "dog3_02.png"))


def test_a_folder_of_training_data_names_its_images(tmp_path: Path, capsys) -> None:
    (tmp_path / "images").mkdir()
    assert run("predict", tmp_path, "--support", DOG, DOG_MASK, "--out", tmp_path / "out") == 2
    assert f"{tmp_path} holds no image to segment; give {tmp_path / 'images'}; what is read" in capsys.readouterr().err


def test_two_objects_of_one_photograph_are_two_classes(tmp_path: Path) -> None:
    boxes = [(50, 50, 150, 150), (200, 200, 300, 300)]
    support = [word for box in boxes for word in ("--support", DOG, "--support-box", *box)]
    assert run("predict", OTHER_DOG, *support, "--names", "left", "right", "--out", tmp_path) == 0


@pytest.mark.filterwarnings("ignore:support mask 1")
def test_an_outline_of_all_is_taken_and_a_mask_of_another_process_is_told(tmp_path: Path, capsys, monkeypatch) -> None:
    whole = ["--support", DOG, "--support-box", 0, 0, 384, 384, "--out", tmp_path]

    def other(*_) -> None:
        (tmp_path / "dog3_02.png").write_bytes(b"theirs")

    monkeypatch.setattr(Predictor, "predict", lambda *_: other() or Mock())
    assert run("predict", OTHER_DOG, *whole) == 2
    told = capsys.readouterr()
    assert "dog3_02.png is there already; give another place with --out" in told.err
    assert (tmp_path / "dog3_02.png").read_bytes() == b"theirs"


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--support", DOG], ", no pairs; give pairs of image and mask"),
        (["--support", DOG, DOG_MASK, "--support-box", 1, 1, 9, 9], "has no --support with a single image"),
        (["--support", DOG, "--support-box", 1, 1, 500, 9], f"1 1 500 9 leaves {DOG}, which is 384 x 384 pixels; keep"),
        (
            ["--support", DOG, DOG_MASK, "--support", DOG, DOG_MASK],
            f"has {DOG} with {DOG_MASK} twice; give each pair on",
        ),
        (["--support", DOG, DOG_MASK, "--names", " "], "give each class a name of its own"),
        (["--support", DOG, DOG_MASK, "--names", "dog", "duck"], "--support is given 1 times; give each class a name"),
        (["--support", DOG, DOG_MASK, "--support", DUCK, DUCK_MASK, "--names", "a", "a", "b"], "a name of its own"),
        (
            ["--support", DOG, DOG_MASK, "--checkpoint", "photograph"],
            "photograph is no file and no name of shipped weights; these are photographs, toy",
        ),
    ],
)
def test_what_does_not_fit_together_is_told_in_one_line(options, complaint, tmp_path: Path, capsys) -> None:
    assert run("predict", OTHER_DOG, *options, "--out", tmp_path / "out") == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1 and complaint in lines[0]
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("outline", "complaint"),
    [
        (["polygon", 1, 2, 3, 4], "has 4 numbers; give x and y of three or more"),
        (
            ["polygon", 0, 0, 9, 0, 0, "nan"],
            "argument --support-polygon: 'nan' is no number; give one such as 3 or 0.5",
        ),
        (["box", "5_0", 0, 10, 10], "argument --support-box: '5_0' is no number; give one such as 3 or 0.5"),
        (["box", "1e400", 0, 10, 10], "has inf 0 10 10; give pixels of the image"),
        (["polygon", 0, 0, 9, 0, 0, "1e7"], "has 0 0 9 0 0 1e+07; give pixels of the image"),
        (["box", 0, 0, 0, 0], "has 0 0 0 0; give X0 Y0 X1 Y1, the upper left corner first, no width and height"),
        (["box", 300, 300, 100, 50], "has 300 300 100 50; give X0 Y0 X1 Y1, the upper left corner first, no width"),
        (["box", 0.2, 0.2, 0.8, 0.8], "has 0.2 0.2 0.8 0.8, less than a pixel; give pixels of the image, not shares"),
        (["polygon", 5, 5, 5, 5, 5, 5], "encloses nothing"),
        (["polygon", 0, 0, 100, 100, 200, 200], "encloses nothing"),
    ],
)
def test_an_outline_encloses_something(outline, complaint, capsys) -> None:
    with pytest.raises(SystemExit) as stop:
        run("predict", OTHER_DOG, "--support", DOG, f"--support-{outline[0]}", *outline[1:])
    assert stop.value.code == 2 and complaint in capsys.readouterr().err


def test_a_full_disk_leaves_no_half_picture(tmp_path: Path, capsys, monkeypatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    assert run("predict", OTHER_DOG, "--support", DOG, DOG_MASK, "--out", tmp_path) == 2
    assert "No space left" in capsys.readouterr().err and not list(tmp_path.iterdir())


def test_nothing_is_overwritten_by_an_overlay(tmp_path: Path, capsys) -> None:
    (tmp_path / "dog3_02_overlay.png").write_bytes(b"mine")
    options = ["--support", DOG, DOG_MASK, "--overlay", "--out", tmp_path]
    assert run("predict", OTHER_DOG, *options) == 2
    assert "dog3_02_overlay.png is there already" in capsys.readouterr().err
    assert (tmp_path / "dog3_02_overlay.png").read_bytes() == b"mine"
    (tmp_path / "duck_toy_01.png").symlink_to("nowhere")
    assert run("predict", DUCK, "--support", DOG, DOG_MASK, "--out", tmp_path) == 2
    assert "duck_toy_01.png is there already; give another place" in capsys.readouterr().err
    two = [tmp_path / "a.webp", tmp_path / "a_overlay.webp"]  # the overlay of one is the mask of the other
    for path in two:
        path.write_bytes(OTHER_DOG.read_bytes())
    assert run("predict", *two, "--support", DOG, DOG_MASK, "--overlay", "--out", tmp_path / "out") == 2
    assert "a_overlay.png would be written for two images; rename one, or leave one out" in capsys.readouterr().err
    (tmp_path / "empty").mkdir()
    assert run("predict", tmp_path / "empty", *options) == 2
    assert "empty holds no image to segment; what is read ends in" in capsys.readouterr().err
    (tmp_path / "empty/dog.jpg").write_bytes(DOG.read_bytes())
    assert run("predict", tmp_path / "empty", "--support", tmp_path / "empty/dog.jpg", DOG_MASK) == 2
    assert "empty holds no image to segment" in capsys.readouterr().err
