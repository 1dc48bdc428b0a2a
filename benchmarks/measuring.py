"""Time, floating-point operations, bytes, and the two ceilings of a device. Knows nothing of the network."""

from __future__ import annotations

import argparse
import itertools
import platform
import signal
import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

Step = Callable[[], Any]


def positive(text: str) -> int:
    """A whole number from 1, as an option of a command line."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is no number from 1")
    return value


class OutOfTime(BaseException):
    """The time budget ended. No Exception, so that nobody's `except Exception` takes it for a failed compile."""


class Timing(NamedTuple):
    seconds: float  # per call: median over the windows
    spread: float  # (slowest - fastest window) / median
    calls: int  # timed calls in all


class Work(NamedTuple):
    flops: int  # of one call, multiplications and additions, by torch's FlopCounterMode
    bytes: int  # of one call, by ByteCounter


@contextmanager
def until(deadline: float) -> Iterator[None]:
    """Raise OutOfTime in the block once `time.monotonic()` passes `deadline`.

    Works by an alarm, so in the main thread and on Unix alone; elsewhere only the time before the block is checked.
    """
    left = deadline - time.monotonic()
    if left <= 0:
        raise OutOfTime
    if not hasattr(signal, "SIGALRM") or threading.current_thread() is not threading.main_thread():
        yield
        return

    def ring(_signal: int, _frame: object) -> None:
        raise OutOfTime

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, left, 1.0)  # again each second: an exception in a destructor gets lost
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def synchronize(device: torch.device) -> None:
    """Wait until the device has done what it was given; a CPU always has."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def measure(step: Step, device: torch.device, *, window: float, windows: int = 5) -> Timing:
    """Time calls of `step` in several windows of about `window` seconds each, warm-up apart.

    The clock is the host's, read only when the device has finished.
    """

    def run(calls: int) -> float:
        synchronize(device)
        start = time.perf_counter()
        for _ in range(calls):
            step()
        synchronize(device)
        return time.perf_counter() - start

    run(2)  # warm-up: libraries load, algorithms are chosen, memory is taken
    calls = max(1, round(window / max(run(1), 1e-7)))
    calls = max(1, round(calls * window / max(run(calls), 1e-7)))  # also warms the clock of the device up
    seconds = [run(calls) / calls for _ in range(windows)]
    median = statistics.median(seconds)
    return Timing(median, (max(seconds) - min(seconds)) / median, calls * windows)


class ByteCounter(TorchDispatchMode):
    """Counts the bytes that eager operators must move if each reads its inputs and writes its outputs once.

    An estimate, not a measurement: caches can spare some of it, and an operator may move more (a workspace, a copy into
    another layout). Views and allocations move nothing.
    """

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        if "empty" not in func.__name__:
            inputs, declared = tensors((args, kwargs)), func._schema.arguments
            named = {argument.name: value for argument, value in zip(declared, args, strict=False)} | kwargs
            written = [named.get(argument.name) for argument in declared if is_written(argument)]
            sources = {tensor.untyped_storage().data_ptr() for tensor in inputs}
            new = [tensor for tensor in tensors(result) if tensor.untyped_storage().data_ptr() not in sources]
            if new or written:  # else a view
                self.bytes += sum(map(size_in_memory, [*inputs, *tensors(written), *new]))
        return result


def tensors(tree: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


def is_written(argument: Any) -> bool:
    return argument.alias_info is not None and argument.alias_info.is_write


def size_in_memory(tensor: Tensor) -> int:
    """Bytes that a tensor's elements take; an expanded dimension is there once."""
    count = 1
    for size, stride in zip(tensor.shape, tensor.stride(), strict=True):
        count *= size if stride != 0 else min(size, 1)
    return count * tensor.element_size()


def count_work(step: Step) -> Work:
    """Operations and bytes of one call, forward and, where there is one, backward."""
    with FlopCounterMode(display=False) as flops, ByteCounter() as moved:
        step()
    return Work(flops.get_total_flops(), moved.bytes)


def matrix_rate(device: torch.device, dtype: torch.dtype, side: int, window: float) -> float:
    """FLOP/s of a product of two random square matrices, the arithmetic ceiling of that type and of TF32's setting."""
    left, right = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    out = torch.empty_like(left)
    return 2 * side**3 / measure(lambda: torch.mm(left, right, out=out), device, window=window).seconds


def copy_rate(device: torch.device, size: int, window: float) -> float:
    """Bytes per second of a copy of `size` random bytes, read and written counted both: the memory ceiling."""
    source = torch.randint(256, (size,), dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return 2 * size / measure(lambda: target.copy_(source), device, window=window).seconds


class CallCounter(TorchDispatchMode):
    """Counts the calls of convolutions and of matrix products."""

    def __init__(self) -> None:
        super().__init__()
        self.convolutions = self.products = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.__name__.split(".")[0]
        self.convolutions += "convolution" in name
        self.products += name in ("mm", "bmm", "addmm", "baddbmm")
        return func(*args, **(kwargs or {}))


def peak_allocation(step: Step) -> int:
    """The most bytes that tensors made by one call held at once on a CPU, by PyTorch's own record of its allocator."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True, acc_events=True) as profiler:
        result = step()
    events = [event for event in profiler.profiler.kineto_results.events() if event.name() == "[memory]"]
    del result
    held = itertools.accumulate(event.nbytes() for event in sorted(events, key=lambda event: event.start_ns()))
    return max(held, default=0)


def peak_memory() -> float:
    """The most memory that this process had so far, in bytes."""
    if sys.platform == "linux":  # ru_maxrss starts at the peak of the process that started this one; VmHWM starts anew
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) * 2.0**10  # from kB
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1.0 if sys.platform == "darwin" else 2.0**10)


def environment(device: torch.device) -> dict[str, Any]:
    gpu = device.type == "cuda"
    return {
        "device": torch.cuda.get_device_name(device) if gpu else f"CPU, {torch.get_num_threads()} threads",
        "processor": processor(),
        "memory_bytes": torch.cuda.get_device_properties(device).total_memory if gpu else None,
        "torch": torch.__version__,
        "cuda": torch.version.cuda if gpu else None,
        "cudnn": torch.backends.cudnn.version() if gpu else None,
        "python": platform.python_version(),
    }


def processor() -> str:
    """The name of the CPU, as Linux gives it."""
    info = Path("/proc/cpuinfo")
    for line in info.read_text().splitlines() if info.is_file() else ():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.machine()
