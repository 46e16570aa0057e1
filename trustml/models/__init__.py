"""Models, one file each: builders of untrained classifiers."""
