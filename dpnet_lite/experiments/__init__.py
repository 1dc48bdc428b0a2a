"""The main job: train on base classes, score on novel ones beside rivals; its tables, intervals and pictures."""
