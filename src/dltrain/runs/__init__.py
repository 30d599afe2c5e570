"""The run folder: what a run leaves, and how it is used again."""
