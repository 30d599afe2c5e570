"""Pictures of what a run did, drawn with matplotlib's objects: no pyplot, no global state."""
