"""The contracts: what the parts of a run promise each other. The lowest floor: torch alone.

``data``: what examples are, and where batches come from. ``task``: what to minimize and what to
answer. ``metric``: how a split is evaluated. ``run``: what acts on weights and what watches.
"""
