"""PASCAL-5i, COCO-20i and FSS-1000: readers, checks, recipes, and the protocols of published code."""
