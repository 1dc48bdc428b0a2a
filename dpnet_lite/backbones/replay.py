"""Repeating the same work on a GPU without waiting for the launch of each of its kernels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

_KEPT = 4  # sets of shapes
_LARGEST = 2**30  # bytes of input; larger work keeps a GPU busy anyway, and its inputs are not copied


class Replay:
    """A function of tensors, recorded as a CUDA graph for each set of shapes and then only replayed.

    Called as it is on a CPU, where a gradient is wanted, and for inputs above 1 GiB. One thread at a time may use it.

    Args:
        function: gives one tensor, and waits for nothing that is on the device.
        module: whose weights it uses; moved or set to train, it is recorded anew.
    """

    enabled = True  # for all of them; off where somebody wants to see each operation

    def __init__(self, function: Callable[..., Tensor], module: nn.Module) -> None:
        self.function, self.module = function, module
        self.recorded: dict[Any, tuple[torch.cuda.CUDAGraph, list[Tensor], Tensor]] = {}

    def __call__(self, *tensors: Tensor) -> Tensor:
        is_plain = not (self.enabled and tensors[0].is_cuda) or torch.is_grad_enabled()
        if is_plain or sum(t.nbytes for t in tensors) > _LARGEST:
            return self.function(*tensors)
        modes = torch.is_autocast_enabled("cuda"), torch.get_autocast_dtype("cuda"), torch.is_inference_mode_enabled()
        weights = (self.module.training, *(parameter.data_ptr() for parameter in self.module.parameters()))
        key = (*((t.shape, t.dtype, t.stride(), t.device) for t in tensors), *modes, *weights)
        if key not in self.recorded:
            while len(self.recorded) >= _KEPT:
                del self.recorded[next(iter(self.recorded))]
            with torch.cuda.device(tensors[0].device):
                self.recorded[key] = self._record(tensors)
        graph, inputs, output = self.recorded[key]
        for mine, given in zip(inputs, tensors, strict=True):
            mine.copy_(given)
        graph.replay()
        return output.clone()

    def _record(self, tensors: tuple[Tensor, ...]) -> tuple[torch.cuda.CUDAGraph, list[Tensor], Tensor]:
        inputs, graph, stream = [t.clone() for t in tensors], torch.cuda.CUDAGraph(), torch.cuda.Stream()
        enabled, dtype = torch.is_autocast_enabled("cuda"), torch.get_autocast_dtype("cuda")
        with torch.autocast("cuda", dtype=dtype, enabled=enabled, cache_enabled=False):  # a cache would not outlive it
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):
                for _ in range(2):  # libraries choose their algorithms before
                    self.function(*inputs)
            torch.cuda.current_stream().wait_stream(stream)
            with torch.cuda.graph(graph, capture_error_mode="thread_local"):  # other threads may be reading images
                output = self.function(*inputs)
        return graph, inputs, output
