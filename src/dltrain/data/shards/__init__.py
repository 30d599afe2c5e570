"""Data larger than memory: examples in many files, read as they are needed."""
