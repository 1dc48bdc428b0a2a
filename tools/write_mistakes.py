"""Write docs/common_mistakes.md from the checks of the exercises: what they say to typical wrong answers.

The messages are read from the source (dpnet_lite/course/exercises/lesson_NN.py), not run: the keys of the dictionaries
of mistakes, and the reasons of `require` that say more than which kind of value is wanted. A value that a message
fills in is written as "...". IDEAS has a line on the misconception behind an exercise where the messages do not say it.

CODE has, for some messages, the line of code that brings them about; READING the answers of the quizzes that the last
section is made of.

    python tools/write_mistakes.py
"""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "common_mistakes.md"
EXERCISES = ROOT / "dpnet_lite" / "course" / "exercises"
QUIZZES = ROOT / "dpnet_lite" / "course" / "quizzes"
IDEAS = {
    "check_folds": "A fold says which classes are held back; both published ways of cutting the list are in use.",
    "check_episode": "An episode is a small test: what is asked must not lie among what is shown.",
    "check_masked_average": "A prototype is a mean over the object, with shares for the cells on its border.",
    "check_two_prototypes": "A cosine looks at directions; a long vector is no better match than a short one.",
    "check_cycle": "The cycle asks whether a match suits both sides, not whether it finds the same pixel again.",
    "check_quality": "Precision asks about what was selected, recall about what there was to select.",
    "check_reinforced": "A softmax makes weights that add up to 1; over what they add up is the whole question.",
    "check_maps": "A comparison is a difference: what all cells share is taken out, and so is the background.",
    "check_shots": "Each shot speaks once: a mean within it, then the mean over shots.",
    "check_mask": "A decision cannot be made smooth afterwards: resize first, decide last.",
    "check_loss": "What is ignored counts neither above the fraction line nor below it.",
    "check_learning_rate": "Steps count from 0; both ends of a schedule are worth a test.",
    "check_miou": "A mean of ratios is not the ratio of sums; metrics differ in what is added up before dividing.",
    "check_interval": "An interval is about the mean, and a resample is as large as the sample.",
    "check_weight_places": "A share of weight is divided by all the weight that there is.",
    "check_auc": "It is the chance that one of these stands above one of those; a tie decides nothing.",
    "check_class_cosines": "How alike two classes are is a mean over pairs, and a thing is no pair with itself.",
    "check_nearest_accuracy": "What is tested must not have helped to make what it is compared with.",
    "check_class_mask": "A number in a training mask names a class; 255 names nothing.",
    "check_paired": "A pair shares all but the variant, so its difference is what is looked at.",
    "check_holm": "Every question asked raises the chance of a false find; the smallest p pays for all of them.",
    "check_hidden_share": "What was painted last lies in front; only other objects hide.",
    "check_contributions": "A mean over all episodes is a sum over groups, each with its share of the episodes.",
    "check_episodes_needed": "The width of an interval falls with the root of the number of episodes.",
}

# By check: what a message holds, and the line of code that is told so.
CODE = {
    "check_masked_average": {
        "mean over all cells": "features.mean(dim=(1, 2))",
        "not by the number of cells.": "(features * mask).mean(dim=(1, 2))",
        "That is the sum over the mask": "(features * mask).sum(dim=(1, 2))",
        "half foreground count half": "features[:, mask > 0].mean(dim=1)",
    },
    "check_cycle": {"check the way back": "reliable[S[mask].argmax(dim=1)] = True"},
    "check_quality": {
        "a number of cells": "precision = (selected & truth).sum()",
        "divide by all cells": "precision = (selected & truth).float().mean()",
        "That is the IoU": "precision = (selected & truth).sum() / (selected | truth).sum()",
    },
    "check_mask": {"steps as large": "F.interpolate(logits[None], size)[0].argmax(dim=0)"},
    "check_learning_rate": {
        "t, not t + 1": "peak * rise * (1 + np.cos(np.pi * (step + 1) / steps)) / 2",
        "not halved": "peak * rise * (1 + np.cos(np.pi * step / steps))",
    },
    "check_miou": {
        "mean over episodes": "(counts[:, 0] / counts[:, 1]).mean()",
        "of all classes": "counts[:, 0].sum() / counts[:, 1].sum()",
        "the background's": "sums = counts[class_index == c, 2:].sum(axis=0)",
    },
    "check_interval": {
        "the spread of the values": "np.quantile(values, [0.025, 0.975])",
        "a percentile of 2.5": "np.percentile(means, [0.025, 0.975])",
        "the middle 90 %": "np.quantile(means, [0.05, 0.95])",
        "not 10": "generator.choice(values, 10).mean()",
    },
    "check_weight_places": {
        "the weights must count": "cover.mean(dim=(1, 2))",
        "not by h w": "(weights * cover).mean(dim=(1, 2))",
        "Divide by the sum of the weights.": "(weights * cover).sum(dim=(1, 2))",
    },
    "check_auc": {
        "half, not nothing": "(sign[clean][:, None] > sign[~clean]).mean()",
        "half, not whole": "(sign[clean][:, None] >= sign[~clean]).mean()",
        "difference of means": "sign[clean].mean() - sign[~clean].mean()",
    },
    "check_class_mask": {
        "1 and 128 count": "np.where(drawn == 255, number, 0).astype(np.uint8)",
        "background must stay": "np.full_like(drawn, number)",
    },
    "check_paired": {
        "That is the median": "np.median(differences)",
        "A draw is counted": "(differences >= 0).sum()",
        "the share of wins": "(differences > 0).mean()",
    },
    "check_holm": {"Bonferroni": "min(1, m * p_values[index])"},
    "check_contributions": {
        "means of the strata": "differences[numbers == k].mean()",
        "These are sums": "differences[numbers == k].sum()",
    },
    "check_episodes_needed": {
        "four times as many": "math.ceil(n * half_width / target)",
        "square the ratio": "n * half_width / target",
        "upside down": "math.ceil(n * (target / half_width) ** 2)",
        "You round down": "int(n * (half_width / target) ** 2)",
    },
}
# Wrong answers of the quizzes that misread a number: lesson, question, option, both from 1.
READING = (
    ("07", 2, 2), ("07", 3, 1), ("11", 2, 1), ("11", 2, 2), ("11", 3, 2), ("12", 3, 1), ("12", 4, 1),
    ("13", 1, 1), ("13", 1, 3), ("13", 5, 2),
)  # fmt: skip


def literal(node: ast.expr, names: dict[str, ast.expr]) -> Iterator[str]:
    """The texts that an expression may stand for, values that are filled in as "..."; names are looked up."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
    elif isinstance(node, ast.JoinedStr):
        yield "".join(p.value if isinstance(p, ast.Constant) else "..." for p in node.values)  # type: ignore[misc]
    elif isinstance(node, ast.IfExp):
        yield from literal(node.body, names)
        yield from literal(node.orelse, names)
    elif isinstance(node, ast.Name) and node.id in names:
        yield from literal(names.pop(node.id), names)  # once, so that no circle is possible
    elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        for left in literal(node.left, dict(names)):
            for right in literal(node.right, dict(names)):
                yield left + right


def reasons(function: ast.FunctionDef) -> Iterator[str]:
    """The messages of one function in the order of its lines."""
    names = {
        target.id: node.value
        for node in ast.walk(function)
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    found: list[tuple[int, str]] = []
    for node in ast.walk(function):
        texts: list[ast.expr] = []
        if isinstance(node, ast.Dict):
            texts = [key for key in node.keys if key is not None]
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Subscript):
            texts = [node.targets[0].slice]
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "require":
            texts = [node.args[1]]
        found += [(text.lineno, said) for text in texts for said in literal(text, dict(names)) if is_mistake(said)]
    yield from (said for _, said in sorted(found, key=lambda pair: pair[0]))


def is_mistake(said: str) -> bool:
    """Whether a message speaks of the matter: not only of the kind of value, and not only of the right number."""
    form = re.search(r"^return |^give |returns (\.\.\.|a |nothing)|^the shape|^the array is|is written", said)
    numbers = re.search(r"should (be|hold) (about )?\[?\.\.\.|it is \.\.\., not", said)
    return form is None and numbers is None and len(re.sub(r"[^A-Za-z]", "", said)) > 14


def checks(source: str) -> dict[str, tuple[str, list[str]]]:
    """The checks of a lesson by name: the first line of each one's docstring, and its messages.

    The messages of a function that a check calls are its own as well.
    """
    functions = {node.name: node for node in ast.parse(source).body if isinstance(node, ast.FunctionDef)}
    found = {}
    for name, function in functions.items():
        if not name.startswith("check_"):
            continue
        called = [node.id for node in ast.walk(function) if isinstance(node, ast.Name) and node.id in functions]
        messages = [said for part in (name, *called) for said in reasons(functions[part])]
        found[name] = ((ast.get_docstring(function) or "").partition("\n")[0], list(dict.fromkeys(messages)))
    return found


def title(number: str, name: str) -> str:
    """An exercise's heading in its lesson without kind and minutes; the check's name where there is none."""
    for path in sorted((ROOT / "notebooks").glob("*.py")):
        match = re.search(rf"^# ### Exercise {re.escape(number)}: (.+?) \([^()]*\)$", path.read_text("utf-8"), re.M)
        if match:
            return f"{number}: {match[1].replace('^i', 'i')}"
    return f"{number}: {name.removeprefix('check_').replace('_', ' ')}"


def page() -> str:
    """The whole page."""
    lines = [
        "# Common mistakes",
        "",
        "What the checks of the exercises say to typical wrong answers, lesson by lesson. Written by",
        "`tools/write_mistakes.py` from the checks; `...` stands for what a message fills in.",
        "Exercises that ask for a prediction or an explanation have no check; the last section has misreadings.",
        "Where a message has a line of code before it, that line brings it about.",
    ]
    gone = set(IDEAS)
    for path in sorted(EXERCISES.glob("lesson_*.py")):
        found = {n: (doc, said) for n, (doc, said) in checks(path.read_text(encoding="utf-8")).items() if said}
        if not found:
            continue
        gone -= found.keys()
        number = path.stem.removeprefix("lesson_")
        (lesson,) = (ROOT / "notebooks").glob(f"{number}_*.py")
        heading = re.search(r"^# # (.+)$", lesson.read_text(encoding="utf-8"), re.M)
        lines += ["", f"## {heading[1] if heading else number}", "", f"[The lesson](../notebooks/{lesson.stem}.ipynb)"]
        for name, (doc, messages) in found.items():
            lines += ["", f"### {title(doc.partition(':')[0], name)}", ""]
            lines += [
                *([f"*{IDEAS[name]}*", ""] if name in IDEAS else []),
                *(f"- {said}" for said in with_code(name, messages)),
            ]
    assert not gone, f"IDEAS has ideas behind checks without a message: {sorted(gone)}"
    return "\n".join([*lines, *reading()]) + "\n"


def with_code(name: str, messages: list[str]) -> Iterator[str]:
    """The messages of a check, some with the code that brings them about."""
    codes = dict(CODE.get(name, {}))
    for said in messages:
        own = clean(said)
        (found,) = [part for part in codes if part in own] or [None]
        yield f"`{codes.pop(found)}`: {own}" if found else own
    assert not codes, f"no message of {name} holds {sorted(codes)}"


def reading() -> Iterator[str]:
    """The last section: wrong answers of the quizzes, with why."""
    yield from ("", "## Mistakes of reading", "", "Wrong answers of the quizzes, and what is wrong with them.", "")
    for lesson, question, option in READING:
        asked = tomllib.loads((QUIZZES / f"{lesson}.toml").read_text(encoding="utf-8"))["question"][question - 1]
        given = asked["option"][option - 1]
        assert not given.get("right"), f"{lesson}.{question}: option {option} is right"
        yield f"- {asked['text']} *{given['text'].removesuffix('.')}.* {given['why']}"


def clean(said: str) -> str:
    """A message as a line of a list: a capital at its beginning, and no sign that Markdown would read."""
    said = re.sub(r"^\.\.\.[,:] ", "", said.strip())  # the case that the check had in hand
    said = re.sub(r"([*_<>|])", r"\\\1", said)
    return said[0].upper() + said[1:] + ("" if said.endswith((".", "?")) else ".")


def main() -> None:
    PAGE.write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
