"""What the source datasets are: labels, merges, folds, layouts, photos, masks."""
