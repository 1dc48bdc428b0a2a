"""The drawings of the method: parts and symbols are there, each lesson lights its own, and the cycle is a real one."""

import re
from xml.etree import ElementTree

import draw_cycle
import draw_network
from PIL import Image
from places import ROOT
from test_figures import TOLERANCE, difference

FIGURES, PRIME = ROOT / "figures", "'"
PLAIN = str.maketrans({"\N{PRIME}": PRIME, "\N{ZERO WIDTH SPACE}": ""})
BOXES = ("backbone, frozen", "masked average", "CCM", "PIM", "dense comparison", "MSF", "decoder", "auxiliary branch")


def parts(name):
    groups = [group for group in ElementTree.parse(FIGURES / name).iter() if "data-part" in group.attrib]
    texts = [" ".join("".join(t.itertext()) for t in g.iter("{http://www.w3.org/2000/svg}text")) for g in groups]
    states = [(g.attrib["class"].split()[1:], text.translate(PLAIN)) for g, text in zip(groups, texts, strict=True)]
    return dict(zip((g.attrib["data-part"] for g in groups), states, strict=True))


def test_drawings_are_those_that_are_drawn_now_and_each_lesson_lights_its_own():
    for name, content in draw_network.files().items():
        assert (FIGURES / name).read_text(encoding="utf-8") == content, f"{name}: run `make figures`"
    for lesson, told in draw_network.LESSONS.items():
        states = {name: state for name, (state, _) in parts(f"network_{lesson}.svg").items()}
        assert sorted(name for name in states if states[name] == ["lit"]) == sorted(told.boxes)
        assert ["faded"] in states.values()


def test_boxes_are_joined_and_symbols_have_the_shapes_of_the_method_page():
    shown = {name: text for name, (_, text) in parts("network.svg").items()}
    assert all(any(name in text for text in shown.values()) for name in BOXES)
    assert {end for ends in [*draw_network.LINES, *draw_network.TRAINING_LINES] for end in ends} | {"Y"} == set(shown)
    known, page = {}, (ROOT / "docs" / "method.md").read_text(encoding="utf-8").replace("n_maps", "12")
    for symbols, shapes in re.findall(r"^\| ([^|]+) \| (\[[^|]+\])[^|]*\|", page, re.MULTILINE):
        bare = re.findall(r"\[[^]]*\]", shapes.replace("B, ", "").replace("K, ", ""))
        known |= dict(zip(symbols.split(", "), bare, strict=False))
    for name in ("M_s", "F_s", "F_q", "P", "P_q", "P'", "P_q'", "F_q'", "Y", "F_q^final"):
        assert shown[name] == f"{re.sub('[_^]', '', name)} {known[name.rstrip(PRIME)]}"


def test_the_cycles_are_real_and_the_rejected_one_lies_on_other_objects(tmp_path):
    toy, opened = draw_cycle.opened_case()
    own, step = opened.episode.class_index + 1, opened.query_image.shape[0] // opened.trace.query.shape[-1]
    for case, is_kept in zip(draw_cycle.cases(toy, opened), (True, False), strict=True):
        for image, cell in ((opened.episode.query, case.cycle.match), (opened.episode.support[0], case.cycle.landing)):
            seen = toy.world[image].labels[tuple(slice(place * step, (place + 1) * step) for place in cell)]
            assert seen.min() > 0 and (seen == own).all() == is_kept and (seen == own).any() == is_kept
    draw_cycle.save(tmp_path)
    assert difference(tmp_path / "cycle.png", FIGURES / "cycle.png") < TOLERANCE, "run `make figures`"
    assert (FIGURES / "cycle.png").stat().st_size < 150_000 and (FIGURES / "cycle.gif").stat().st_size < 400_000
    with Image.open(FIGURES / "cycle.gif") as shipped, Image.open(tmp_path / "cycle.gif") as made:
        assert shipped.n_frames == made.n_frames == 20 and shipped.info["loop"] == 0
