"""Settings: kinds, choices and ranges; made anew from values and from texts; what was retired."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import FrozenInstanceError, dataclass, fields, replace
from typing import Any, ClassVar, Literal, get_args, get_origin, get_type_hints

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpnet_lite.config import ModelConfig, Settings, TrainingConfig, number, setting


@dataclass(frozen=True)
class Example(Settings):
    """One setting of each kind."""

    retired: ClassVar[Mapping[str, Any]] = {"old": "plain", "older": 3}

    count: int = setting(3, low=1, high=9)
    share: float = setting(0.5, low=0.0, high=1.0)
    switch: bool = False
    word: str = "a"
    choice: Literal["red", "blue"] = "red"
    sides: tuple[float, ...] = (1.0, 0.5)


CASES = [
    ("count", 10, "count is 10; choose a number from 1 to 9"),
    ("count", 0, "count is 0; choose a number from 1 to 9"),
    ("count", 2.5, "count is 2.5; give a whole number"),
    ("count", True, "count is True; give a whole number"),
    ("count", "3", "count is '3'; give a whole number"),
    ("share", 1.5, "share is 1.5; choose a number from 0.0 to 1.0"),
    ("share", float("nan"), "share is nan; choose a number from 0.0 to 1.0"),
    ("share", True, "share is True; give a number"),
    ("share", "half", "share is 'half'; give a number"),
    ("switch", 1, "switch is 1; give true or false"),
    ("switch", "true", "switch is 'true'; give true or false"),
    ("word", 3, "word is 3; give a text in quotes"),
    ("choice", "green", "choice is 'green'; choose one of red, blue"),
    ("choice", 1, "choice is 1; choose one of red, blue"),
    ("sides", 1.0, "sides is 1.0; give a list of numbers, such as [1.0, 0.5]"),
    ("sides", "1,2", "sides is '1,2'; give a list of numbers, such as [1.0, 0.5]"),
    ("sides", ["a"], "sides is ['a']; give a list of numbers, such as [1.0, 0.5]"),
]


@pytest.mark.parametrize(("name", "value", "message"), CASES)
def test_a_value_that_does_not_fit_is_named_with_what_does(name, value, message):
    with pytest.raises(ValueError) as made:
        Example(**{name: value})
    with pytest.raises(ValueError) as changed:
        Example().changed({name: value}, where="line 3 of a.toml")
    with pytest.raises(ValueError) as read:
        Example.from_dict({name: value})
    assert str(made.value) == str(read.value) == message
    assert str(changed.value) == f"line 3 of a.toml: {message}"


def test_changed_takes_typed_values_all_at_once():
    changed = Example().changed({"sides": [1, 0.25], "share": 1, "choice": "blue", "switch": True})
    assert changed == Example(sides=(1, 0.25), share=1, choice="blue", switch=True)
    assert Example() == Example().changed({})
    for where, start in (("", ""), ("study.toml", "study.toml: ")):
        with pytest.raises(ValueError) as caught:
            Example().changed({"colour": "red"}, where)
        known = "choice, count, share, sides, switch, word"
        assert str(caught.value) == f"{start}Example has no setting 'colour'; it has {known}"


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (["count=7", "share=0.25"], Example(count=7, share=0.25)),
        (["switch=True", "switch=true"], Example(switch=True)),
        (["switch=false", "word=x=y"], Example(word="x=y")),
        (["choice=blue", "sides=1,0.5,0.1"], Example(choice="blue", sides=(1.0, 0.5, 0.1))),
        ([], Example()),
    ],
)
def test_texts_are_read_as_the_setting_is(texts, expected):
    assert Example().with_texts(texts) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("colour=red", "'colour=red' is no setting; give NAME=VALUE with a name of count, share, switch, word, choice"),
        ("count", "'count' is no setting; give NAME=VALUE with a name of"),
        ("count=many", "'count=many' does not fit; the value now is 3"),
        ("count=2.5", "'count=2.5' does not fit; the value now is 3"),
        *(
            (f"{word}", f"{word!r} does not fit; the value now is")
            for word in ("count=0_3", "share=0_0.5", "share=nan")
        ),
        ("count=\u0663", "'count=\u0663' does not fit; the value now is 3"),
        ("sides=1,0_0.5", "'sides=1,0_0.5' does not fit; the value now is (1.0, 0.5)"),
        ("switch=1", "'switch=1' does not fit; the value now is False"),
        ("sides=1,x", "'sides=1,x' does not fit"),
        ("count=10", "count is 10; choose a number from 1 to 9"),
        ("choice=green", "choice is 'green'; choose one of red, blue"),
        ("count=2 share=1 count=3", "'count=3' comes after count=2; give each setting once"),
    ],
)
def test_texts_that_do_not_fit_are_named(text, message):
    with pytest.raises(ValueError) as caught:
        Example().with_texts(text.split())
    assert str(caught.value).startswith(message) and "\n" not in str(caught.value)


def test_settings_that_must_fit_each_other_are_changed_together():
    both = TrainingConfig().with_texts(["validate_every=5", "n_held_out=4"])
    assert (both.validate_every, both.n_held_out) == (5, 4)
    assert TrainingConfig().changed({"validate_every": 5, "n_held_out": 4}) == both
    for alone in ("validate_every=5", "n_held_out=4"):
        with pytest.raises(ValueError, match=r"set both or neither: checkpoints are chosen on held-out base classes"):
            TrainingConfig().with_texts([alone])


def test_numbers_of_numpy_are_taken_as_python_has_them():
    config = TrainingConfig(seed=np.int64(3), learning_rate=np.float64(0.5))
    assert config == TrainingConfig(seed=3, learning_rate=0.5)
    assert json.loads(json.dumps(config.to_dict()))["seed"] == 3
    with pytest.raises(ValueError, match=r"seed is 2\.5; give a whole number"):
        TrainingConfig(seed=np.float32(2.5))


def test_what_was_retired_is_read_at_its_last_value_alone():
    assert Example.from_dict({"old": "plain", "older": 3, "count": 4}) == Example(count=4)
    with pytest.raises(ValueError) as caught:
        Example.from_dict({"old": "fancy"})
    assert str(caught.value) == "old is 'fancy': that was retired, only 'plain' is left; train anew"
    for make in (Example().changed, lambda values: Example().with_texts([f"{n}={v}" for n, v in values.items()])):
        with pytest.raises(ValueError, match="'old"):
            make({"old": "plain"})  # not a setting any more


def test_a_networks_retired_settings_are_those_of_the_shipped_heads():
    values = ModelConfig().to_dict()
    assert ModelConfig.from_dict(values | {"shot_fusion": "average", "n_parts": 4}) == ModelConfig()
    for name, value, last in (("shot_fusion", "joint", "'average'"), ("n_parts", 3, "4")):
        with pytest.raises(ValueError, match=rf"{name} is {value!r}: that was retired, only {last} is left; train"):
            ModelConfig.from_dict(values | {name: value})
    for name, value in (("interaction", "gate"), ("interaction", "parts"), ("selection", "soft")):
        with pytest.raises(ValueError, match=f"{name} is '{value}'; choose one of"):
            ModelConfig.from_dict(values | {name: value})


def any_settings(kind: type[Settings]) -> st.SearchStrategy[dict[str, Any]]:
    """Some values that each fit their setting."""
    hints, strategies = get_type_hints(kind), {}
    for item in fields(kind):
        low, high = item.metadata.get("range", (0, 1000))
        if get_origin(hints[item.name]) is Literal:
            strategies[item.name] = st.sampled_from(get_args(hints[item.name]))
        elif hints[item.name] is bool:
            strategies[item.name] = st.booleans()
        elif hints[item.name] in (int, float):
            whole = hints[item.name] is int
            strategies[item.name] = st.integers(int(low), int(high)) if whole else st.floats(low, high)
    for pair in ("validate_every", "n_held_out"):
        strategies.pop(pair, None)
    return st.fixed_dictionaries({}, optional=strategies)


@pytest.mark.parametrize("text", [" 5", "5 ", "5\n", "\t5", "0x5", "infinity", "1e", ".", ""])
def test_numbers_are_decimal_and_nothing_else(text):
    """Python's own readers take the first four."""
    for name in ("count", "share"):
        with pytest.raises(ValueError, match=f"^{re.escape(repr(f'{name}={text}'))} does not fit; the value now is"):
            Example().with_texts([f"{name}={text}"])
    assert [number(text) for text in ("3", "-.5", "+2.", "1E-3")] == [3.0, -0.5, 2.0, 0.001]


@pytest.mark.parametrize("kind", [ModelConfig, TrainingConfig])
@given(data=st.data())
def test_settings_survive_json_and_texts(kind, data):
    values = data.draw(any_settings(kind))
    made = kind(**values)
    assert set(made.to_dict()) == {item.name for item in fields(kind)}  # all of them, whatever their defaults
    assert kind.from_dict(json.loads(json.dumps(made.to_dict()))) == made
    assert kind.from_dict(values) == kind().changed(values) == made
    assert kind().with_texts([f"{name}={value}" for name, value in values.items()]) == made


@pytest.mark.parametrize("kind", [ModelConfig, TrainingConfig])
def test_every_number_has_a_range_that_holds_its_default_and_is_kept(kind):
    hints = get_type_hints(kind)
    for item in fields(kind):
        if hints[item.name] in (int, float) and item.name != "seed":
            low, high = item.metadata["range"]
            for outside in (low - 1, high + 1):
                with pytest.raises(ValueError, match=f"{item.name} is .*; choose a number from"):
                    kind(**{item.name: outside})


@pytest.mark.parametrize(
    ("scales", "message"),
    [
        ((), "one or more numbers above 0"),
        ((1.0, 0.0), "above 0 and up to 1"),
        ((2.0, 1.0), "above 0 and up to 1"),
        ((0.5, 0.25), "start at 1.0 and go down"),
        ((1.0, 0.25, 0.5), "start at 1.0 and go down"),
    ],
)
def test_scales_begin_at_one_and_go_down(scales, message):
    with pytest.raises(ValueError, match=message):
        ModelConfig(scales=scales)


def test_settings_cannot_be_changed_in_place():
    with pytest.raises(FrozenInstanceError):
        ModelConfig().channels = 8
    assert replace(ModelConfig(), channels=8).channels == 8
