"""Study files: the shipped ones make sense, and a mistake in one of your own is told in one line."""

from __future__ import annotations

import pytest

from dpnet_lite.ablation.studies import Condition, load_study, quick, shipped_studies
from dpnet_lite.config import ModelConfig

WHOLE = """
title = "T"
question = "Q?"
[[variant]]
name = "a"
model = { pseudo_prototype = false }
[[variant]]
name = "b"
[[comparison]]
name = "b or a"
variant = "b"
control = "a"
"""


def write(folder, text):
    path = folder / "mine.toml"
    path.write_text(text)
    return str(path)


def test_the_named_studies_are_shipped():
    named = {"modules", "selection", "interaction", "scales", "aux", "shots", "gap", "label-noise", "rivals"}
    assert named == set(shipped_studies())


def test_all_studies_start_from_the_same_network_and_give_every_variant_the_same_budget():
    """So that they share the runs that they have in common."""
    studies = [load_study(name) for name in shipped_studies()]
    assert all(study.model == studies[0].model and study.training == studies[0].training for study in studies)
    for study in studies:
        assert all(not variant.training for variant in study.variants)
        assert study.comparisons and study.title and study.question.endswith("?")
        assert study.folds == () and len(study.seeds) == 5  # of all four folds


def test_modules_has_every_subset_that_makes_sense_and_a_control_with_all_parameters():
    made = {}
    study = load_study("modules")
    for variant in study.variants:
        config = ModelConfig().changed({**study.model, **variant.model})
        made[variant.name] = (config.pseudo_prototype, config.interaction != "off", config.fusion != "single")
    del made["training-free"]
    # CCM, PIM, MSF: PIM without CCM has one prototype only, so "support only" is the one case of it.
    with_ccm = {(True, pim, msf) for pim in (False, True) for msf in (False, True)}
    assert set(made.values()) == with_ccm | {(False, False, False), (False, False, True), (False, True, True)}
    assert made["support only"] == (False, True, True)


def test_a_study_of_ones_own(tmp_path):
    study = load_study(write(tmp_path, "folds = [1]\nseeds = [4, 5]\n" + WHOLE))
    assert (study.name, study.folds, study.seeds) == ("mine", (1,), (4, 5))
    assert study.conditions == (Condition("1-shot"),)
    assert study.variant("a").model == {"pseudo_prototype": False}
    (tmp_path / "bom.toml").write_text("\ufeff" + WHOLE, encoding="utf-8")  # as Windows' Notepad saves it
    assert load_study(str(tmp_path / "bom.toml")).title == "T"
    scales = WHOLE.replace("pseudo_prototype = false", "scales = [1], dropout = 0")  # whole numbers will do
    assert load_study(write(tmp_path, scales)).variant("a").model == {"scales": [1], "dropout": 0}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (('[[variant]]\nname = "b"', ""), "which is none of a"),
        (("pseudo_prototype", "pseudo"), "variant 'a': ModelConfig has no setting 'pseudo'"),
        (("{ pseudo_prototype = false }", "{ channels = 1 }"), "variant 'a': channels is 1"),
        (('question = "Q?"', ""), "lacks 'question'"),
        (('name = "b"', 'name = "a"'), "each name once"),
        (('name = "b"', 'name = "b"\nmethod = "magic"'), "method is 'magic'; choose one of trained"),
        (('name = "a"', 'name = "a"\nmethod = "prototypes"'), "needs no training"),
        (('title = "T"', 'title = "T"\ncolour = 3'), "Study has no setting 'colour'; it has comparisons, conditions"),
        (('title = "T"', 'title = "T"\nseeds = [1, 1]'), "seeds [1, 1]; give each once"),
        (('title = "T"', 'title = "T"\ntraining = { step = 3 }'), "TrainingConfig has no setting 'step'"),
        (('title = "T"', "title = "), "mine.toml: "),
        (
            ("[[comparison]]", '[[condition]]\nname = "c"\ngap = 2.0\n[[comparison]]'),
            "gap is 2.0; choose a number from 0 to 1",
        ),
        (
            ("[[comparison]]", '[[condition]]\nname = "c"\ngap = true\n[[comparison]]'),
            "gap is True; choose a number from 0 to 1",
        ),
        (
            ("[[comparison]]", '[[condition]]\nname = "c"\nmask = "eroded"\n[[comparison]]'),
            "give pixels with all but 'as drawn'",
        ),
        (('title = "T"', 'title = "T"\nseeds = 1'), "seeds is 1; give a list of whole numbers"),
        (('title = "T"', 'title = "T"\nseeds = []'), "seeds []; give each once"),
        (('title = "T"', 'title = "T"\nfolds = [0.5]'), "folds is [0.5]; give a list of whole numbers"),
        (('title = "T"', 'title = "T"\nn_episodes = "many"'), "n_episodes is 'many'; give a whole number"),
        (('title = "T"', "title = 3"), "title is 3; give a text in quotes"),
        (('title = "T"', 'title = "T"\nmodel = "joint"'), "model is 'joint'; give a table"),
        (('title = "T"', 'title = "T"\ntraining = { steps = "500" }'), "steps is '500'; give a whole number"),
        (('title = "T"', 'title = "T"\ntraining = { steps = 0 }'), "study 'mine': steps is 0"),
        (("pseudo_prototype = false", "pseudo_prototype = 0"), "'a': pseudo_prototype is 0; give true or false"),
        (("pseudo_prototype = false", "scales = 1"), "'a': scales is 1; give a list of numbers"),
        (
            ('title = "T"', 'title = "T"\ntraining = { seed = 3 }'),
            "sets the seed of a training; name seeds in the study",
        ),
        (
            ('title = "T"', "title = " + "[" * 10**5),
            "its lists or tables lie too deep in each other; write it as a ship",
        ),
        (('name = "b"', 'name = ""'), "give at least one, and each name once"),
        ((WHOLE, WHOLE + WHOLE[WHOLE.index("[[comparison]]") :]), "has the comparisons ["),
        (('control = "a"', 'control = "b"'), "compares 'b' with itself"),
        ((WHOLE[WHOLE.index("[[comparison]]") :], ""), "the study compares nothing"),
        (('title = "T"', 'title = "T"\nvariants = []'), "write [[variant]] for each"),
        (('name = "a"', 'name = "a|b"'), "'a|b' has a sign that breaks tables; leave it out"),
        (('title = "T"', 'title = "T"\ncondition = "1-shot"'), "write [[condition]]"),
        (('title = "T"', 'title = "T"\nname = "../T"'), "a study is named '../T'; use letters, digits, - and _"),
        (('name = "b"', 'name = "b"\nis_retired = true\nmodel = { channels = 8 }'), "needs no training"),
    ],
)
def test_mistakes_are_told(tmp_path, change, words):
    assert change[0] in WHOLE
    with pytest.raises(ValueError, match=r"mine\.toml: ") as caught:
        load_study(write(tmp_path, WHOLE.replace(*change, 1)))
    assert words in str(caught.value) and "\n" not in str(caught.value).split(" (at line")[0]


def test_a_study_in_another_encoding_is_told(tmp_path):
    (tmp_path / "mine.toml").write_bytes('title = "é"'.encode("latin-1"))
    with pytest.raises(ValueError, match=r"mine\.toml is not UTF-8 text; save it as UTF-8$"):
        load_study(str(tmp_path / "mine.toml"))


def test_a_study_that_is_not_there():
    with pytest.raises(FileNotFoundError, match="there is no study 'module'; shipped are aux, "):
        load_study("module")
    with pytest.raises(FileNotFoundError, match=r"there is no file mine\.toml; shipped are"):
        load_study("mine.toml")


def test_quick_is_the_same_study_with_less_of_everything():
    study = load_study("modules")
    small = quick(study)
    assert (small.variants, small.comparisons) == (study.variants, study.comparisons)
    assert len(small.folds) == len(small.seeds) == 2
    assert small.training["steps"] < study.toy_training["steps"] and small.n_episodes < study.n_episodes


def test_masks_that_are_moved_are_on_a_way_of_their_own():
    study = load_study("label-noise")
    names = [condition.name for condition in study.conditions]
    assert [names[way] for way in study.ways] == [
        ["eroded by 6", "eroded by 3", "as drawn", "dilated by 3", "dilated by 6"],
        ["shifted by 6", "shifted by 12"],
    ]
    assert load_study("modules").ways == (slice(0, 1),)
