"""Frozen feature extractors: the tiny one of the built-in world, networks of torchvision and of PFENet at stride 8."""
