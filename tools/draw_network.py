"""Draw figures/network.svg, the picture of the method, with a variant per lesson, and the badges.

    python tools/draw_network.py               # in place
    python tools/draw_network.py --out FOLDER  # elsewhere

Symbols and shapes are those of docs/method.md, for one support image and without the batch. Places are set by hand. The
picture brings its own background and has the colours of a light and of a dark page. In network_N.svg the parts that
lesson N is about are lit, the boxes it explains are outlined, and the rest is faded.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import NamedTuple

FOLDER = Path(__file__).resolve().parents[1] / "figures"
WIDTH, HEIGHT = 1150, 640


class Lesson(NamedTuple):
    """What a variant shows: the boxes that the lesson explains, and what else it needs."""

    boxes: frozenset[str]
    symbols: frozenset[str]


def _lesson(boxes: str, symbols: str) -> Lesson:
    return Lesson(frozenset(boxes.split()), frozenset(symbols.split()))


LESSONS = {
    2: _lesson("backbone reduce average compare", "support query M_s F_s F_q P X Y"),
    3: _lesson("CCM", "M_s F_s F_q P P_q"),
    4: _lesson("PIM", "P P_q F_q P' P_q' F_q'"),
    5: _lesson("compare MSF decoder", "P' P_q' F_q' X Y F_q^final prediction"),
    6: _lesson(
        "reduce PIM MSF decoder auxiliary loss",
        "support query M_s F_s F_q average P CCM P_q P' P_q' F_q' compare Y F_q^final prediction",
    ),
}

# What each part is, as a reader of the page hears it or sees it under the pointer.
PARTS = {
    "support": "support image with the mask of the object",
    "query": "query image",
    "backbone": "backbone, frozen, the same for both images; gives X_s and X_q",
    "X": "X_s and X_q, frozen features, [D, h, w]",
    "reduce": "1 x 1 convolution and ReLU, trained, the same for both; gives F_s and F_q",
    "M_s": "M_s, share of the mask in each cell, [h, w]",
    "F_s": "F_s, support features, [C, h, w]",
    "F_q": "F_q, query features, [C, h, w]",
    "average": "masked average of F_s under M_s; gives P",
    "P": "P, support prototype, [C]",
    "CCM": "cycle comparison module: selects reliable query cells from F_s, F_q, M_s and P; their mean is P_q",
    "P_q": "P_q, pseudo-prototype, from the query, [C]",
    "PIM": "prototype interaction module: P, P_q and F_q reinforce each other",
    "P'": "P', support prototype after the interaction, [C]",
    "P_q'": "P_q', pseudo-prototype after the interaction, [C]",
    "F_q'": "F_q', query features after the interaction, [C, h, w]",
    "compare": "dense comparison: cosines of every query cell with both prototypes and that of the background, in F_q'"
    " and in both stages of X_q",
    "Y": "Y, 12 comparison maps, [12, h, w]",
    "MSF": "multi-scale fusion module: F_q', P', P_q' and Y at several scales",
    "F_q^final": "F_q^final, fused features, [C, h, w]",
    "decoder": "decoder: two logits per cell, resized to H x W",
    "prediction": "predicted mask, [H, W]",
    "auxiliary": "auxiliary branch, in training only: P' segments the query from F_q'",
    "loss": "loss, in training only: cross-entropy of both answers with the true mask of the query",
}

# From part to part: the way of the line. Lines that share a way lie on each other.
LINES = {
    ("support", "backbone"): "M130 142H150",
    ("query", "backbone"): "M130 402H150",
    ("backbone", "reduce"): "M204 272H222",
    ("reduce", "F_s"): "M260 142H280",
    ("reduce", "F_q"): "M260 402H280",
    ("support", "M_s"): "M78 90V60H284",
    ("M_s", "average"): "M340 60H370V126H388",
    ("F_s", "average"): "M358 146H370V126H388",
    ("M_s", "CCM"): "M340 60H370V252H388",
    ("F_s", "CCM"): "M358 146H370V252H388",
    ("F_q", "CCM"): "M358 402H370V292H388",
    ("average", "P"): "M512 126H532",
    ("P", "CCM"): "M544 168V192H474V216",
    ("CCM", "P_q"): "M512 272H532",
    ("P", "PIM"): "M598 126H620",
    ("P_q", "PIM"): "M598 272H620",
    ("F_q", "PIM"): "M358 402H620",
    ("PIM", "P'"): "M698 126H722",
    ("PIM", "P_q'"): "M698 272H722",
    ("PIM", "F_q'"): "M698 402H722",
    ("P'", "compare"): "M790 126H834",
    ("P_q'", "compare"): "M794 272H812V126H834",
    ("F_q'", "compare"): "M800 402H812V126H834",
    ("P'", "MSF"): "M790 126H812V212H1002",
    ("P_q'", "MSF"): "M794 272H812V212H1002",
    ("F_q'", "MSF"): "M800 402H812V212H1002",
    ("X", "compare"): "M902 62V86",
    ("compare", "MSF"): "M968 126H1002",
    ("MSF", "F_q^final"): "M1065 234V252",
    ("F_q^final", "decoder"): "M1065 330V350",
    ("decoder", "prediction"): "M1065 404V424",
}
# The same in training only; of the two that go to the auxiliary branch, the way on which they are together.
TRAINING_LINES = {
    ("F_q'", "auxiliary"): "M812 402V581H838",
    ("auxiliary", "loss"): "M978 581H1002",
    ("prediction", "loss"): "M1065 530V550",
}
JOINING = {("P'", "auxiliary"): "M790 126H812V402", ("F_q'", "auxiliary"): "M800 402H812"}

STYLE = """
svg { --card: #ffffff; --edge: #d8dde3; --ink: #1f2933; --soft: #52606d; --line: #616e7c; --faint: #d3d9df;
      --trained: #fdf0d2; --trained-edge: #c98f00; --plain: #f3f5f8; --frozen: #dcecf7; --frozen-edge: #5b9cc4;
      --support: #009e73; --query: #0072b2; --training: #b0578a; }
@media (prefers-color-scheme: dark) {
svg { --card: #171b21; --edge: #39424e; --ink: #eef2f6; --soft: #b4bfca; --line: #9aa7b4; --faint: #343c47;
      --trained: #44371a; --trained-edge: #e0ab35; --plain: #262d36; --frozen: #1d3648; --frozen-edge: #6fb4dd;
      --support: #2bbf94; --query: #4aa3dc; --training: #e08fbb; } }
.card { fill: var(--card); stroke: var(--edge); }
text { font-family: Helvetica, Arial, sans-serif; font-size: 22px; fill: var(--ink); }
.name { font-weight: bold; font-size: 24px; }
.symbol { font-family: Georgia, "Times New Roman", serif; font-style: italic; font-size: 30px; }
.small { font-size: 20px; }
.shape { fill: var(--soft); font-size: 21px; }
.end { text-anchor: end; }
.middle { text-anchor: middle; }
.line { fill: none; stroke: var(--line); stroke-width: 2.5; stroke-linejoin: round; }
.line.training { stroke: var(--training); stroke-dasharray: 7 5; }
.faded { opacity: 0.26; }
.line.faded { opacity: 1; stroke: var(--faint); }
.box { stroke-width: 2; stroke: var(--line); fill: var(--plain); }
.box.trained { fill: var(--trained); stroke: var(--trained-edge); }
.box.frozen { fill: var(--frozen); stroke: var(--frozen-edge); }
.box.training { stroke: var(--training); stroke-dasharray: 7 5; }
.lit .box { stroke-width: 5; }
.support { fill: var(--support); }
.query { fill: var(--query); }
.flake { stroke: var(--frozen-edge); stroke-width: 2.6; stroke-linecap: round; fill: none; }
"""


def markup(symbol: str) -> str:
    """A symbol as text of an SVG: P_q' with a lowered q, F_q^final with a raised word over it."""
    found = re.fullmatch(r"([A-Z])(?:_([a-z]))?(')?(?:\^(\w+))?", symbol)
    assert found is not None, symbol
    base, below, prime, above = found.groups()
    text = base
    if below:
        text += f'<tspan dy="6" font-size="20">{below}</tspan>'
    after = "\N{PRIME}" if prime else "\N{ZERO WIDTH SPACE}"
    if above:
        return text + f'<tspan dx="-10" dy="-19" font-size="18">{above}</tspan>'
    return text + f'<tspan dy="{-6 if below else 0}">{after}</tspan>'


def text(x: float, y: float, content: str, kind: str = "", *, turned: bool = False) -> str:
    turn = f' transform="rotate(-90 {x} {y})"' if turned else ""
    return f'<text x="{x}" y="{y}" class="{kind}"{turn}>{content}</text>'


def label(x: float, y: float, symbol: str, shape: str, kind: str = "") -> str:
    """A symbol and under it its shape."""
    return text(x, y, markup(symbol), f"symbol {kind}") + text(x, y + 28, shape, f"shape {kind}")


def box(x: float, y: float, width: float, height: float, kind: str = "") -> str:
    return f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="10" class="box {kind}"/>'


def cuboid(x: float, y: float, stream: str) -> str:
    """A stack of feature maps, 74 x 68."""
    front = f'<rect x="{x}" y="{y + 14}" width="54" height="54" class="{stream}" fill-opacity="0.45"/>'
    top = f'<path d="M{x} {y + 14}l20 -14h54l-20 14z" class="{stream}" fill-opacity="0.7"/>'
    side = f'<path d="M{x + 54} {y + 14}l20 -14v54l-20 14z" class="{stream}"/>'
    cells = "".join(f"M{x + 13.5 * k} {y + 14}v54M{x} {y + 14 + 13.5 * k}h54" for k in (1, 2, 3))
    return f'{front}{top}{side}<path d="{cells}" stroke="var(--card)" stroke-width="1.5" stroke-opacity="0.8"/>'


def vector(x: float, y: float, stream: str, shades: tuple[float, ...]) -> str:
    """A prototype as a column of channels, 20 x 78."""
    return "".join(
        f'<rect x="{x}" y="{y + 13 * row}" width="20" height="12" rx="2" class="{stream}" fill-opacity="{shade}"/>'
        for row, shade in enumerate(shades)
    )


_CUP = "M-24 -26h44v34q0 20 -20 20h-4q-20 0 -20 -20zM20 -18h8q14 0 14 15t-16 15h-6v-9h5q8 0 8 -6t-6 -6h-7z"


def scene(x: float, y: float, name: str) -> str:
    """A drawn picture of 100 x 100: a cup beside other things, in the support, in the query, or found there."""
    ground = {"support": "#e9dcc3", "query": "#cfe0cf", "prediction": "#dcdcdc"}[name]
    inner = f'<rect width="100" height="100" rx="8" fill="{ground}"/>'
    if name == "support":
        inner += '<path d="M8 92l16 -30l16 30z" fill="#7b6a9c"/><circle cx="84" cy="18" r="9" fill="#b86b4b"/>'
        inner += f'<path transform="translate(48 50)" d="{_CUP}" fill="#3f7fa6"/>'
        inner += '<path d="M25 38h42M25 52h42" stroke="#cfe5f2" stroke-width="5"/>'
        for colour, width in (("#000000", 6), ("#ffffff", 2.5)):
            inner += (
                f'<path transform="translate(48 50)" d="{_CUP}" fill="none" stroke="{colour}" stroke-width="{width}"/>'
            )
    else:
        found = name == "prediction"
        things = ("#c3c3c3", "#c3c3c3") if found else ("#b86b4b", "#7b6a9c")
        inner += (
            f'<circle cx="25" cy="72" r="17" fill="{things[0]}"/><path d="M8 34l14 -26l14 26z" fill="{things[1]}"/>'
        )
        colour = "#e69f00" if found else "#2f5f86"
        inner += f'<path transform="translate(62 42) rotate(18) scale(0.82)" d="{_CUP}" fill="{colour}"/>'
    return f'<g transform="translate({x} {y})">{inner}</g>'


def flake(x: float, y: float) -> str:
    """A snowflake: frozen."""
    arm = '<path class="flake" d="M0 0V-15M-5 -13L0 -8L5 -13" transform="translate({} {}) rotate({})"/>'
    return "".join(arm.format(x, y, turn) for turn in range(0, 360, 60))


def grid_mask(x: float, y: float) -> str:
    """M_s as a grid of 4 x 4 shares, 48 x 48."""
    shares = (0.1, 0.1, 0.1, 0.1, 0.5, 0.9, 0.9, 0.4, 0.6, 1, 1, 0.5, 0.1, 0.7, 0.6, 0.1)
    return "".join(
        f'<rect x="{x + 12 * (k % 4)}" y="{y + 12 * (k // 4)}" width="11" height="11" class="support"'
        f' fill-opacity="{share}"/>'
        for k, share in enumerate(shares)
    )


_P, _P_Q = (0.9, 0.35, 0.7, 0.2, 1.0, 0.5), (0.75, 0.5, 0.9, 0.3, 0.85, 0.25)
_P_AFTER, _P_Q_AFTER = (1.0, 0.2, 0.85, 0.12, 1.0, 0.3), (0.85, 0.3, 1.0, 0.18, 0.85, 0.15)


def drawn_parts() -> dict[str, str]:
    """Each part's drawing."""
    return _images() | _support_to_prototypes() | _interaction() | _to_the_mask()


def _images() -> dict[str, str]:
    frozen = f"{markup('X_s')}, {markup('X_q')}"
    return {
        "support": text(78, 217, "support", "name middle") + scene(28, 92, "support"),
        "query": text(78, 477, "query", "name middle") + scene(28, 352, "query"),
        "backbone": box(152, 92, 52, 360, "frozen")
        + flake(178, 122)
        + text(187, 290, "backbone, frozen", "name middle", turned=True),
        "X": text(206, 481, frozen, "symbol middle")
        + text(206, 509, "[D, h, w]", "shape middle")
        + text(902, 50, frozen, "symbol middle"),
        "reduce": box(224, 92, 36, 360, "trained")
        + text(250, 272, "1 \N{MULTIPLICATION SIGN} 1 convolution", "middle", turned=True),
    }


def _support_to_prototypes() -> dict[str, str]:
    return {
        "M_s": grid_mask(288, 36) + label(382, 52, "M_s", "[h, w]"),
        "F_s": cuboid(282, 108, "support") + label(316, 207, "F_s", "[C, h, w]", "middle"),
        "F_q": cuboid(282, 362, "query") + label(316, 461, "F_q", "[C, h, w]", "middle"),
        "average": box(390, 88, 122, 76) + text(451, 119, "masked", "middle") + text(451, 146, "average", "middle"),
        "P": vector(534, 87, "support", _P) + label(560, 122, "P", "[C]"),
        "CCM": box(390, 218, 122, 108)
        + text(451, 252, "CCM", "name middle")
        + text(451, 281, "cycle", "small middle")
        + text(451, 305, "comparison", "small middle"),
        "P_q": vector(534, 233, "query", _P_Q) + label(560, 268, "P_q", "[C]"),
    }


def _interaction() -> dict[str, str]:
    return {
        "PIM": box(622, 88, 76, 364, "trained")
        + text(660, 124, "PIM", "name middle")
        + text(668, 292, "prototype interaction", "middle", turned=True),
        "P'": vector(724, 87, "support", _P_AFTER) + label(750, 122, "P'", "[C]"),
        "P_q'": vector(724, 233, "query", _P_Q_AFTER) + label(750, 268, "P_q'", "[C]"),
        "F_q'": cuboid(724, 362, "query") + label(757, 461, "F_q'", "[C, h, w]", "middle"),
    }


def _to_the_mask() -> dict[str, str]:
    return {
        "compare": box(836, 88, 132, 76)
        + text(902, 119, "dense", "middle")
        + text(902, 146, "comparison", "small middle"),
        "Y": text(842, 196, markup("Y"), "symbol") + text(870, 195, "[12, h, w]", "shape"),
        "MSF": box(1004, 88, 122, 146, "trained")
        + text(1065, 130, "MSF", "name middle")
        + text(1065, 168, "multi-scale", "small middle")
        + text(1065, 192, "fusion", "small middle"),
        "F_q^final": cuboid(1030, 254, "query") + label(926, 284, "F_q^final", "[C, h, w]"),
        "decoder": box(1004, 352, 122, 52, "trained") + text(1065, 386, "decoder", "name middle"),
        "prediction": scene(1015, 426, "prediction")
        + text(1003, 474, "mask", "name end")
        + text(1003, 501, "[H, W]", "shape end"),
        "auxiliary": box(840, 552, 138, 60, "trained training")
        + text(909, 577, "auxiliary", "middle")
        + text(909, 602, "branch", "middle")
        + text(802, 545, markup("P'") + ", " + markup("F_q'"), "symbol end"),
        "loss": box(1004, 552, 122, 60, "training")
        + text(1065, 579, "loss", "name middle")
        + text(1065, 603, "with truth", "small middle"),
    }


def legend() -> str:
    """What fills and lines mean."""
    items = (
        (28, "frozen", "frozen"),
        (150, "trained", "trained"),
        (276, "", "no weights"),
        (442, "training", "training only"),
    )
    return "".join(
        f'<rect x="{x}" y="572" width="30" height="22" rx="5" class="box {kind}"/>' + text(x + 38, 590, words, "shape")
        for x, kind, words in items
    )


def picture(lesson: int | None = None) -> str:
    """The SVG: of the whole network, or with the parts of one lesson lit."""
    lit = LESSONS[lesson].boxes | LESSONS[lesson].symbols if lesson else frozenset(PARTS)
    outlined = LESSONS[lesson].boxes if lesson else frozenset()
    states = {name: "lit" if name in outlined else "" if name in lit else "faded" for name in PARTS}
    drawn = drawn_parts()
    card = f'<rect x="1" y="1" width="{WIDTH - 2}" height="{HEIGHT - 2}" rx="18" class="card"/>'
    rows = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}"'
        ' role="img" aria-labelledby="title desc">',
        f'<title id="title">{title(lesson)}</title>',
        f'<desc id="desc">{description()}</desc>',
        f"<style>{STYLE}</style>",
        f"<defs>{heads()}</defs>",
        card,
        *lines(lit),
        *(
            f'<g data-part="{name}" class="part {state}"><title>{PARTS[name]}</title>{drawn[name]}</g>'
            for name, state in states.items()
        ),
        legend(),
        "</svg>",
    ]
    return "\n".join(rows) + "\n"


def lines(lit: frozenset[str]) -> list[str]:
    """All lines; those between parts that are lit come last and so lie on top."""
    kinds = ((LINES, "", "head"), (JOINING, "", ""), (TRAINING_LINES, "training", "train"))
    drawn: dict[bool, list[str]] = {False: [], True: []}
    for ways, kind, head in kinds:
        for ends, way in ways.items():
            shown = lit.issuperset(ends)
            arrow = f' marker-end="url(#{head if shown else "faint"})"' if head else ""
            drawn[shown].append(f'<path class="line {kind}{"" if shown else " faded"}" d="{way}"{arrow}/>')
    return drawn[False] + drawn[True]


def heads() -> str:
    """The heads of arrows, one of each colour of line."""
    shape = '<path d="M0 0.5L10 5L0 9.5z" fill="var({})"/>'
    marker = '<marker id="{}" viewBox="0 0 10 10" refX="8.5" refY="5" markerWidth="13" markerHeight="13"'
    marker += f' markerUnits="userSpaceOnUse" orient="auto">{shape}</marker>'
    colours = {"head": "--line", "faint": "--faint", "train": "--training"}
    return "".join(marker.format(*colour) for colour in colours.items())


def title(lesson: int | None) -> str:
    if lesson is None:
        return "DPNet, the dual prototype network"
    return f"DPNet, with the parts of lesson {lesson} lit: {', '.join(sorted(LESSONS[lesson].boxes))}"


def description() -> str:
    """The picture in words."""
    return "; ".join(PARTS.values()).replace("'", "\N{PRIME}") + "."


BADGES = {"stated": ("stated", "#00664a"), "precedent": ("precedent", "#005a8c"), "ours": ("our choice", "#8a4b00")}
BADGES |= {"binder": ("open in Binder", "#444444"), "colab": ("open in Colab", "#444444")}  # of the README


def badge(words: str, colour: str) -> str:
    """A pill that stands in a line of text."""
    width = round(7.0 * len(words) + 14)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="16" viewBox="0 0 {width} 16" role="img"'
        f' aria-label="{words}"><title>{words}</title>'
        f'<rect width="{width}" height="16" rx="8" fill="{colour}"/><text x="{width / 2}" y="11.8" fill="#ffffff"'
        f' font-family="Helvetica, Arial, sans-serif" font-size="11.5" font-weight="bold" text-anchor="middle"'
        f' textLength="{width - 14}" lengthAdjust="spacingAndGlyphs">{words}</text></svg>\n'
    )


def files() -> dict[str, str]:
    """Every file that is drawn here, by its name under figures/."""
    drawn = {"network.svg": picture()} | {f"network_{lesson}.svg": picture(lesson) for lesson in LESSONS}
    return drawn | {f"badges/{name}.svg": badge(*look) for name, look in BADGES.items()}


def main() -> int:
    parser = argparse.ArgumentParser(description="Draw the network and the badges.")
    parser.add_argument("--out", type=Path, default=FOLDER)
    args = parser.parse_args()
    for name, content in files().items():
        path = args.out / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
