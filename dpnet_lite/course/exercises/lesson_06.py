"""Checks of notebook 06: the loss and the learning rate."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as functional
from torch import Tensor

from dpnet_lite.config import TrainingConfig
from dpnet_lite.course.exercises import ask, compare, require_number, require_tensor, right
from dpnet_lite.losses import learning_rate


def check_loss(function: Callable[[Tensor, Tensor], Tensor]) -> str:
    """6.1: function(logits [B, 2, H, W], labels int64 [B, H, W] with 0, 1 and 255) -> mean cross-entropy, a scalar."""
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        logits = 3 * torch.randn(2, 2, 5, 6, generator=generator)
        labels = torch.tensor([0, 1, 255])[torch.randint(3, (2, 5, 6), generator=generator)]
        wanted = functional.cross_entropy(logits, labels, ignore_index=255)
        given = require_tensor(ask(function, logits, labels), (), "my_loss")
        valid = labels != 255
        as_background = functional.cross_entropy(logits, torch.where(valid, labels, 0))
        exchanged = functional.cross_entropy(logits.flip(1), labels, ignore_index=255)
        own = torch.where(valid, labels, 0)[:, None]  # the channel of each pixel's label
        of_truth = logits.softmax(dim=1).gather(1, own)[:, 0][valid]
        along = {d: -logits.log_softmax(dim=d).gather(1, own)[:, 0][valid].mean() for d in (0, 2, 3)}
        mistakes = {
            "divide by the number of pixels that count, not by the number of all": wanted * valid.float().mean(),
            "255 is neither foreground nor background: leave these pixels out": as_background,
            "the sign is wrong: a probability below 1 has a negative logarithm": -wanted,
            "this is the sum: divide by the number of pixels that count": wanted * valid.sum(),
            "the labels are exchanged: channel 1 is the object, channel 0 the background": exchanged,
            "this is a mean of probabilities: take the logarithm of each pixel's first": -of_truth.mean(),
            "this is one minus the probability: pay minus its logarithm": 1 - of_truth.mean(),
            "the logarithm is to the base 2: take the natural one": wanted / np.log(2),
            "these are logits: take log_softmax first": -logits.gather(1, own)[:, 0][valid].mean(),
        }
        mistakes |= {f"log_softmax runs over dim={d}; the two channels are dim=1": wrong for d, wrong in along.items()}
        otherwise = f"the loss should be {float(wanted):.4f}, yours is {float(given):.4f}"
        compare(given, wanted, mistakes, otherwise, atol=1e-5, rtol=0)
    return right("6.1", "the loss agrees with torch's in 20 random cases")


def check_learning_rate(function: Callable[[int, int, float, int], float]) -> str:
    """6.2: function(step, steps, peak, warmup_steps) -> the rate of that step."""
    for steps, warmup in ((100, 10), (1000, 50), (40, 0)):
        config = TrainingConfig(steps=steps, learning_rate=2e-3, warmup_steps=warmup)
        for step in (0, 1, warmup // 2, max(0, warmup - 1), warmup, steps // 2, steps - 1):
            given = require_number(ask(function, step, steps, 2e-3, warmup), "my_rate")
            wanted = learning_rate(step, config)
            late = "the first step has the number 0 and must not stand still: it takes 1 / warmup_steps of the rate"
            fall = 2e-3 * (1 + np.cos(np.pi * step / steps)) / 2
            rise = 2e-3 * min(1, (step + 1) / max(1, warmup))
            mistakes = {"the cosine takes t, not t + 1": rise * (1 + np.cos(np.pi * (step + 1) / steps)) / 2}
            if step < warmup:
                mistakes |= {late: wanted * step / (step + 1), "the cosine multiplies during the warm-up too": rise}
            if step >= warmup:
                mistakes["the rise goes on after the warm-up: it stops at 1"] = fall * (step + 1) / max(1, warmup)
                begun = (1 + np.cos(np.pi * (step - warmup) / (steps - warmup))) / 2
                mistakes["the cosine takes the step from the start, not from the end of the warm-up"] = 2e-3 * begun
            mistakes["the cosine is not halved: 1 + cos goes from 2 to 0"] = 2 * wanted
            mistakes["divide t by T, not by T - 1"] = rise * (1 + np.cos(np.pi * step / (steps - 1))) / 2
            mistakes["pi is missing in the cosine: it runs over half a turn"] = rise * (1 + np.cos(step / steps)) / 2
            otherwise = (
                f"step {step} of {steps} ({warmup} of warm-up): the rate should be {wanted:.8g}, yours is {given:.8g}"
            )
            compare(given, wanted, mistakes, otherwise, atol=1e-9, rtol=0)
    return right("6.2", "the rates of three schedules agree with the package")
