"""Folder data: every image mode, index masks, areas, unions, the fixed square, errors naming the culprit."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import struct
import unicodedata
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from places import SHARED

from dpnet_lite.backbones.backbone import build_backbone
from dpnet_lite.datasets.base import Sample
from dpnet_lite.datasets.folder import FolderDataset, read_class_names
from dpnet_lite.datasets.images import (
    image_extensions,
    image_size,
    image_tensor,
    read_image,
    read_mask,
    to_image,
    to_mask,
)
from dpnet_lite.datasets.novel import TrainingView
from dpnet_lite.datasets.transforms import normalise, resize_image, resize_labels, resize_sample
from dpnet_lite.datasets.union import UnionDataset
from dpnet_lite.experiments import experiment
from dpnet_lite.storage import digests

PHOTOS = SHARED / "photos"
HEIGHT, WIDTH = 6, 8


def write_png(path: Path, width: int, height: int, depth: int, colour: int, packed_rows: list[bytes]) -> None:
    """Write a PNG by hand, for the bit depths that Pillow reads but does not write."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    rows = zlib.compress(b"".join(b"\0" + row for row in packed_rows))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b""))


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Three images of 6 x 8 with classes cat and dog; image b has no dog, image c ignores its last row."""
    root = tmp_path / "pets"
    for folder in ("images", "masks"):
        (root / folder).mkdir(parents=True)
    (root / "classes.txt").write_text("cat\ndog\n", encoding="utf-8")
    rng = np.random.default_rng(0)
    for stem in "abc":
        labels = np.zeros((HEIGHT, WIDTH), dtype=np.uint8)
        labels[0, :6] = 1
        labels[1:4, 0] = 0 if stem == "b" else 2
        labels[5] = 255 if stem == "c" else 0
        Image.fromarray(rng.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)).save(root / f"images/{stem}.png")
        Image.fromarray(labels).save(root / f"masks/{stem}.png")
    return root


RGB = np.random.default_rng(1).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
GREY = RGB[..., 0]
ALPHA = np.where(np.arange(WIDTH) < 3, 0, 255).astype(np.uint8) * np.ones((HEIGHT, 1), dtype=np.uint8)
ON_WHITE = np.where(ALPHA[..., None] == 0, 255, RGB).astype(np.uint8)
GREY_ON_WHITE = np.where(ALPHA == 0, 255, GREY)[..., None].repeat(3, axis=2).astype(np.uint8)


def palette_image(transparency: int | None = None) -> Image.Image:
    image = Image.fromarray((np.arange(HEIGHT * WIDTH).reshape(HEIGHT, WIDTH) % 4).astype(np.uint8))
    image.putpalette([10, 20, 30, 200, 0, 0, 0, 150, 0, 1, 2, 3])
    if transparency is not None:
        image.info["transparency"] = transparency
    return image


PALETTE_RGB = np.array([[10, 20, 30], [200, 0, 0], [0, 150, 0], [1, 2, 3]], dtype=np.uint8)[
    np.arange(HEIGHT * WIDTH).reshape(HEIGHT, WIDTH) % 4
]
PALETTE_ON_WHITE = np.where((PALETTE_RGB == [200, 0, 0]).all(-1, keepdims=True), 255, PALETTE_RGB).astype(np.uint8)

MODES: dict[str, tuple[Callable[[], Image.Image], np.ndarray]] = {
    "rgb": (lambda: Image.fromarray(RGB), RGB),
    "grey": (lambda: Image.fromarray(GREY), GREY[..., None].repeat(3, axis=2)),
    "bilevel": (lambda: Image.fromarray(GREY > 99), ((GREY > 99)[..., None] * np.uint8([255, 255, 255]))),
    "grey+alpha": (lambda: Image.fromarray(np.dstack([GREY, ALPHA])), GREY_ON_WHITE),
    "rgba": (lambda: Image.fromarray(np.dstack([RGB, ALPHA])), ON_WHITE),
    "palette": (palette_image, PALETTE_RGB),
    "palette+transparency": (lambda: palette_image(1), PALETTE_ON_WHITE),
    "16 bit": (lambda: Image.fromarray(GREY.astype(np.uint16) * 257), GREY[..., None].repeat(3, axis=2)),
}


@pytest.mark.parametrize("mode", MODES)
def test_png_of_every_mode_reads_as_rgb(mode: str, tmp_path: Path) -> None:
    make, expected = MODES[mode]
    make().save(tmp_path / "image.png")
    tensor = read_image(tmp_path / "image.png")
    assert tensor.dtype == torch.uint8 and tensor.is_contiguous()
    np.testing.assert_array_equal(tensor.permute(1, 2, 0).numpy(), expected)


def test_half_transparent_pixels_mix_with_white(tmp_path: Path) -> None:
    Image.new("RGBA", (1, 1), (100, 0, 200, 51)).save(tmp_path / "image.png")  # 51 / 255 = 0.2
    assert read_image(tmp_path / "image.png").flatten().tolist() == [224, 204, 244]


def test_16_bit_grey_is_scaled_and_rounded_not_clipped() -> None:
    levels = np.array([[0, 128, 129, 300, 32768, 65535]], dtype=np.uint16)
    expected = [int(level / 257 + 0.5) for level in levels[0].tolist()]
    assert image_tensor(Image.fromarray(levels))[0, 0].tolist() == expected == [0, 0, 1, 1, 128, 255]
    wide = image_tensor(Image.fromarray(levels.astype(np.int32)))  # mode I, as older Pillows read 16-bit PNG
    assert wide[0, 0].tolist() == expected


def test_16_bit_colour_is_scaled(tmp_path: Path) -> None:
    write_png(tmp_path / "image.png", 1, 1, 16, 2, [struct.pack(">HHH", 65535, 25700, 0)])
    assert read_image(tmp_path / "image.png").flatten().tolist() == [255, 100, 0]


@pytest.mark.parametrize("suffix", image_extensions())
def test_every_extension_is_found_and_read(suffix: str, tree: Path) -> None:
    (tree / "images/a.png").unlink()
    colour = Image.new("RGB", (WIDTH, HEIGHT), (200, 100, 50))
    colour.save(tree / f"images/a{suffix.upper()}", **({"lossless": True} if suffix == ".webp" else {}))
    image = FolderDataset(tree)[0].image.float()
    assert image.shape == (3, HEIGHT, WIDTH)
    assert (image - torch.tensor([200.0, 100.0, 50.0]).reshape(3, 1, 1)).abs().max() <= 2  # [3] -> [3, 1, 1]


def test_cmyk_jpeg_reads_as_rgb(tmp_path: Path) -> None:
    Image.new("RGB", (16, 16), (250, 60, 20)).convert("CMYK").save(tmp_path / "image.jpg", quality=98)
    with Image.open(tmp_path / "image.jpg") as image:
        assert image.mode == "CMYK"
    mean = read_image(tmp_path / "image.jpg").float().mean(dim=(1, 2))
    assert torch.allclose(mean, torch.tensor([250.0, 60.0, 20.0]), atol=4)


UPRIGHT = {  # EXIF orientation -> how NumPy makes the stored pixels upright
    1: lambda stored: stored,
    2: lambda stored: stored[:, ::-1],
    3: lambda stored: stored[::-1, ::-1],
    4: lambda stored: stored[::-1],
    5: lambda stored: stored.transpose(1, 0, 2),
    6: lambda stored: np.rot90(stored, -1),
    7: lambda stored: stored[::-1, ::-1].transpose(1, 0, 2),
    8: lambda stored: np.rot90(stored),
}


@pytest.mark.parametrize("orientation", UPRIGHT)
def test_exif_orientation_turns_the_image_but_not_the_mask(orientation: int, tree: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(RGB).save(tree / "images/a.png", exif=exif)
    upright = UPRIGHT[orientation](RGB)
    labels = (np.arange(upright[..., 0].size).reshape(upright.shape[:2]) % 3).astype(np.uint8)
    Image.fromarray(labels).save(tree / "masks/a.png", exif=exif)
    sample = FolderDataset(tree)[0]
    np.testing.assert_array_equal(sample.image.permute(1, 2, 0).numpy(), upright)
    np.testing.assert_array_equal(sample.labels.numpy(), labels)


@pytest.mark.parametrize(("tag", "kind", "value"), [(0x11B, 10, struct.pack("<ii", -1, 0)), (0x103, 8, b"\xfb\xff")])
def test_case_05_a_broken_side_tag_leaves_the_orientation(tag: int, kind: int, value: bytes, tmp_path: Path) -> None:
    entries, extra = b"", value if len(value) > 4 else b""
    for number, form, data in sorted([(0x112, 3, struct.pack("<H", 6)), (tag, kind, value)]):
        entries += struct.pack("<HHI", number, form, 1) + (
            struct.pack("<I", 38) if data == extra else data.ljust(4, b"\0")
        )
    exif = b"Exif\0\0II*\0" + struct.pack("<IH", 8, 2) + entries + bytes(4) + extra
    stored = np.zeros((8, 16, 3), dtype=np.uint8)
    stored[:, 8:] = 255
    Image.fromarray(stored).save(tmp_path / "a.jpg", exif=exif)
    with Image.open(tmp_path / "a.jpg") as opened:
        for image in (read_image(tmp_path / "a.jpg"), to_image(opened)):
            np.testing.assert_array_equal(image.permute(1, 2, 0).numpy(), np.rot90(stored, -1))
    assert image_size(tmp_path / "a.jpg") == (16, 8)


def test_one_limit_of_pixels_that_can_be_raised_and_named_formats(tmp_path: Path, monkeypatch) -> None:
    Image.new("1", (14_000, 13_000)).save(tmp_path / "large.png")  # beyond Pillow's own limit, too
    told = r": 14000 x 13000 is more than 150,000,000 pixels: scale it down, or set .* DPNET_LITE_MAX_PIXELS higher$"
    for call in (read_image, read_mask, image_size):
        with pytest.raises(ValueError, match=rf"large\.png{told}"):
            call(tmp_path / "large.png")
    for large in (Image.new("1", (14_000, 13_000)), np.broadcast_to(np.uint8(0), (13_000, 14_000))):
        with pytest.raises(ValueError, match=f"^image{told}"):
            to_image(large)
    monkeypatch.setenv("DPNET_LITE_MAX_PIXELS", "300M")
    with pytest.raises(ValueError, match="variable DPNET_LITE_MAX_PIXELS is '300M'; give a whole number of pixels"):
        image_size(tmp_path / "large.png")
    monkeypatch.setenv("DPNET_LITE_MAX_PIXELS", "182000000")
    assert image_size(tmp_path / "large.png") == (13_000, 14_000)
    assert Image.MAX_IMAGE_PIXELS == 89_478_485  # other programs' limit is as it was
    (tmp_path / "eps.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n")
    with pytest.raises(
        ValueError, match=r"cannot identify image file .*\); replace or remove"
    ):  # or Ghostscript starts
        read_image(tmp_path / "eps.png")
    (tmp_path / "phone.xyz").write_bytes(b"a format that Pillow does not know, as HEIC without pillow-heif")
    with pytest.raises(ValueError, match=r"phone\.xyz cannot be read .*\); convert it to PNG, replace or remove it$"):
        read_image(tmp_path / "phone.xyz")
    monkeypatch.setattr(Image, "open", Mock(side_effect=PermissionError(13, "Permission denied")))
    with pytest.raises(ValueError, match=r"eps\.png cannot .*; change its owner or its permissions, replace or remove"):
        read_image(tmp_path / "eps.png")


def test_masks_in_vocs_colours_are_read_as_their_numbers(tmp_path: Path) -> None:
    numbers = np.uint8([[0, 1, 2, 15, 20, 255]])
    known = [[0, 0, 0], [128, 0, 0], [0, 128, 0], [192, 128, 128], [0, 64, 128], [224, 224, 192]]  # from VOC's devkit
    Image.fromarray(np.uint8([known])).save(tmp_path / "mask.png")
    with pytest.warns(UserWarning, match="VOC's palette"):
        np.testing.assert_array_equal(read_mask(tmp_path / "mask.png").numpy(), numbers)


VOC = [[0, 0, 0], [128, 0, 0], [0, 128, 0], [128, 128, 0], [0, 0, 128]]  # from VOC's devkit, in its order


@pytest.mark.parametrize(
    ("palette", "stored", "expected"),
    [
        (VOC, [0, 1, 7, 255], [0, 1, 7, 255]),  # palettes are filled up with black
        ([VOC[k] for k in (0, 2, 1, 4, 3)], [0, 2, 1, 4], [0, 1, 2, 3]),
        ([VOC[0], VOC[4]], [0, 1, 1, 255], [0, 4, 4, 255]),  # an optimiser keeps what is used
        ([*VOC, [224, 224, 192]], [0, 4, 5, 5], [0, 4, 255, 255]),
        ([VOC[0], VOC[2], [9, 9, 9]], [0, 1, 2, 2], [0, 1, 2, 2]),  # not all are VOC's
        ([VOC[0], [128] * 3, [64] * 3], [0, 1, 2, 2], [0, 1, 2, 2]),  # grey, and VOC's 7 and 56
    ],
)
def test_palettes_of_vocs_colours_in_another_order_go_by_the_colour(palette, stored, expected, tmp_path: Path) -> None:
    mask = Image.fromarray(np.uint8([stored]))
    mask.putpalette(np.ravel(palette + [[0] * 3] * (max(stored) + 1 - len(palette))).tolist())
    mask.save(tmp_path / "mask.png")
    with warnings.catch_warnings(record=True, action="always") as caught:
        assert read_mask(tmp_path / "mask.png").tolist() == [expected]
    assert [str(warning.message)[:22] for warning in caught] == ["masks in VOC's colours"] * (expected != stored)


@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_truncated_and_foreign_files_give_one_line(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"image.{suffix}"
    Image.fromarray(np.tile(RGB, (20, 20, 1))).save(path)
    whole = path.read_bytes()
    for content in (whole[: len(whole) // 2], b"not an image", b""):
        path.write_bytes(content)
        for read in (read_image, read_mask):
            with pytest.raises(ValueError, match="cannot be read as an image") as caught:
                read(path)
            assert str(path) in str(caught.value) and "\n" not in str(caught.value)
    with pytest.raises(FileNotFoundError, match=r"absent\.png is not a file"):
        read_image(tmp_path / "absent.png")


def test_numbers_without_a_known_range_are_refused(tmp_path: Path) -> None:
    Image.fromarray(np.float32([[0.5]])).save(tmp_path / "float.tif")
    Image.fromarray(np.int32([[70000]])).save(tmp_path / "wide.tif")
    for name in ("float.tif", "wide.tif"):
        with pytest.raises(ValueError, match=f"{name}: .* 8 or 16 bits"):
            read_image(tmp_path / name)


def test_masks_keep_their_numbers_whatever_the_palette_or_depth(tmp_path: Path) -> None:
    numbers = np.arange(256, dtype=np.uint8).reshape(16, 16)
    for mode in ("L", "P"):
        mask = Image.fromarray(numbers)
        if mode == "P":
            mask.putpalette(np.random.default_rng(2).integers(0, 256, 768).tolist())
        mask.save(tmp_path / f"{mode}.png", **({"transparency": 0} if mode == "P" else {}))
        np.testing.assert_array_equal(read_mask(tmp_path / f"{mode}.png").numpy(), numbers)
    Image.fromarray(numbers.astype(np.uint16)).save(tmp_path / "16.png")
    np.testing.assert_array_equal(read_mask(tmp_path / "16.png").numpy(), numbers)
    few = palette_image()  # four colours: Pillow writes 2 bits a pixel
    few.save(tmp_path / "few.png")
    np.testing.assert_array_equal(read_mask(tmp_path / "few.png").numpy(), np.array(few))


@pytest.mark.parametrize(
    ("depth", "row", "expected"), [(1, b"\x60", [0, 1, 1]), (2, b"\x1b", [0, 1, 2, 3]), (4, b"\x01\x7f", [0, 1, 7, 15])]
)
def test_grey_masks_packed_by_an_optimiser_keep_their_numbers(
    depth: int, row: bytes, expected: list[int], tmp_path: Path
) -> None:
    write_png(tmp_path / "mask.png", len(expected), 1, depth, 0, [row])
    assert read_mask(tmp_path / "mask.png").tolist() == [expected]


EXACT = ["PNG", "BMP", "TIFF", "TIFF tiff_lzw"]


@pytest.mark.parametrize(
    "kind", [*EXACT, "JPEG", "WEBP", "WEBP lossless", "AVIF", "JPEG2000", "GIF", "PPM", "TIFF jpeg"]
)
def test_masks_in_formats_that_may_change_numbers_are_refused(kind: str, tmp_path: Path) -> None:
    numbers, path = np.zeros((40, 40), dtype=np.uint8), tmp_path / "mask.png"
    numbers[10:30, 5:35], numbers[0, 0] = 1, 3
    form, _, how = kind.partition(" ")
    Image.fromarray(numbers).save(path, format=form, lossless=bool(how), compression=how or None)
    for read in (read_mask, to_mask) if kind not in EXACT else ():
        with pytest.raises(
            ValueError, match=rf"mask\.png is a {form}.* change the class numbers; save the mask as PNG$"
        ):
            read(path)
    if kind in EXACT:
        np.testing.assert_array_equal(read_mask(path).numpy(), numbers)


def test_samples_areas_and_names(tree: Path) -> None:
    dataset = FolderDataset(tree)
    assert (dataset.name, dataset.class_names, len(dataset)) == ("folder:pets", ("cat", "dog"), 3)
    expected = np.array([[6, 3], [6, 0], [6, 3]]) / (HEIGHT * WIDTH)  # counted in the fixture by hand
    np.testing.assert_allclose(dataset.class_areas, expected, rtol=1e-6)
    assert dataset.class_areas.dtype == np.float32
    image, labels = dataset[2]
    assert image.dtype == labels.dtype == torch.uint8 and image.shape == (3, HEIGHT, WIDTH)
    assert labels[5].tolist() == [255] * WIDTH
    assert [path.stem for path in dataset.image_paths] == ["a", "b", "c"]
    with pytest.raises(IndexError):
        dataset[3]


def test_names_survive_a_byte_order_mark_and_windows_line_ends(tree: Path) -> None:
    (tree / "classes.txt").write_bytes("﻿Katze\r\nHündin\r\n\r\n".encode())
    assert FolderDataset(tree).class_names == ("Katze", "Hündin")


def test_areas_are_those_of_the_masks_however_small_and_no_index_json_counts(tree: Path) -> None:
    """An index.json that contradicted the masks led to a score of nan, or let an image through `--novel drop`."""
    mask = np.zeros((HEIGHT, WIDTH), dtype=np.uint8)
    mask[0, 0] = 2
    Image.fromarray(np.kron(mask, np.eye(20, dtype=np.uint8))).save(tree / "masks/b.png")  # 20 of 19,200 are dog
    Image.new("RGB", (20 * WIDTH, 20 * HEIGHT)).save(tree / "images/b.png")
    fingerprint = FolderDataset(tree).fingerprint
    wrong = [{"id": stem, "area": {"cat": 10**400, "dog": 0.0}} for stem in "abc"]
    for text in (json.dumps(wrong), "[" * 100_000):
        (tree / "index.json").write_text(text)
        areas = FolderDataset(tree).class_areas
        np.testing.assert_array_equal(areas, np.float32([[6 / 48, 3 / 48], [0, 20 / 19200], [6 / 48, 3 / 48]]))
        assert TrainingView(FolderDataset(tree), [1], "drop").class_areas[1].tolist() == [0, 0]
        assert FolderDataset(tree).fingerprint == fingerprint


def spoil(tree: Path, how: str) -> None:
    if how == "no mask":
        (tree / "masks/b.png").unlink()
    elif how == "twin":
        shutil.copy(tree / "images/b.png", tree / "images/b.tif")
    elif how == "no images":
        shutil.rmtree(tree / "images")
        (tree / "images").mkdir()
    else:
        shutil.rmtree(tree / how) if (tree / how).is_dir() else (tree / how).unlink()


@pytest.mark.parametrize(
    ("how", "error", "message"),
    [
        ("images", FileNotFoundError, "has no folder images/"),
        ("masks", FileNotFoundError, "has no folder masks/"),
        ("classes.txt", FileNotFoundError, "has no classes.txt"),
        ("no mask", FileNotFoundError, r"1 of 3 images have no mask, first b\.png; add .*masks/b\.png"),
        ("twin", ValueError, r"b\.png and b\.tif share a mask"),
        ("no images", ValueError, rf"images holds no image; put files ending in {' '.join(image_extensions())} there$"),
    ],
)
def test_an_incomplete_folder_is_refused(how: str, error: type[Exception], message: str, tree: Path) -> None:
    spoil(tree, how)
    with pytest.raises(error, match=message):
        FolderDataset(tree)
    with pytest.raises(FileNotFoundError, match="nowhere is not a folder"):
        FolderDataset(tree / "nowhere")


def test_case_06_masks_without_an_image_are_counted_with_what_was_left_out(tree: Path) -> None:
    (tree / "images/more").mkdir()
    (tree / "images/b.png").rename(tree / "images/b.CR2")
    (tree / "images/c.png").rename(tree / "images/more/c.png")
    told = (
        r"2 of 3 .* no image in .*images, first b\.png, c\.png; add .* \(left out there: 1 \.cr2, 1 in more/; "
        r"move them up, or save them as JPEG \(HEIC: magick mogrify -format jpg \*\.heic\)\)$"
    )
    with pytest.raises(ValueError, match=told):
        FolderDataset(tree)


@pytest.mark.parametrize("names", [["1.5 V", "2.5 mm"], ["1:10 car"], ["1 euro", "2 euro"], ["7-up", "8-ball"]])
def test_names_that_begin_with_numbers_are_names(names, tmp_path: Path) -> None:
    (tmp_path / "classes.txt").write_text("\n".join(names))
    assert read_class_names(tmp_path / "classes.txt") == tuple(names)


def test_numbers_of_32_bits_and_dark_ones_of_16_are_not_taken_for_pictures(tmp_path: Path) -> None:
    grey = np.arange(20).reshape(4, 5)
    with pytest.raises(ValueError, match=r"^the image holds the values 0 to 19; save it with 8 or 16 bits$"):
        to_image(Image.fromarray(grey.astype(np.int32)))
    Image.fromarray((100 * grey).astype(np.uint16)).save(tmp_path / "dark.png")
    (tmp_path / "a.pgm").write_bytes(b"P5 1 2 65535\n" + bytes([0, 200, 255, 255]))
    with Image.open(tmp_path / "a.pgm") as image:
        assert to_image(image)[0].tolist() == [[1], [255]]
    with pytest.warns(
        UserWarning, match=r"dark\.png has 16 bits and holds 1900 of 65535 at most: nearly black; stretch its values$"
    ):
        read_image(tmp_path / "dark.png")


def test_masks_of_several_pages_or_inverted_palettes_are_refused_opened_or_not(tmp_path: Path) -> None:
    pages = [Image.fromarray(np.full((4, 5), value, np.uint8)) for value in (1, 0)]
    pages[0].save(tmp_path / "pages.tif", save_all=True, append_images=pages[1:])
    with pytest.raises(ValueError, match=r"pages\.tif has 2 pages; save the one that is the mask$"):
        read_mask(tmp_path / "pages.tif")
    with (
        Image.open(tmp_path / "pages.tif") as both,
        pytest.raises(ValueError, match=r"^the mask has 2 pages; save the"),
    ):
        to_mask(both)
    inverted = Image.fromarray(np.eye(4, dtype=np.uint8), "P")
    inverted.putpalette([255, 255, 255, 0, 0, 0])
    inverted.save(tmp_path / "mask.png")
    for mask in (tmp_path / "mask.png", inverted):
        with pytest.raises(ValueError, match="shows the number 1 in black and 0 in a colour; save the mask in grey"):
            to_mask(mask)


def test_a_folder_without_background_is_refused(tree: Path) -> None:
    for path in (tree / "masks").iterdir():
        mask = np.array(Image.open(path))
        Image.fromarray(np.where(mask == mask.max(), 1, 255).astype(np.uint8)).save(path)
    with pytest.raises(ValueError, match=r"masks shows background; store it as 0, for 255 means ignored$"):
        _ = FolderDataset(tree).class_areas


def test_photographs_are_known_by_what_they_hold(tree: Path) -> None:
    files = sorted((tree / "images").iterdir())
    assert FolderDataset(tree).image_digests == {f: hashlib.sha256(f.read_bytes()).hexdigest() for f in files}


def test_files_that_may_not_be_read_are_counted_and_named(tree: Path, monkeypatch) -> None:
    """For the superuser, permissions do not tell."""
    closed = [min((tree / folder).iterdir()) for folder in ("images", "masks")]
    closed[1].unlink()
    os.mkfifo(closed[1])  # reading it would wait for ever
    monkeypatch.setattr(os, "access", lambda path, mode: path != closed[0])
    with pytest.raises(PermissionError) as caught:
        FolderDataset(tree)
    few = f"2 images and masks cannot be read, first {closed[0]}, {closed[1]}"
    assert str(caught.value) == f"{few}; change their owner or their permissions, or remove what is no file"


def test_pictures_left_out_with_their_masks_are_counted_once(tree: Path) -> None:
    """Masks lie as their images do, in folders or in other formats; so no pair is missed. Hidden ones do not count."""
    for folder, other in (("images", "c.gif"), ("masks", "c.tif")):
        for place in ("more/deep", ".hidden"):
            (tree / folder / place).mkdir(parents=True)
            shutil.copy(tree / folder / "a.png", tree / folder / place / "a.png")
        shutil.copy(tree / folder / "a.png", tree / folder / ".a.gif")
        (tree / folder / "link").symlink_to(tree / folder / "more", target_is_directory=True)
        (tree / folder / "c.png").rename(tree / folder / other)
    with pytest.warns(UserWarning, match="left out") as caught:
        assert [path.name for path in FolderDataset(tree).image_paths] == ["a.png", "b.png"]
    for warning, folder, kind, form in zip(caught, ("images", "masks"), ("gif", "tif"), ("JPEG", "PNG)"), strict=True):
        left_out = f"left out there: 1 linked folder, 1 .{kind}, 1 in more/; move them up, or save them as "
        told = f"{tree / folder} is read in part ({left_out}"
        assert str(warning.message).startswith(told + form)


def test_names_of_several_points_upper_case_and_decomposed_letters_are_paired(tree: Path) -> None:
    stems = {"a": "B.1.x", "b": "grv", "c": "gru\u0308n"}  # as macOS writes an umlaut
    for old, new in stems.items():
        (tree / f"images/{old}.png").rename(tree / f"images/{new}.PNG")
        (tree / f"masks/{old}.png").rename(tree / f"masks/{unicodedata.normalize('NFC', new)}.Png")
    decomposed = FolderDataset(tree)
    names, fingerprint = [path.stem for path in decomposed.mask_paths], decomposed.fingerprint
    (tree / "images/gru\u0308n.PNG").rename(tree / "images/gr\u00fcn.PNG")
    assert names == ["B.1.x", "grv", "gr\u00fcn"] and FolderDataset(tree).fingerprint == fingerprint


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (" \n\n", "is empty; write one class name per line"),
        ("cat\n\ndog\n", "line 2 is empty"),
        ("cat\ndog\ncat\n", "line 3 repeats 'cat'"),
        ("gr\u00fcn\ngru\u0308n\n", "line 2 repeats"),  # composed and decomposed
        ("__background__\ncat\n", "line 1 is '__background__', which is value 0"),
        ("cat\tchat\n", r"line 1 is 'cat\\tchat', which cannot be printed; save the file as UTF-8"),
        ("1\tcat\n2\tdog\n", r"line 1 is '1\\tcat'; write the name alone, for the line is its number"),
        ("2 cat\n1 dog\n", r"line 1 is '2 cat'; write the name alone, for the line is its number"),
        ("0 background\n1 cat\n", "line 1 is '0 background', which is value 0 without a line; delete it"),
        ("background: 0\ncat: 1\n", "line 1 is 'background: 0', which is value 0 without a line; delete it"),
        ("2: cat\n1: dog\n", r"line 1 is '2: cat'; write the name alone, for the line is its number"),
        ("\0c\0a\0t", r"line 1 is '\\x00c\\x00a\\x00t', which cannot be printed; save the file as UTF-8"),
        ("\n".join(f"class {k}" for k in range(255)), "names 255 classes; at most 254 fit an 8-bit mask$"),
        ("H\udcfcndin\n", r"classes\.txt is not UTF-8 text; save it as UTF-8$"),  # as Latin-1 writes it
    ],
)
def test_bad_class_names_are_refused(text: str, message: str, tree: Path) -> None:
    (tree / "classes.txt").write_text(text, encoding="utf-8", errors="surrogateescape")
    with pytest.raises(ValueError, match=message):
        FolderDataset(tree)
    (tree / "classes.txt").write_text("\n".join(f"class {k}" for k in range(254)))
    assert len(FolderDataset(tree).class_names) == 254


def test_palettes_whose_colours_say_otherwise_are_refused(tmp_path: Path) -> None:
    """White on black as a program saves it that sorts colours: what shows as the object is 0."""
    mask = Image.fromarray(np.uint8([[1, 1, 0, 0]]))
    mask.putpalette([255, 255, 255, 0, 0, 0])
    mask.save(tmp_path / "mask.png")
    with pytest.raises(
        ValueError, match=r"mask\.png shows the number 1 in black and 0 in a colour; save the mask in gr"
    ):
        read_mask(tmp_path / "mask.png")
    for others in ([128, 0, 0], [9, 9, 9]):  # whether all are VOC's or not, a colour that comes twice says too little
        mask.putpalette([0, 0, 0, 128, 0, 0, *others, 128, 0, 0])
        mask.putdata([0, 1, 2, 3])
        mask.save(tmp_path / "mask.png")
        for of_voc in (False, True):
            with pytest.raises(
                ValueError, match=r"mask\.png shows the numbers 1 and [23] in one colour; save the mask in gr"
            ):
                read_mask(tmp_path / "mask.png", of_voc=of_voc)
    mask.putdata([1, 1, 0, 0])
    mask.putpalette([10, 0, 0, 0, 200, 0])  # no black: the numbers count
    mask.save(tmp_path / "mask.png")
    assert read_mask(tmp_path / "mask.png").tolist() == [[1, 1, 0, 0]]


def test_stray_files_are_not_images(tree: Path) -> None:
    for name in ("Thumbs.db", "._a.png", "notes.txt", "desktop.ini"):
        (tree / "images" / name).write_bytes(b"stray")
    assert len(FolderDataset(tree)) == 3


def test_bad_masks_are_named_when_read(tree: Path) -> None:
    dataset = FolderDataset(tree)
    path = tree / "masks/b.png"
    Image.fromarray(np.full((HEIGHT, WIDTH), 3, dtype=np.uint8)).save(path)
    with pytest.raises(ValueError, match=r"b\.png holds the value 3, but classes.txt ends at 2"):
        dataset[1]
    with pytest.raises(ValueError, match=r"b\.png holds the value 3"):
        dataset.class_areas  # noqa: B018
    Image.fromarray(np.zeros((WIDTH, HEIGHT), dtype=np.uint8)).save(path)
    with pytest.raises(ValueError, match=r"b\.png is 6 x 8 pixels, but b\.png is 8 x 6 once upright"):
        dataset[1]
    Image.fromarray(RGB).save(path)
    with pytest.raises(ValueError, match=r"b\.png is a colour mask; save one class"):
        dataset[1]
    Image.fromarray(np.full((HEIGHT, WIDTH, 3), 2, dtype=np.uint8)).save(path)  # grey, as paint programs save it
    assert (dataset[1].labels == 2).all()
    Image.fromarray(np.full((HEIGHT, WIDTH), 256, dtype=np.uint16)).save(path)
    with pytest.raises(ValueError, match=r"b\.png holds 256 to 256"):
        dataset[1]


@pytest.mark.parametrize("optimize", [0, 1])
def test_all_that_is_wrong_is_named_before_features_are_computed(optimize: int, tree: Path) -> None:
    """Also under `python -O`."""
    module = {"__name__": experiment.__name__}
    exec(compile(Path(experiment.__file__).read_text(), experiment.__file__, "exec", optimize=optimize), module)
    Image.fromarray(np.full((HEIGHT, WIDTH), 3, dtype=np.uint8)).save(tree / "masks/a.png")
    Image.new("L", (WIDTH, 9)).save(tree / "masks/b.png")
    (tree / "masks/c.png").write_bytes(b"no image")
    told = (
        r"3 of 3 .* cannot be used: .*a\.png holds the value 3.*; .*b\.png is 8 x 9 pixels.*; .*c\.png cannot be read"
    )
    with pytest.raises(ValueError, match=told):
        module["folder_bank"]([tree], build_backbone("tiny", "random"), size=16, cache_folder=None)


def test_masks_of_0_and_255_alone_are_told_apart_from_classes(tree: Path) -> None:
    for path in sorted((tree / "masks").iterdir(), reverse=True):
        Image.new("L", (WIDTH, HEIGHT)).save(path)
    assert not FolderDataset(tree).class_areas.any()  # background alone
    Image.fromarray(np.eye(HEIGHT, WIDTH, dtype=np.uint8) * 255).save(path)
    told = "1 of 3 .*masks hold 0 and 255 alone, first a.png, and 255 means ignored; draw the class of line"
    for other in (0, 1):  # in another mask: one in which an object was drawn with 255 is not lost among classes
        Image.fromarray(np.eye(HEIGHT, WIDTH, dtype=np.uint8) * np.uint8(other)).save(tree / "masks/b.png")
        with pytest.raises(ValueError, match=told):
            FolderDataset(tree).class_areas  # noqa: B018
    border = np.eye(HEIGHT, WIDTH, dtype=np.uint8) * 255
    border[0, 3] = 1  # beside a class, as of VOC
    Image.fromarray(border).save(path)
    assert FolderDataset(tree).class_areas.any(axis=1).tolist() == [True, True, False]


def test_fingerprint_follows_content_and_not_place(tree: Path, tmp_path: Path) -> None:
    original = FolderDataset(tree).fingerprint
    shutil.copytree(tree, tmp_path / "elsewhere")
    assert FolderDataset(tmp_path / "elsewhere").fingerprint == original
    changed = set()
    (tree / "classes.txt").write_text("cat\nfox\n", encoding="utf-8")
    changed.add(FolderDataset(tree).fingerprint)
    (tree / "classes.txt").write_text("cat\ndog\n", encoding="utf-8")
    Image.fromarray(np.tile(RGB, (2, 2, 1))).save(tree / "images/b.png")
    changed.add(FolderDataset(tree).fingerprint)
    assert len(changed | {original}) == 3


def edited(path: Path) -> None:
    """Change the last byte of a file's pixels in place, size and time of modification kept."""
    before, data = path.stat(), bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.parametrize("suffix", [".bmp", ".tif"])
def test_cases_02_and_03_files_edited_in_place_are_other_files(suffix: str, tree: Path) -> None:
    (tree / "images/b.png").unlink()
    Image.fromarray(RGB).save(tree / f"images/b{suffix}")
    (tree / "masks/b.png").write_bytes((tree / "masks/b.png").read_bytes() + b"\0")  # behind the end: not read
    dataset, seen = FolderDataset(tree), {FolderDataset(tree).fingerprint}
    assert dataset.fingerprint in seen
    for path in (tree / f"images/b{suffix}", tree / "masks/b.png"):
        edited(path)
        seen.add(FolderDataset(tree).fingerprint)
        with pytest.raises(ValueError, match=rf"{path.name} has changed since its folder was opened; open the folder"):
            dataset[1]
    assert len(seen) == 3


def test_digests_of_a_large_folder_are_kept_and_never_stale(tree: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(digests, "_SMALL", 0)
    read: list[Path] = []
    whole = Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda path: read.append(path) or whole(path))
    original = FolderDataset(tree).fingerprint  # of files written just now: none is kept
    monkeypatch.setattr(digests.time, "time_ns", lambda: 2**62)  # long after
    for n_read in (6, 6, 0):
        assert len([path for path in read if path.is_relative_to(tree)]) == n_read
        read.clear()
        assert FolderDataset(tree).fingerprint == original
    (kept,) = (tmp_path / "cache/dpnet_lite/digests").iterdir()
    edited(tree / "masks/b.png")
    changed = FolderDataset(tree).fingerprint
    assert changed != original
    for damage in (b"", b"no digest\n{}", kept.read_bytes().replace(b'": "', b'": "9')):
        kept.write_bytes(damage)
        assert FolderDataset(tree).fingerprint == changed
    shutil.rmtree(tmp_path / "cache")
    (tmp_path / "cache").write_text("a file: no folder can be made there")
    assert FolderDataset(tree).fingerprint == changed


def test_union_keeps_classes_apart(tree: Path, tmp_path: Path) -> None:
    other = tmp_path / "zoo"
    shutil.copytree(tree, other)
    (other / "classes.txt").write_text("cat\nowl\nelk\n", encoding="utf-8")
    first, second = FolderDataset(tree), FolderDataset(other)
    union = UnionDataset([first, second])
    assert union.name == "folder:pets + folder:zoo" and len(union) == 6
    assert union.class_names == ("cat", "dog", "folder:zoo/cat", "folder:zoo/owl", "folder:zoo/elk")
    assert (union.class_ranges, union.image_ranges) == ((range(2), range(2, 5)), (range(3), range(3, 6)))
    for index in range(6):
        image, labels = union[index]
        own = (first, second)[index // 3][index % 3]
        assert labels.dtype == torch.uint8 and torch.equal(image, own.image)
        slow = [k if k in (0, 255) or index < 3 else k + 2 for k in own.labels.flatten().tolist()]
        assert labels.flatten().tolist() == slow
        shares = [(labels == k).float().mean().item() for k in range(1, 6)]
        np.testing.assert_allclose(union.class_areas[index], shares, rtol=1e-6)
    assert torch.equal(union[-1].labels, union[5].labels)
    with pytest.raises(IndexError):
        union[6]
    assert union.fingerprint != UnionDataset([second, first]).fingerprint
    assert UnionDataset([first, first]).class_names[2:] == ("folder:pets#2/cat", "folder:pets#2/dog")


def test_union_refuses_nothing_and_too_much(tree: Path) -> None:
    with pytest.raises(ValueError, match="union of 0 data sets"):
        UnionDataset([])
    (tree / "classes.txt").write_text("\n".join(f"class {k}" for k in range(127)), encoding="utf-8")
    dataset = FolderDataset(tree)
    assert UnionDataset([dataset, dataset])[3].labels.unique().tolist() == [0, 128, 129]
    with pytest.raises(ValueError, match="381 classes together; at most 254"):
        UnionDataset([dataset] * 3)


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 40))
def test_labels_are_squashed_by_the_nearest_pixel_centre(height: int, width: int, size: int) -> None:
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    for source, length, axis in ((rows, height, 0), (columns, width, 1)):  # each pixel tells where it came from
        resized = resize_labels(source.to(torch.uint8), size)
        assert resized.dtype == torch.uint8 and resized.shape == (size, size)
        origin = np.moveaxis(resized.numpy(), axis, 0).astype(float)
        wanted = (np.arange(size)[:, None] + 0.5) * length / size  # [size, 1], in source pixels
        assert np.abs(origin + 0.5 - wanted).max() <= 0.5 + 1e-5  # at a tie either neighbour will do


def test_images_are_squashed_with_antialias() -> None:
    image = np.random.default_rng(3).integers(0, 256, (90, 120, 3), dtype=np.uint8)
    resized = resize_image(torch.from_numpy(image).permute(2, 0, 1), 30)  # [H, W, 3] -> [3, H, W]
    reference = np.asarray(Image.fromarray(image).resize((30, 30), Image.Resampling.BILINEAR), dtype=int)
    assert resized.dtype == torch.uint8 and resized.shape == (3, 30, 30)
    assert np.abs(resized.permute(1, 2, 0).numpy() - reference).max() <= 1
    sample = resize_sample(Sample(torch.from_numpy(image).permute(2, 0, 1), torch.zeros(90, 120, dtype=torch.uint8)), 7)
    assert sample.image.shape == (3, 7, 7) and sample.labels.shape == (7, 7)
    with pytest.raises(ValueError, match="size is 0"):
        resize_labels(sample.labels, 0)


def test_normalise() -> None:
    image = torch.arange(24, dtype=torch.uint8).reshape(3, 2, 4)  # [24] -> [3, 2, 4]
    values = normalise(image)
    assert values.dtype == torch.float32
    assert values[1, 0, 2].item() == pytest.approx((10 / 255 - 0.456) / 0.224, rel=1e-5)
    assert normalise(image.expand(5, 3, 2, 4)).shape == (5, 3, 2, 4)
    for bad in (image.float(), image[:2]):
        with pytest.raises(ValueError, match="give uint8 RGB"):
            normalise(bad)


@pytest.mark.skipif(not PHOTOS.is_dir(), reason="the real photographs do not lie beside the repository")
def test_real_photographs_agree_with_their_index() -> None:
    dataset = FolderDataset(PHOTOS)
    assert (len(dataset), len(dataset.class_names)) == (520, 80)
    told = {entry["id"]: entry["area"] for entry in json.loads((PHOTOS / "index.json").read_text(encoding="utf-8"))}
    for path, areas in zip(dataset.image_paths, dataset.class_areas, strict=True):
        expected = [told[path.stem].get(name, 0) for name in dataset.class_names]
        np.testing.assert_allclose(areas, expected, atol=6e-5)  # index.json has 4 decimals
