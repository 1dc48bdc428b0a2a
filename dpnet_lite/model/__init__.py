"""The dual prototype network, one part per file; `dpnet.py` reads from top to bottom as the paper tells it."""
