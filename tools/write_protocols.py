"""Write the table of docs/protocols.md and its sources, between their marks, from the package's specs.toml.

python tools/write_protocols.py
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from dpnet_lite.published.protocols.specs import PROTOCOLS, PerBenchmark, Protocol

PAGE = Path(__file__).parent.parent / "docs" / "protocols.md"
GEOMETRY = {
    "squash": "squashed to the square",
    "pad": "aspect kept, both sides rounded down to multiples of 8, filled to the square",
    "own": "not resized",
}
RESOLUTION = {
    "own": "the image's own",
    "network": "the network's, labels by the nearest pixel",
    "longer side": "own labels in a square of the longer side, filled with 255",
}
RULE = {
    "accumulated": "per class over its episodes; classes without a union left out",
    "clamped": "per class over its episodes, in float32, union at least 1; mean over all classes of the fold",
    "epsilon": "per class over its episodes, union + 1e-10; mean over all classes of the fold",
    "seen": "per class over its episodes; classes without a union left out",
}
DRAWING = {
    "turns": "classes take turns; query and support from its large objects",
    "listed": "queries from a list in order (COCO: class, query at random); support at random, can repeat (NumPy)",
    "images": "images with a large object in order; class at random, however small; support large (Python's random)",
    "random": "query, class and support at random; class however small in the query (Python's random)",
}


def figures(values: PerBenchmark, fallback: str = "-") -> str:
    """PASCAL-5i / COCO-20i / FSS-1000, with `fallback` where there is none."""
    return " / ".join(fallback if value is None else f"{value:,}" for value in values)


def _size(protocol: Protocol) -> str:
    if protocol.size.pascal5i is None:
        return "the image's own" if protocol.geometry == "own" else "the network's"
    return figures(protocol.size)


def _background(protocol: Protocol) -> str:
    where = ", ".join(protocol.background_255)
    return f"ignored; background on {where}" if where else "ignored"


def _min_pixels(protocol: Protocol) -> str:
    figure = figures(protocol.min_pixels, "by list files" if protocol.drawing == "listed" else "-")
    return figure.replace("/ 0", "/ none")


ROWS: tuple[tuple[str, str, Callable[[Protocol], str]], ...] = (
    ("episodes of a fold and seed", "episodes", lambda p: figures(p.episodes)),
    ("seeds", "seeds", lambda p: ", ".join(map(str, p.seeds))),
    ("network's square, pixels", "size", _size),
    ("image", "geometry", lambda p: GEOMETRY[p.geometry]),
    ("compared at", "label_resolution", lambda p: RESOLUTION[p.label_resolution]),
    ("bilinear logits, corners aligned", "align_corners", lambda p: "yes" if p.align_corners else "no"),
    ("label 255", "background_255", _background),
    ("least support object, pixels", "min_pixels", _min_pixels),
    ("drawing", "drawing", lambda p: DRAWING[p.drawing]),
    ("processes that draw", "workers", lambda p: figures(p.workers)),
    ("COCO folds", "coco_folds", lambda p: p.coco_folds),
    ("mIoU", "rule", lambda p: RULE[p.rule]),
    ("FB-IoU", "fb_iou", lambda p: "yes" if p.fb_iou else "no"),
)


def table() -> str:
    """The five protocols as columns, facts as rows."""
    rows = [["", *(f"`{name}`" for name in PROTOCOLS)]]
    rows += [[label, *(text(protocol) for protocol in PROTOCOLS.values())] for label, _, text in ROWS]
    return markdown(rows)


def sources() -> str:
    """A list per repository: for each fact, the file and the lines that say so."""
    parts = []
    for name, protocol in PROTOCOLS.items():
        lines = [f"- {label}: {protocol.where[fact]}" for label, fact, _ in ROWS if fact in protocol.where]
        text = "\n".join(lines).replace("*", "\\*")
        parts.append(f"**`{name}`**, {protocol.repository or 'this project'}\n\n{text}")
    return "\n\n".join(parts)


def markdown(rows: Sequence[Sequence[str]]) -> str:
    """Rows as a Markdown table, the first as its head."""
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([lines[0], "|" + "---|" * len(rows[0]), *lines[1:]])


def put_between(page: str, mark: str, text: str) -> str:
    """The page with `text` between the comments "MARK begins" and "MARK ends"."""
    begin, end = f"<!-- {mark} begins -->", f"<!-- {mark} ends -->"
    before, found, rest = page.partition(begin)
    _, also_found, after = rest.partition(end)
    if not found or not also_found:
        raise SystemExit(f"{PAGE.name} has no marks {begin} and {end}; put them where the table belongs")
    return f"{before}{begin}\n\n{text}\n\n{end}{after}"


def whole(page: str) -> str:
    """The page with table and sources written anew."""
    return put_between(put_between(page, "protocols", table()), "sources", sources())


if __name__ == "__main__":
    PAGE.write_text(whole(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
