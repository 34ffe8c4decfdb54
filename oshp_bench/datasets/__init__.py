"""The source datasets: labels, merges, folds, layouts, photos, masks."""
