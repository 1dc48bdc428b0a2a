"""How much memory a 5-shot cycle comparison at 60 x 60 adds, measured in a process of its own."""

from __future__ import annotations

import subprocess
import sys

import pytest
from places import ROOT

pytest.importorskip("resource", reason="peak memory is read with the resource module (Linux, macOS)")

pytestmark = pytest.mark.slow
LIMIT_MB = 150

PROGRAM = """
import resource, sys
import torch
import torch.nn.functional as functional
from dpnet_lite.model.matching import cycle_matches

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
    support = torch.randn(1, 5 * side**2, 64, generator=generator)
    mask = torch.rand(1, 5 * side**2, generator=generator) < 0.3
    return support, torch.randn(1, side**2, 64, generator=generator), mask

def blocked(support, query, mask):
    matches = cycle_matches(support, query, mask)
    return matches.forward_match, matches.backward_match

def whole(support, query, mask):
    similarity = functional.normalize(support, dim=2) @ functional.normalize(query, dim=2).transpose(1, 2)
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
