"""Draw the little pictures of docs/glossary.md, one per term: figures/glossary/term_NAME.svg.

A picture is a list of parts: grids of cells (a letter is a colour), arrows, words, bars. Each has a light card of its
own, so that it is right on a dark page as well. The colours are those of dpnet_lite/experiments/plots.py.

    python tools/draw_glossary.py               # in place
    python tools/draw_glossary.py --out FOLDER  # elsewhere
"""

from __future__ import annotations

import argparse
from html import escape
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[1] / "figures"
WIDTH, HEIGHT = 150, 84
# Object, selected, truth, fault; background, dark, white; of two more strengths of blue.
COLOURS = {
    "o": "#E69F00", "b": "#0072B2", "g": "#009E73", "r": "#D55E00", ".": "#dddddd", "d": "#888888", "w": "#ffffff",
    "B": "#56B4E9", "l": "#cfe6f5", "k": "#222222",
}  # fmt: skip
SCENE = (".....", ".oo..", ".ooo.", "..o..", ".....")


def grid(x: float, y: float, rows: tuple[str, ...], cell: float = 9) -> str:
    """Cells row by row; a space leaves one out."""
    out = []
    for j, row in enumerate(rows):
        for i, letter in enumerate(row):
            if letter != " ":
                place = f'x="{x + i * cell:g}" y="{y + j * cell:g}" width="{cell - 1:g}" height="{cell - 1:g}"'
                out.append(f'<rect {place} fill="{COLOURS[letter]}"/>')
    return "".join(out)


def arrow(x1: float, y1: float, x2: float, y2: float, *, dashed: bool = False, bend: float = 0) -> str:
    """A line with a head; `bend` lifts its middle."""
    style = ' stroke-dasharray="4 3"' if dashed else ""
    middle = f"{(x1 + x2) / 2:g} {(y1 + y2) / 2 - bend:g}"
    way = f"M{x1:g} {y1:g}Q{middle} {x2:g} {y2:g}"
    return f'<path d="{way}" fill="none" stroke="#222" stroke-width="1.6" marker-end="url(#h)"{style}/>'


def text(x: float, y: float, words: str, size: float = 11) -> str:
    place = f'x="{x:g}" y="{y:g}" font-size="{size:g}" text-anchor="middle"'
    return f"<text {place}>{escape(words)}</text>"


def bar(x: float, y: float, width: float, height: float, letter: str) -> str:
    return f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" fill="{COLOURS[letter]}"/>'


def dot(x: float, y: float, letter: str, radius: float = 4) -> str:
    return f'<circle cx="{x:g}" cy="{y:g}" r="{radius:g}" fill="{COLOURS[letter]}"/>'


def ring(x: float, y: float, width: float, height: float) -> str:
    """An outline around something."""
    place = f'x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}"'
    return f'<rect {place} rx="3" fill="none" stroke="#222" stroke-width="1.8"/>'


def vector(x: float, y: float, letters: str, cell: float = 9) -> str:
    """A column of cells: the channels of one vector."""
    return grid(x, y, tuple(letters), cell)


def box(x: float, y: float, width: float, words: str) -> str:
    return ring(x, y, width, 22) + text(x + width / 2, y + 15, words, 10.5)


def line(x: float, low: float, high: float, middle: float, letter: str) -> str:
    """An interval, upright."""
    stroke = f'stroke="{COLOURS[letter]}" stroke-width="3"'
    return f'<path d="M{x:g} {low:g}V{high:g}" {stroke}/>' + dot(x, middle, letter, 5)


def taps(x: float, step: int) -> str:
    """The nine cells that a dilated convolution looks at, of 13 x 13."""
    seen = {6 - step, 6, 6 + step}
    return grid(x, 16, tuple("".join("b" if {i, j} <= seen else "." for i in range(13)) for j in range(13)), 3.4)


TWO = (".....", ".bb..", ".bb..", ".....", "...oo", "...oo")
PICTURES: dict[str, str] = {
    "support": grid(53, 18, SCENE) + ring(60, 25, 29, 29) + text(75, 78, "image and mask"),
    "query": grid(53, 18, (".....", "....o", "...oo", "...o.", ".....")) + text(75, 78, "where is it?"),
    "shot": "".join(grid(14 + 44 * k, 24, SCENE[1:4], 8) for k in range(3)) + text(75, 70, "K = 3"),
    "episode": grid(12, 20, SCENE, 8) + arrow(58, 40, 88, 40) + grid(96, 20, SCENE[::-1], 8) + text(75, 78, "one task"),
    "base_and_novel_class": grid(15, 30, ("bbbbbbbbb", "bbbbbbbbb"), 9)
    + grid(104, 30, ("ooo", "ooo"), 9)
    + text(55, 68, "trained on")
    + text(116, 68, "held back"),
    "fold": "".join(
        grid(24, 12 + 17 * f, ("".join("o" if k // 3 == f else "b" for k in range(12)),), 9) for f in range(4)
    ),
    "backbone": grid(8, 24, SCENE, 7)
    + arrow(46, 42, 58, 42)
    + box(60, 31, 42, "frozen")
    + arrow(104, 42, 114, 42)
    + vector(120, 24, "bBlB"),
    "cell": grid(14, 20, (".....", ".....", "..o..", "....."), 11)
    + arrow(72, 50, 108, 42)
    + vector(116, 24, "bBlbB", 8),
    "prototype": grid(14, 22, SCENE, 8) + arrow(60, 42, 96, 42) + vector(106, 24, "bBlb") + text(110, 76, "P"),
    "masked_average": grid(10, 26, (".o", "oo"), 11)
    + text(75, 32, "sum", 11)
    + arrow(40, 38, 98, 38)
    + vector(106, 20, "bBlb")
    + text(68, 70, "÷ sum of mask", 10),
    "comparison": vector(16, 24, "bBlb")
    + text(40, 48, "cos", 11)
    + grid(66, 14, ("lllll", "lBBll", "lBbbl", "llbll", "lllBl"), 11),
    "correlation": grid(46, 12, ("lBlllb", "llblll", "lllBll", "Blllll", "llllbl"), 11)
    + text(75, 80, "support by query", 10),
    "cycle": grid(12, 22, SCENE, 8)
    + grid(98, 22, SCENE, 8)
    + ring(19, 29, 26, 26)
    + arrow(36, 34, 112, 34, bend=24)
    + arrow(112, 50, 34, 50, bend=-24),
    "reliable_set": grid(52, 16, (".....", ".ob..", ".bbo.", "..b..", "....."), 10),
    "pseudo_prototype": grid(14, 22, (".....", ".bb..", ".obb.", "..b..", "....."), 8)
    + arrow(60, 42, 96, 42)
    + vector(106, 24, "BblB")
    + text(112, 78, "from the query", 9),
    "precision_and_recall": grid(10, 12, (".....", ".bbo.", "rboo.", "r.oo."), 11)
    + text(110, 28, "precision 3/5", 9.5)
    + text(110, 46, "recall 3/8", 9.5)
    + text(75, 78, "blue: hit, red: wrong", 10),
    "weighted_pooling": vector(24, 22, "bBlB")
    + bar(52, 22, 60, 8, "b")
    + bar(52, 31, 34, 8, "b")
    + bar(52, 40, 6, 8, "b")
    + bar(52, 49, 28, 8, "b"),
    "consensus": grid(8, 20, TWO, 7)
    + arrow(48, 40, 60, 40)
    + grid(64, 20, tuple(r.replace("o", "B") for r in TWO), 7)
    + arrow(103, 40, 114, 40)
    + grid(116, 20, tuple(r.replace("o", "l")[0:4] for r in TWO), 7),
    "oracle": grid(52, 16, (".....", ".gg..", ".ggg.", "..g..", "....."), 10)
    + text(75, 80, "selected with the truth", 10),
    "pim": vector(16, 22, "bBlb")
    + vector(44, 22, "Bblb")
    + arrow(30, 14, 46, 14)
    + arrow(46, 66, 30, 66)
    + arrow(62, 40, 84, 40)
    + vector(94, 22, "bbBb")
    + vector(118, 22, "bblb"),
    "gate": vector(24, 22, "bbbb")
    + text(48, 50, "*", 16)
    + bar(60, 22, 30, 8, "o")
    + bar(60, 31, 8, 8, "o")
    + bar(60, 40, 36, 8, "o")
    + bar(60, 49, 18, 8, "o")
    + vector(118, 22, "blbB"),
    "msf": grid(10, 14, (".." * 3,) * 6, 6)
    + grid(56, 22, ("...", "...", "..."), 9)
    + grid(94, 30, (".",), 18)
    + text(130, 42, "→", 14)
    + text(75, 78, "fine to coarse"),
    "aspp": taps(6, 1) + taps(54, 3) + taps(102, 6) + text(75, 78, "taps 1, 3, 6 apart", 10),
    "decoder": grid(14, 28, ("Bb", "lB"), 14)
    + arrow(50, 42, 72, 42)
    + grid(80, 14, (".....", ".oo..", ".ooo.", "..oo.", "....."), 11),
    "auxiliary_branch": box(14, 12, 54, "query")
    + box(14, 50, 54, "support")
    + text(120, 27, "loss", 11)
    + text(120, 65, "one more", 10)
    + arrow(72, 23, 90, 23)
    + arrow(72, 61, 90, 61, dashed=True),
    "head": box(10, 31, 56, "backbone") + arrow(68, 42, 80, 42) + ring(82, 25, 58, 34) + text(111, 46, "head", 11),
    "channel": vector(30, 20, "bBlB", 11)
    + arrow(62, 37, 46, 37)
    + text(102, 41, "one channel")
    + text(75, 80, "feature: all of them", 10),
    "cosine": arrow(24, 66, 104, 66)
    + arrow(24, 66, 84, 24)
    + text(62, 59, "angle", 10)
    + text(84, 16, "near 1: alike", 10),
    "background_prototype": grid(12, 22, tuple(r.replace(".", "b").replace("o", ".") for r in SCENE), 8)
    + arrow(58, 42, 92, 42)
    + vector(104, 24, "lbBl"),
    "support_only": vector(20, 24, "bBlb")
    + vector(44, 24, "bBlb")
    + text(24, 74, "P", 11)
    + text(62, 74, "P, not Pq", 10)
    + arrow(60, 42, 78, 42)
    + grid(88, 22, SCENE, 8),
    "training_free": grid(12, 22, SCENE, 8) + text(104, 38, "nearer to P", 10) + text(104, 56, "or the other?", 10),
    "auc": '<path d="M40 66V16M40 66H110" stroke="#222" stroke-width="1.6"/>'
    + '<path d="M40 66Q44 22 106 18V66z" fill="#56B4E9"/>'
    + text(76, 80, "area", 10),
    "seed": "".join(text(30, 24 + 24 * k, f"seed {k}", 11) + arrow(52, 20 + 24 * k, 72, 20 + 24 * k) for k in range(3))
    + grid(84, 12, ("obl",), 14)
    + grid(84, 36, ("lbo",), 14)
    + grid(84, 60, ("bol",), 14),
    "iou": grid(35, 12, ("ooo  ", "obbgg", "obbgg", " gggg"), 11) + text(75, 76, "blue ÷ all coloured", 10),
    "miou": bar(26, 22, 16, 40, "b")
    + bar(50, 36, 16, 26, "b")
    + bar(74, 14, 16, 48, "b")
    + '<path d="M20 37H98" stroke="#222" stroke-width="1.6" stroke-dasharray="4 3"/>'
    + text(122, 41, "mean")
    + text(58, 76, "classes", 10),
    "fb_iou": grid(14, 20, SCENE, 9)
    + text(106, 32, "object", 11)
    + text(106, 48, "+ background", 10)
    + text(106, 64, "÷ 2", 11),
    "gap": grid(12, 22, SCENE, 8)
    + text(75, 44, "≠", 20)
    + grid(98, 22, tuple(r.replace("o", "b").replace(".", "l") for r in SCENE[::-1]), 8),
    "paired_difference": dot(40, 24, "o")
    + dot(40, 48, "b")
    + dot(75, 18, "o")
    + dot(75, 38, "b")
    + dot(110, 34, "o")
    + dot(110, 60, "b")
    + arrow(40, 44, 40, 30)
    + arrow(75, 34, 75, 24)
    + arrow(110, 56, 110, 40)
    + text(75, 78, "same episodes", 10),
    "interval": '<path d="M20 50H130" stroke="#888" stroke-width="1.4" stroke-dasharray="4 3"/>'
    + text(12, 54, "0", 11)
    + line(52, 12, 38, 24, "b")
    + line(100, 32, 62, 44, "o")
    + text(52, 78, "differs", 10)
    + text(104, 78, "cannot say", 10),
    "bootstrap": grid(12, 12, ("obglr",), 11)
    + arrow(38, 26, 38, 40)
    + grid(12, 44, ("booll",), 11)
    + text(38, 72, "drawn again", 10)
    + arrow(70, 42, 82, 42)
    + "".join(bar(88 + 11 * k, 62 - h, 10, h, "b" if 0 < k < 4 else ".") for k, h in enumerate((6, 22, 40, 26, 8)))
    + text(115, 76, "middle 95 %", 9.5),
    "coverage": '<path d="M12 38H138" stroke="#222" stroke-width="1.6" stroke-dasharray="4 3"/>'
    + "".join(
        line(22 + 15 * k, middle - 13, middle + 13, middle, "o" if abs(middle - 38) > 13 else "b")
        for k, middle in enumerate((34, 44, 30, 56, 40, 29, 46, 36))
    )
    + text(75, 80, "7 of 8 hold the truth", 10),
    "p_value": "".join(
        bar(16 + 12 * k, 62 - h, 11, h, "o" if k in (0, 9) else ".")
        for k, h in enumerate((4, 10, 20, 34, 44, 44, 34, 20, 10, 4))
    )
    + text(75, 78, "orange: as far from 0", 10),
    "stratum": "".join(dot(18 + 13 * k, y, "lBb"[k // 3]) for k, y in enumerate((52, 44, 56, 40, 34, 44, 24, 18, 28)))
    + "".join(f'<path d="M{x} 10V64" stroke="#888" stroke-width="1.4" stroke-dasharray="4 3"/>' for x in (50.5, 89.5))
    + text(75, 78, "small to large", 10),
    "policy": grid(10, 18, ("....", ".bb.", "....", ".dd."), 9)
    + grid(57, 18, ("....", ".bb.", "....", ".ww."), 9)
    + ring(65, 44, 19, 10)
    + grid(104, 18, ("....", ".bb.", "....", ".oo."), 9)
    + '<path d="M104 18L139 53M139 18L104 53" stroke="#D55E00" stroke-width="3"/>'
    + text(28, 72, "background", 8.5)
    + text(75, 72, "ignore", 8.5)
    + text(122, 72, "drop", 8.5),
    "protocol": grid(8, 20, SCENE, 8)
    + arrow(50, 32, 96, 22)
    + arrow(50, 44, 96, 54)
    + text(120, 27, "a score", 11)
    + text(120, 58, "another", 11)
    + text(62, 78, "one answer, two counts", 9.5),
    "holm": "".join(bar(26 + 26 * k, 62 - 11 * (4 - k), 16, 11 * (4 - k), "b") for k in range(4))
    + "".join(text(34 + 26 * k, 76, f"{4 - k} p", 10) for k in range(4)),
}
HEAD = (
    '<marker id="h" viewBox="0 0 8 8" refX="6" refY="4" markerWidth="5" markerHeight="5" orient="auto-start-reverse">'
    '<path d="M0 0L8 4L0 8z" fill="#222"/></marker>'
)


def drawing(name: str) -> str:
    """The whole SVG of a term."""
    label = name.replace("_", " ")
    card = f'<rect width="{WIDTH}" height="{HEIGHT}" rx="6" fill="#ffffff" stroke="#cccccc"/>'
    font = 'font-family="Helvetica, Arial, sans-serif"'
    size = f'width="{2 * WIDTH}" height="{2 * HEIGHT}" viewBox="0 0 {WIDTH} {HEIGHT}"'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" aria-label="{label}" {font}>'
        f"<defs>{HEAD}</defs>{card}{PICTURES[name]}</svg>\n"
    )


def files() -> dict[str, str]:
    """Every file that is drawn here, by its name under figures/."""
    return {f"glossary/term_{name}.svg": drawing(name) for name in PICTURES}


def main() -> None:
    parser = argparse.ArgumentParser(description="Draw the pictures of the glossary.")
    parser.add_argument("--out", type=Path, default=FOLDER)
    folder = parser.parse_args().out
    (folder / "glossary").mkdir(parents=True, exist_ok=True)
    for name, content in files().items():
        (folder / name).write_text(content, encoding="utf-8")


if __name__ == "__main__":
    main()
