"""A search over configs: many runs as the trials of one study, in one or many processes."""
