"""One run in several processes: who they are, what each has of a batch, what they sum."""
