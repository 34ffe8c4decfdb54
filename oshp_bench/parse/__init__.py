"""Parses a person's own photos with a checkpoint."""
