"""The hash of the code: it follows what the code does, not how it is explained."""

from __future__ import annotations

from dpnet_lite.ablation import code_hash

SOURCE = '''
"""A module."""

def double(x):
    """Twice x."""
    return 2 * x  # not thrice
'''


def test_comments_docstrings_and_layout_do_not_count():
    plain = "def double(x):\n    return (2 *\n        x)\n"
    assert code_hash.plain_code(SOURCE) == code_hash.plain_code(plain)
    assert code_hash.plain_code(SOURCE) != code_hash.plain_code(plain.replace("2", "3"))


def test_every_deciding_file_is_there_and_the_network_is_among_them():
    found = {path for pattern in code_hash.DECIDING for path in code_hash.PACKAGE.glob(pattern)}
    assert all(list(code_hash.PACKAGE.glob(pattern)) for pattern in code_hash.DECIDING)
    names = {path.relative_to(code_hash.PACKAGE).as_posix() for path in found}
    assert {"model/head.py", "training.py", "scoring.py", "datasets/toy.py", "ablation/execution.py"} <= names
    assert "plots.py" not in names and len(code_hash.code_hash()) == 12


def test_the_text_of_a_syntax_tree_worked_by_hand():
    """Fields that are empty, or that only some versions of Python have, do not occur."""
    assert code_hash.plain_code("def f(x):\n    return x + 1\n") == (
        "Module(body=[FunctionDef(name='f', args=arguments(args=[arg(arg='x')]), body=[Return(value=BinOp(left="
        "Name(id='x', ctx=Load()), op=Add(), right=Constant(value=1)))])])"
    )
    assert code_hash.plain_code("x = 0") != code_hash.plain_code("x = None") != code_hash.plain_code("x = []")
