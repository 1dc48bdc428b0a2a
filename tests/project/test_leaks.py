"""The shipped heads for photographs never saw the objects that they are shown on, nor what is another name for one."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import pytest
from places import ROOT

from dpnet_lite.checkpoints import load_checkpoint
from dpnet_lite.datasets import objects
from dpnet_lite.experiments.experiment import plain_name

HEADS = sorted((ROOT / "dpnet_lite" / "weights").glob("photographs*.safetensors"))

SHOES = "shoe sneaker trainer boot bootie footwear sandal slipper loafer clog moccasin stiletto heel cleat flipflop"
DOGS = "dog puppy hound canine wolf fox jackal coyote dingo husky terrier poodle bulldog labrador retriever spaniel"
PLUSH = "toy plush plushie doll figurine teddy bear panda cub"
# Of each object the words, in the singular, that name it, a kind of it or its next of kin; also in Indonesian, as some
# of the training classes are. A class is a leak if one of its words is here.
KIN = {
    "backpack": "backpack rucksack knapsack daypack schoolbag bookbag haversack satchel bag handbag suitcase",
    "teddy bear": PLUSH,
    "candle": "candle taper tealight candlestick candelabra candleholder lilin",
    "sneaker": SHOES,
    "dog": f"{DOGS} anjing",
    "rubber duck": "duck duckling bird goose geese swan waterfowl fowl chicken hen ayam bebek burung",
    "boot": SHOES,
    "toy sloth": f"{PLUSH} sloth",
    "toy monster": f"{PLUSH} monster creature alien goblin troll",
    "toy car": "toy car truck automobile auto vehicle jeep van pickup lorry taxi cab suv sedan mobil",
    "toy robot": "toy robot android cyborg droid",
    "shiny sneaker": SHOES,
    "toy wolf": f"{PLUSH} {DOGS}",
}
# Whole names in which such a word means something else.
HARMLESS = {
    "hot dog": "a sausage in a bun",
    "tandoori chicken": "a dish",
    "chilli chicken": "a dish",
    "ayam": "a dish of chicken",
    "hot water bag": "a flat bottle of rubber",
}


def forms(word: str) -> set[str]:
    """A word in the singular and in the plural."""
    endings = {"y": "ies", "f": "ves"}  # puppies, wolves
    return {word, f"{word}s", f"{word}es", f"{word[:-1]}{endings.get(word[-1], word[-1])}"}


def words(name: str) -> list[str]:
    """The words of a class name in lower case, whatever separates them: "Dump_Truck", "dumpTruck", "dump-truck"."""
    name = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name.rpartition("/")[2])
    return re.findall(r"[^\W\d_]+", name.casefold())


def leaks(classes: Iterable[str]) -> list[str]:
    """What stands for a shipped object among the names of classes, as "class: object (word)"."""
    found = []
    for name in classes:
        if " ".join(words(name)) not in HARMLESS:
            for shown, kin in KIN.items():
                named = [word for word in kin.split() if forms(word) & set(words(name))]
                found += [f"{name}: {shown} ({named[0]})"] if named else []
    return found


def faults(metadata: dict[str, Any]) -> list[str]:
    """What is wrong with the classes that a head for photographs says it was trained on, and not trained on."""
    base, left_out = metadata.get("base_classes") or [], metadata.get("left_out") or {}
    plain = {plain_name(name) for name in base}
    found = [] if base and left_out else ["the metadata name no classes"]
    found += [f"{name}: left out without a reason" for name, reason in left_out.items() if not str(reason).strip()]
    found += [f"{name}: left out and trained on" for name in left_out if plain_name(name) in plain]
    return found + leaks(base)


@pytest.fixture(scope="module")
def metadata() -> dict[str, dict[str, Any]]:
    """Of every shipped head for photographs, by its file's name."""
    return {path.stem: load_checkpoint(path)[1] for path in HEADS}


def test_no_shipped_head_was_trained_on_what_it_is_shown_on(metadata: dict[str, dict[str, Any]]) -> None:
    assert "photographs" in metadata
    assert {name: faults(facts) for name, facts in metadata.items()} == {name: [] for name in metadata}


def test_every_object_that_is_shown_has_its_words() -> None:
    assert list(KIN) == list(objects().class_names)
    for name, kin in KIN.items():
        assert words(name)[-1] in kin.split() and leaks([name]), name


@pytest.mark.parametrize(
    ("planted", "shown"),
    [
        ("folder:photos_extra/Running_Shoes", "sneaker"),
        ("Trainers", "shiny sneaker"),
        ("hikingBoots", "boot"),
        ("PUPPIES", "dog"),
        ("grey wolves", "toy wolf"),
        ("Dump-Truck", "toy car"),
        ("duckling", "rubber duck"),
        ("stuffed toy", "toy sloth"),
        ("scented candles", "candle"),
        ("school bag", "backpack"),
        ("bears", "teddy bear"),
        ("chicken", "rubber duck"),
    ],
)
def test_a_planted_leak_is_found(metadata: dict[str, dict[str, Any]], planted: str, shown: str) -> None:
    facts = metadata["photographs"]
    found = faults({**facts, "base_classes": [*facts["base_classes"], planted]})
    assert any(line.startswith(f"{planted}: {shown} (") for line in found) and len(found) == len(leaks([planted]))


@pytest.mark.parametrize("name", ["hot dog", "Hot_water_Bag", "carrot", "train", "beard", "handball", "boat", "toyota"])
def test_only_whole_words_count(name: str) -> None:
    assert not leaks([name])


def test_what_is_left_out_has_a_reason_and_is_not_trained_on(metadata: dict[str, dict[str, Any]]) -> None:
    facts = metadata["photographs"]
    assert faults({**facts, "left_out": {**facts["left_out"], "cat": "kin"}}) == ["cat: left out and trained on"]
    assert faults({**facts, "left_out": {**facts["left_out"], "pen": " "}}) == ["pen: left out without a reason"]
    for gone in ("left_out", "base_classes"):
        assert faults({**facts, gone: None}) == ["the metadata name no classes"]
