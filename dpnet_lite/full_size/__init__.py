"""The published benchmarks at full size: recipes, training from images, scoring under protocols."""
