"""How much memory a 5-shot cycle comparison at 60 x 60 adds, measured in a process of its own."""

from __future__ import annotations

import subprocess
import sys

import pytest
from places import ROOT

pytest.importorskip("resource", reason="peak memory is read with the resource module (Linux, macOS)")

LIMIT_MB = 150

PROGRAM = """
import resource, sys
import torch
import torch.nn.functional as functional
from dpnet_lite.config import ModelConfig
from dpnet_lite.model.cycle_comparison import select_reliable

def peak():
    # On Linux ru_maxrss starts at the peak of the process that started this one, so a large test run would hide
    # everything; VmHWM starts anew.
    if sys.platform == "linux":
        lines = open("/proc/self/status").read().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 2**10  # from kB
    unit = 1 if sys.platform == "darwin" else 2**10  # bytes on macOS, else kB
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20

def case(side):
    generator = torch.Generator().manual_seed(0)
    support = torch.randn(1, 5, 64, side, side, generator=generator)
    masks = (torch.rand(1, 5, side, side, generator=generator) < 0.3).float()
    return support, masks, torch.randn(1, 64, side, side, generator=generator), torch.randn(1, 64)

def blocked(support, masks, query, prototype):
    selection, matches = select_reliable(ModelConfig(), support, masks, query, prototype)
    return matches.forward_match, matches.backward_match

def whole(support, masks, query, prototype):
    pixels = functional.normalize(support.permute(0, 1, 3, 4, 2).flatten(1, 3), dim=2)
    similarity = torch.bmm(pixels, functional.normalize(query.flatten(2), dim=1))
    return similarity.argmax(dim=2), similarity.argmax(dim=1)

method = {"blocked": blocked, "whole": whole}[sys.argv[1]]
torch.set_num_threads(1)
method(*case(10))  # loads what torch loads on first use
inputs = case(60)
before = peak()
forward, backward = method(*inputs)
assert forward.shape == (1, 18_000) and backward.shape == (1, 3_600)
print(peak() - before)
"""


def added_megabytes(method: str) -> float:
    command = [sys.executable, "-c", PROGRAM, method]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return float(run.stdout)


def test_five_shots_at_60_by_60_add_little_memory():
    assert added_megabytes("blocked") <= LIMIT_MB


def test_the_measure_sees_a_similarity_held_whole():
    assert added_megabytes("whole") > 1.5 * LIMIT_MB  # 18,000 x 3,600 float32 numbers are 247 MB
