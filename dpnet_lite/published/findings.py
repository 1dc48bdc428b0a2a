"""What a check of a data set's folder found, one plain line each."""

from __future__ import annotations

from typing import Literal, NamedTuple


class Finding(NamedTuple):
    """One line of a check.

    Attributes:
        kind: "found" is there and right, "missing" is not there, "wrong" is there and cannot be used as it is,
            "note" is worth knowing and stops nothing.
        text: one line for people; for "missing" and "wrong" it ends with the remedy.
    """

    kind: Literal["found", "missing", "wrong", "note"]
    text: str
