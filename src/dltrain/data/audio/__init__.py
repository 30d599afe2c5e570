"""Sounds: files to samples, samples to frames of features, and where their labels come from."""
