"""Ablations: named variants of the network, trained and scored in pairs, and what may be concluded from them.

`studies` says what is compared, `runs` trains and scores one variant, `engines` runs many, `table` keeps the rows,
`comparisons` judges, `report` writes.
"""
