"""The same frozen network in fewer passes over memory: BatchNorm in its convolution, sum and ReLU right after it."""

from __future__ import annotations

import operator
from collections import Counter
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

_SUMS = (operator.add, operator.iadd, torch.add)


class _Fused(nn.Module):
    """ReLU(convolution of x, plus another map where one is given): one kernel of cuDNN on a GPU."""

    def __init__(self, convolution: nn.Conv2d) -> None:
        super().__init__()
        self.convolution = convolution

    def forward(self, x: Tensor, other: Tensor | None = None) -> Tensor:
        layer: Any = self.convolution
        if not (x.is_cuda and torch.version.cuda and torch.backends.cudnn.enabled):  # AMD's GPUs have no such kernel
            found: Tensor = layer(x)
            return torch.relu_(found if other is None else found.add_(other))
        how = layer.stride, layer.padding, layer.dilation, layer.groups
        if other is None:
            return torch.cudnn_convolution_relu(x, layer.weight, layer.bias, *how)
        return torch.cudnn_convolution_add_relu(x, layer.weight, other, 1.0, layer.bias, *how)


def fused(body: nn.Module) -> nn.Module:
    """A network with the same output in evaluation, up to rounding; `body` is used up.

    Each convolution and BatchNorm is called once, as in all networks here.
    """
    traced = fx.symbolic_trace(body.eval())
    layers = Counter(n.target for n in traced.graph.nodes if isinstance(_module(traced, n), nn.Conv2d | nn.BatchNorm2d))
    assert max(layers.values()) == 1, layers
    for node in traced.graph.nodes:
        module = _module(traced, node)
        if isinstance(module, nn.BatchNorm2d):
            before = node.args[0]
            layer = _module(traced, before)
            assert isinstance(layer, nn.Conv2d) and len(before.users) == 1, f"{node} follows {before}"
            traced.set_submodule(before.target, fuse_conv_bn_eval(layer, module))
            _replace(traced, node, before)
        elif isinstance(module, nn.ReLU) or node.target in (torch.relu, nn.functional.relu):
            summed = node.args[0]
            is_sum = summed.target in _SUMS and not summed.kwargs and all(isinstance(a, fx.Node) for a in summed.args)
            parts = list(summed.args) if is_sum else [summed]
            parts.sort(key=lambda part: not isinstance(_module(traced, part), nn.Conv2d))
            layer = _module(traced, parts[0])
            alone = len(summed.users) == len(parts[0].users) == 1  # nobody else wants what comes before the ReLU
            if isinstance(layer, nn.Conv2d) and layer.bias is not None and alone:
                traced.set_submodule(parts[0].target, _Fused(layer))
                with traced.graph.inserting_before(node):
                    _replace(traced, node, traced.graph.call_module(parts[0].target, (parts[0].args[0], *parts[1:])))
    traced.graph.eliminate_dead_code()
    traced.delete_all_unused_submodules()
    traced.recompile()
    return traced


def _module(traced: fx.GraphModule, node: Any) -> nn.Module | None:
    """The layer that a node calls."""
    return traced.get_submodule(str(node.target)) if node.op == "call_module" else None


def _replace(traced: fx.GraphModule, node: fx.Node, other: fx.Node) -> None:
    node.replace_all_uses_with(other)
    traced.graph.erase_node(node)
