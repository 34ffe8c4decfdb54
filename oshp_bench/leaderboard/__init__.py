"""Predictions and results become submissions, boards and a Codabench bundle."""
