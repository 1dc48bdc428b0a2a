"""Painting a mask: strokes against plain distances, the events of mouse and finger, and taking things back."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("ipyevents", reason="ipyevents is not installed (extra: notebooks)")

from dpnet_lite.course.explorers.painter import KEPT, MaskPainter, stroke
from dpnet_lite.datasets.images import to_image


def pointer(kind, x, y, buttons=1, shown=(384, 384)):
    """An event as ipyevents sends it while a new picture loads: its place on the page, the size there, no `dataX`."""
    rect = {"boundingRectWidth": shown[0], "boundingRectHeight": shown[1]}
    return {"type": kind, "buttons": buttons, "relativeX": x, "relativeY": y, "dataX": 0, "dataY": 0, **rect}


@pytest.mark.parametrize(("start", "end"), [((3, 4), (14, 9)), ((5, 5), (5, 5)), ((-4, 2), (6, 25))])
def test_a_stroke_is_all_that_is_near_the_line(start, end):
    mask = np.zeros((12, 18), bool)
    stroke(mask, start, end, 2.3, True)
    places = np.linspace(start, end, 2001)  # on the line
    for row, column in np.ndindex(mask.shape):
        distance = np.hypot(*(places - (column, row)).T).min()
        assert mask[row, column] == (distance <= 2.3), (row, column)


def test_a_line_drawn_with_the_mouse():
    painter = MaskPainter(np.full((96, 96, 3), 90, np.uint8), radius=3)
    zoom = painter.zoom
    assert zoom == 4
    before = painter.picture.value
    at = [(zoom * x, zoom * y) for x, y in ((20, 30), (40, 30), (40, 50), (70, 70))]
    painter.moved(pointer("mousemove", *at[3], buttons=0))  # the brush is up
    assert not painter.mask.any()
    painter.moved(pointer("mousedown", *at[0]))
    painter.moved(pointer("mousemove", *at[1]))
    painter.moved(pointer("mousemove", *at[2]))
    painter.moved(pointer("mouseup", *at[2], buttons=0))
    painter.moved(pointer("mousemove", *at[3]))  # pressed outside: nothing
    assert painter.mask[30, 20] and painter.mask[30, 30] and painter.mask[40, 40] and not painter.mask[60, 55]
    assert 3 * 2 * 40 < painter.mask.sum() < 4 * 2 * 50
    assert painter.picture.value != before
    painter.undo()
    assert not painter.mask.any() and painter.picture.value == before
    painter.undo()  # nothing left to take back


def test_the_brush_paints_around_the_pixel_under_the_pointer_and_lifts_at_the_edge():
    painter = MaskPainter(np.full((96, 96, 3), 90, np.uint8), radius=3)
    middle = (painter.zoom - 1) / 2  # of an image pixel, in pixels of the page
    painter.moved(pointer("mousedown", 4 * 20 + middle, 4 * 30 + middle))
    wanted = np.zeros((96, 96), bool)
    stroke(wanted, (20, 30), (20, 30), 3, True)
    assert np.array_equal(painter.mask, wanted)
    painter.moved(pointer("mouseleave", 0, 0))
    painter.moved(pointer("mousemove", 4 * 80, 4 * 80))  # it comes back elsewhere
    assert np.array_equal(painter.mask, wanted)


def test_the_image_is_seen_through_the_paint():
    image = np.zeros((96, 96, 3), np.uint8)
    image[:, 48:] = 255
    painter = MaskPainter(image, radius=8)
    painter.paint((30, 40), (70, 40))
    with Image.open(io.BytesIO(painter.picture.value)) as shown:
        pixels = np.array(shown.convert("RGB")).astype(int)
    dark, bright = pixels[160, 4 * 40], pixels[160, 4 * 60]
    assert (bright - dark > 60).all() and dark[0] > dark[2] + 60  # orange over both


def test_only_the_last_strokes_can_be_taken_back():
    painter = MaskPainter(np.zeros((50, 50, 3), np.uint8), radius=1)
    for number in range(KEPT + 5):
        painter.paint((number, 10))
    for _ in range(KEPT + 5):
        painter.undo()
    assert painter.mask[10].sum() >= 5 and not painter.mask[10, 10:].any()


def test_a_finger_paints_too_and_the_eraser_takes_away():
    painter = MaskPainter(Image.new("L", (400, 500)))
    assert painter.image.shape == (500, 400, 3) and painter.zoom == 1
    painter.moved({"type": "touchstart", "touches": [pointer("", 100, 100, shown=(400, 500))]})
    painter.moved({"type": "touchmove", "touches": [pointer("", 200, 100, shown=(400, 500))]})
    painter.moved({"type": "touchend", "touches": []})
    assert painter.mask[100, 150]
    painter.tool.value = "erase"
    painter.paint((150, 100), erase=True)
    assert not painter.mask[100, 150] and painter.mask[100, 110]
    painter.clear()
    assert not painter.mask.any()
    painter.undo()
    assert painter.mask[100, 110]


def test_painting_without_a_mouse_and_what_is_shown():
    painter = MaskPainter(np.zeros((50, 50, 3), np.uint8), radius=2)
    painter.paint((10, 10), (30, 10), (30, 40))
    assert painter.mask[10, 20] and painter.mask[25, 30] and not painter.mask[40, 10]
    with Image.open(io.BytesIO(painter.picture.value)) as shown:
        pixels = np.array(shown.convert("RGB"))
    small = pixels[painter.zoom // 2 :: painter.zoom, painter.zoom // 2 :: painter.zoom]
    assert np.array_equal(small.any(axis=2), painter.mask)


@pytest.mark.parametrize(
    ("image", "told"),
    [(np.zeros((5, 5, 4), np.uint8), r"give an array \[H, W, 3\]"), (np.zeros((5, 5, 3)), "give uint8 values")],
)
def test_other_images_are_refused(image, told):
    with pytest.raises(ValueError, match=told):
        MaskPainter(image)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_photograph_is_painted_as_the_network_sees_it(orientation, tmp_path):
    """Case 01, a camera on its side: what is painted on the red square that is shown lies on that of `to_image`."""
    stored = np.full((96, 128, 3), 30, np.uint8)
    stored[4:40, 4:40] = (250, 30, 30)
    exif = Image.Exif()
    exif[0x112] = orientation
    Image.fromarray(stored).save(tmp_path / "photo.jpg", quality=95, exif=exif)
    with Image.open(tmp_path / "photo.jpg") as photo:
        painter = MaskPainter(photo, radius=8)
    rows, columns = np.nonzero(painter.image[..., 0] > 200)
    painter.paint((columns.mean(), rows.mean()))
    seen = to_image(tmp_path / "photo.jpg").numpy()[0]
    assert painter.mask.shape == seen.shape and painter.mask.sum() > 150 and seen[painter.mask].min() > 200


@pytest.mark.parametrize("mask", [np.eye(5, dtype=np.uint8), np.eye(4, dtype=bool)])
def test_masks_of_another_kind_are_refused(mask):
    with pytest.raises(ValueError, match=r"^mask is (uint8 \[5, 5\]|bool \[4, 4\]); give bool \[5, 5\]$"):
        MaskPainter(np.zeros((5, 5, 3), np.uint8), mask=mask)


def test_a_large_photograph_is_painted_small_and_its_mask_has_its_size():
    photo = np.random.default_rng(0).integers(0, 255, (3000, 3999, 3)).astype(np.uint8)
    painter = MaskPainter(photo, radius=60)
    assert len(painter.picture.value) < 2e6  # case 14: sent at every move of the brush
    assert np.allclose(painter.image[7, 9], photo[42:48, 54:60].mean(axis=(0, 1)), atol=1)
    painter.moved(pointer("mousedown", 200, 100, shown=(667, 500)))  # 3999 x 3000 at a sixth
    wanted = np.zeros((3000, 3999), bool)
    stroke(wanted, (1202.5, 602.5), (1202.5, 602.5), 60, True)  # the middle of the painted pixel, of 6 x 6
    assert painter.mask.shape == wanted.shape
    assert (painter.mask & wanted).sum() > 0.9 * (painter.mask | wanted).sum()
    painter.undo()
    painter.paint((1202.5, 602.5))
    assert (painter.mask & wanted).sum() > 0.9 * (painter.mask | wanted).sum()
    painter.radius.value = 1
    painter.paint((3998, 2999))
    assert painter.mask[2999, 3998]
    assert np.array_equal(MaskPainter(photo, mask=painter.mask).mask, painter.mask)


def test_sixteen_bits_are_shown_as_the_network_sees_them():
    levels = (np.arange(96 * 96).reshape(96, 96) * 7).astype(np.uint16)
    assert np.array_equal(MaskPainter(Image.fromarray(levels)).image[..., 0], (levels + 128) // 257)


@pytest.mark.parametrize("shown", [(384, 384), (192, 192), (96, 240)])
def test_a_stroke_in_a_picture_of_any_size_is_where_it_was_drawn(shown):
    """Also where the page squeezes the picture, and while the browser does not know its own size."""
    painter = MaskPainter(np.zeros((96, 96, 3), np.uint8), 3)
    places = [(x / 96 * shown[0], y / 96 * shown[1]) for x, y in ((20.5, 30.5), (70.5, 60.5))]
    for kind, (x, y) in zip(("mousedown", "mousemove"), places, strict=True):
        painter.moved(pointer(kind, x - 0.5, y - 0.5, shown=shown))
    wanted = np.zeros((96, 96), bool)
    stroke(wanted, (20, 30), (70, 60), 3, True)
    assert np.array_equal(painter.mask, wanted)


def test_a_picture_that_is_not_shown_has_no_places():
    painter = MaskPainter(np.zeros((96, 96, 3), np.uint8), 3)
    painter.moved(pointer("mousedown", 0, 0, shown=(0, 0)))
    assert not painter.mask.any()
