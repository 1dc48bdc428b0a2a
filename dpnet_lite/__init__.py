"""DPNet Lite: few-shot semantic segmentation with a support prototype and a query pseudo-prototype."""

__version__ = "0.1.0"
