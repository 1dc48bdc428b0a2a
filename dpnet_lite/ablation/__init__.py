"""Ablations: named variants of the network, trained and scored in pairs, and what may be concluded from them.

`studies` says what is compared, `runs` and `execution` train and score one variant, `engines` runs many, `table` keeps
the rows, `comparisons` judges, `report` and `figures` write; `jobs` does it all. `rivals` has networks of others.
"""
