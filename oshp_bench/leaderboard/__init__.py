"""Submissions of predictions, boards of results, and Codabench bundles."""
