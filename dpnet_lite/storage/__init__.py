"""What is kept on disk, and how: files written whole, states to resume from, all checked when they are read."""
