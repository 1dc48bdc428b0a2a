"""The plain class of lessons 5b and 6 is the package's network: same start, same answers, same gradients."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
import torch
from places import ROOT

from dpnet_lite.config import ModelConfig
from dpnet_lite.course import plain_dpnet
from dpnet_lite.course.plain_dpnet import PlainDPNet
from dpnet_lite.model.dpnet import DPNet
from dpnet_lite.model.episode_batch import EpisodeBatch


def both(seed: int = 0) -> tuple[DPNet, PlainDPNet]:
    torch.manual_seed(seed)
    packaged = DPNet(ModelConfig(), 24, 16)
    torch.manual_seed(seed)
    return packaged, PlainDPNet(24, 16)


def a_batch(n_shot: int) -> EpisodeBatch:
    """Random features; the masks of the first episode are a whole block, those of the others one cell."""
    generator = torch.Generator().manual_seed(n_shot)
    masks = torch.zeros(6, n_shot, 8, 8)
    masks[0, :, 2:6, 2:6], masks[1:, :, 3, 3] = 1, 0.4
    support, query = (torch.rand(shape, generator=generator) for shape in ((6, n_shot, 24, 8, 8), (6, 24, 8, 8)))
    return EpisodeBatch(support, masks, 1 - masks, query, torch.zeros(6, 32, 32, dtype=torch.int64))


@pytest.mark.parametrize("n_shot", [1, 5])
def test_same_start_logits_and_gradients_with_dropout_and_where_no_cycle_closes(n_shot: int) -> None:
    batch, (packaged, plain) = a_batch(n_shot), both(1)
    for head in (packaged, plain):
        torch.nn.init.constant_(head.interaction.g1, 0.3)
        torch.nn.init.constant_(head.interaction.g2, -0.2)
    found = packaged.eval()(batch, (32, 32), trace=True)
    assert n_shot > 1 or bool(found.trace.selections[0].fallback.any())
    torch.testing.assert_close(plain.eval()(batch, (32, 32)).logits, found.logits, atol=1e-5, rtol=1e-4)
    for head in (packaged.train(), plain.train()):
        torch.manual_seed(2)
        output = head(batch, (32, 32))
        (output.logits[:, 1].square().mean() + output.auxiliary_logits.square().mean()).backward()
    for (name, a), b in zip(packaged.named_parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(b.grad, a.grad, atol=1e-5, rtol=1e-3, msg=name)


def test_load_takes_the_weights_and_refuses_another_network() -> None:
    packaged, plain = both(3)[0], both(4)[1]
    assert any(not torch.equal(a, b) for a, b in zip(packaged.parameters(), plain.parameters(), strict=True))
    assert all(map(torch.equal, packaged.parameters(), plain.load(packaged).parameters()))
    with pytest.raises(RuntimeError, match="size mismatch"):
        plain.load(DPNet(ModelConfig(channels=32), 24, 16))


def test_the_notebook_has_the_same_text() -> None:
    source = Path(plain_dpnet.__file__).read_text(encoding="utf-8")
    lines = (ROOT / "notebooks" / "05b_build_it_yourself.py").read_text(encoding="utf-8").splitlines()
    notebook = "\n".join(line for line in lines if not line.endswith(" SOLUTION"))  # around what learners write
    parts = [node for node in ast.parse(source).body if isinstance(node, ast.FunctionDef | ast.ClassDef)]
    assert len(parts) >= 11
    for node in parts:
        first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
        text = "\n".join(source.splitlines()[first - 1 : node.end_lineno])
        assert f"\n{text}\n\n" in notebook, f"{node.name} differs from lesson 5b"
