"""The tab for one's own images: what is read and refused, and that the page's answer is the predictor's."""

from __future__ import annotations

import base64
import io
import os
import re
import sys

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("ipyevents", reason="ipyevents is not installed (extra: notebooks)")

from dpnet_lite.course.explorers import your_images
from dpnet_lite.course.explorers.your_images import LONGEST, MAX_BYTES, YourImages, decode
from dpnet_lite.datasets import OBJECTS_CREDIT
from dpnet_lite.predictor import Predictor


def file(pixels, kind="PNG", **options):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **options)
    return buffer.getvalue()


def upload(widget, which, name, content):
    """As the browser does it."""
    facts = {"name": name, "type": "", "size": len(content), "last_modified": 0}
    widget.uploads[which].set_state({"value": [{**facts, "content": memoryview(content)}]})


def test_an_upload_is_upright_rgb_and_small():
    stored = np.zeros((300, 1600, 3), np.uint8)
    stored[:, :800] = (250, 10, 10)
    exif = Image.Exif()
    exif[0x112] = 6  # lies on its left side: the left half is above
    image = decode("a.jpg", file(stored, "JPEG", exif=exif, quality=95))
    assert image.shape == (LONGEST, LONGEST * 300 // 1600, 3) and image.dtype == np.uint8
    assert image[: LONGEST // 2 - 4, :, 0].min() > 200 and image[LONGEST // 2 + 4 :, :, 0].max() < 50
    small = np.random.default_rng(0).integers(0, 255, (20, 30, 3)).astype(np.uint8)
    assert np.array_equal(decode("b.png", memoryview(file(small))), small)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"no image", r"a.png cannot be read as an image; give a JPEG or PNG file"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", r"a.png cannot be read as an image; give"),
        (
            file(np.random.default_rng(0).integers(0, 255, (90, 90)).astype(np.uint8))[:3000],
            r"truncated.*; give a JPEG",
        ),
        (bytes(MAX_BYTES + 100_000), r"a.png has 20.1 MB; give a file of at most 20 MB"),
        (
            file(np.zeros((8000, 7000), bool)),
            r"a.png has 7000 x 8000 pixels; scale it down to 50 million pixels at most",
        ),
    ],
    ids=["text", "program", "cut", "file", "bomb"],
)
def test_what_is_no_image_or_too_large_is_refused_in_one_line(content, told):
    with pytest.raises(ValueError, match=told) as caught:
        decode("a.png", content)
    assert "\n" not in str(caught.value)


def test_an_upload_is_decoded_in_memory_and_never_written():
    pixels = np.random.default_rng(0).integers(0, 255, (40, 50, 3)).astype(np.uint8)
    uploads = [file(pixels, kind) for kind in your_images._FORMATS] + [file(pixels, "TIFF", compression="jpeg")]
    for content in uploads:  # what Pillow loads when first asked is compiled, and that may be written
        decode("a", content)
    written, watching = [], True

    def watch(event, arguments):
        if watching and event == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            written.append(arguments[0])

    sys.addaudithook(watch)  # it cannot be removed
    for content in uploads:
        assert decode("a", content).shape == pixels.shape
    assert written == []
    open(os.devnull, "w").close()
    assert written == [os.devnull]
    watching = False


def test_the_page_gives_the_predictors_answer(monkeypatch):
    drawn = []
    figure = your_images.segmented_figure
    monkeypatch.setattr(your_images, "segmented_figure", lambda *parts: drawn.append(parts) or figure(*parts))
    widget = YourImages()  # shows an example
    assert widget.error is None and len(drawn) == 1 and drawn[0][3].any() and OBJECTS_CREDIT in widget.caption.value
    support, query = drawn[0][2], drawn[0][0]  # the other way round
    upload(widget, "support", "<b>\u202e\n.png", file(support))
    assert (
        "&lt;b&gt;\\u202e\\n.png is the support now" in widget.message.value and OBJECTS_CREDIT in widget.caption.value
    )
    assert not widget.painter.mask.any() and widget.picture.layout.display == "none"
    widget.button.click()
    assert isinstance(widget.error, ValueError) and "no mask is painted" in widget.message.value and len(drawn) == 1
    upload(widget, "query", "<img src=x onerror=alert(1)>&.png", b"no image")
    assert (
        "ValueError: &lt;img src=x onerror=alert(1)&gt;&amp;.png cannot be read" in widget.message.value
        and OBJECTS_CREDIT in widget.caption.value
    )
    upload(widget, "query", "q.png", file(query))
    assert widget.error is None and widget.caption.value == ""  # no shipped photograph is left
    widget.painter.radius.value = 40
    widget.painter.paint((150, 200), (230, 200), (190, 260))
    assert "the mask has changed: press Segment" in widget.message.value
    widget.button.click()
    assert widget.error is None and widget.picture.layout.display is None
    mask = widget.painter.mask
    wanted = Predictor.load("photographs").set_support([support], [mask]).predict(query).mask
    assert len(drawn) == 2
    for shown, one in zip(drawn[1], (support, mask, query, wanted == 1), strict=True):
        assert np.array_equal(shown, one)
    links = re.findall(r'download="(\w+\.png)" href="data:image/png;base64,([^"]+)"', widget.message.value)
    assert [name for name, _ in links] == ["mask.png", "support_mask.png"]
    for (_, data), one in zip(links, (wanted == 1, mask), strict=True):
        assert np.array_equal(np.array(Image.open(io.BytesIO(base64.b64decode(data)))), 255 * one)
