"""`import dpnet_lite`: the names that people use, and nothing heavy before one is used."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module

import pytest
from places import ROOT

import dpnet_lite

HOMES = {
    "DPNet": "model.dpnet",
    "FeatureBank": "features",
    "ModelConfig": "config",
    "Predictor": "predictor",
    "Trainer": "training",
    "TrainingConfig": "config",
    "compute_features": "experiments.kept_features",
    "load_trained": "checkpoints",
    "score_episodes": "scoring",
}


def test_the_names_are_those_of_their_modules():
    for name, home in HOMES.items():
        assert getattr(dpnet_lite, name) is getattr(import_module(f"dpnet_lite.{home}"), name)
    assert set(HOMES) | {"__version__"} <= set(dir(dpnet_lite))
    with pytest.raises(AttributeError, match="'dpnet_lite' has no attribute 'Head'"):
        dpnet_lite.Head  # noqa: B018
    with pytest.raises(ImportError):
        from dpnet_lite import Head  # noqa: F401


def test_pytorch_is_loaded_when_a_name_needs_it():
    program = (
        "import sys, dpnet_lite\n"
        "dir(dpnet_lite), dpnet_lite.__version__, dpnet_lite.ModelConfig(), dpnet_lite.TrainingConfig()\n"
        "print([name for name in ('torch', 'numpy', 'torchvision') if name in sys.modules])\n"
        "dpnet_lite.DPNet; print('torch' in sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert run.stdout.splitlines() == ["[]", "True"]
