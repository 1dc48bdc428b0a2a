"""Settings as they stand in text files: of the right kind, or an error that says what to give."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dpnet_lite.config import ModelConfig, TrainingConfig

WHOLE, NUMBER, TEXT, TABLE = "a whole number", "a number", "a text in quotes", "a table, such as { steps = 500 }"
WHOLES, NUMBERS = "a list of whole numbers, such as [1, 2]", "a list of numbers, such as [1.0, 0.5]"


def check_settings(where: str, model: Mapping[str, Any], training: Mapping[str, Any]) -> None:
    """A wrong name, kind or value among settings is told before any run, with `where` it stands."""
    kinds: tuple[tuple[Mapping[str, Any], type[Any]], ...] = ((model, ModelConfig), (training, TrainingConfig))
    for settings, kind in kinds:
        defaults = kind().all_settings()
        for name in settings.keys() & defaults.keys():
            given, wanted = kind_of(settings[name]), kind_of(defaults[name])
            if given != wanted and (given, wanted) not in ((WHOLE, NUMBER), (WHOLES, NUMBERS)):
                raise ValueError(f"{where} has {name} {settings[name]!r}; give {wanted}")
        try:
            kind.from_dict({**defaults, **settings})
        except (TypeError, ValueError) as error:
            raise ValueError(f"{where}: {error}") from None


def kind_of(value: Any) -> str:
    """In the words of an error message: what kind of value stands in a file."""
    kinds = ((bool, "true or false"), (int, WHOLE), (float, NUMBER), (str, TEXT), (Mapping, TABLE))
    for kind, words in kinds:
        if isinstance(value, kind):
            return words
    if isinstance(value, (list, tuple)):
        return WHOLES if value and all(kind_of(item) == WHOLE for item in value) else NUMBERS
    return type(value).__name__
