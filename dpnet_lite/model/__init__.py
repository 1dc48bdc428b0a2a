"""The network: the frozen backbone and the parts of the dual prototype head, one part per file."""
