"""From a source dataset to a manifest and its truth."""
