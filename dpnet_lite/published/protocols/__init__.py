"""Evaluation protocols of published code: their figures, ways of drawing, of counting and of scoring."""
