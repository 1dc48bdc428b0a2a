"""Data sets: the built-in toy world, folders of photographs, unions of them, and what they share."""
