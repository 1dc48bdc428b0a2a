"""What a lesson's page shows beside text and pictures: the claim box at its end, and tables."""

from __future__ import annotations

import re
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

# Colours with alpha, so that a box is right on a light and on a dark page.
_BOX = "border-left:5px solid #0072B2; background:rgba(86,180,233,0.15); padding:0.6em 1em; margin:0.5em 0"


class PageHtml:
    """HTML for a page, and the same as plain text for where there is none."""

    def __init__(self, html: str, text: str) -> None:
        self.html, self.text = html, text

    def _repr_html_(self) -> str:
        return self.html

    def __repr__(self) -> str:
        return self.text


def claim(text: str) -> PageHtml:
    """The box with what a lesson found, in HTML; its numbers come from the cell, which asserts them beforehand."""
    html = f'<div class="claim" style="{_BOX}"><b>What was found.</b> {text}</div>'
    return PageHtml(html, "What was found. " + re.sub(r"<[^>]+>", "", text))


def table(
    rows: Mapping[str, Sequence[Any]],
    caption: str,
    *,
    formats: str | Mapping[str, str] = "{:.2f}",
    strong: Sequence[int] = (),
) -> PageHtml:
    """A styled table.

    Args:
        rows: columns by heading, all of one length; the first names the rows.
        caption: stands above.
        formats: of the numbers: one for all that are not whole, or by heading. None is left empty.
        strong: numbers of the rows that are set in bold.
    """
    import pandas as pd  # here, so that a claim and a quiz need none

    frame = pd.DataFrame(dict(rows))
    if isinstance(formats, str):
        formats = dict.fromkeys(frame.select_dtypes("float").columns, formats)
    style = frame.style.hide(axis="index").set_caption(caption).format(formats, na_rep="")
    # A fixed name: the same table gives the same page.
    style = style.set_uuid(f"{zlib.crc32(caption.encode()):x}")
    style = style.set_table_styles(
        [
            {"selector": "caption", "props": "caption-side:top; text-align:left; font-style:italic"},
            {"selector": "th, td", "props": "text-align:right; padding:0.2em 0.8em; font-variant-numeric:tabular-nums"},
            {"selector": "th:first-child, td:first-child", "props": "text-align:left"},
        ]
    )
    style = style.map(lambda value: "font-weight:bold", subset=pd.IndexSlice[list(strong), :])
    return PageHtml(style.to_html(), f"{caption}\n{style.to_string(delimiter='  ')}")
