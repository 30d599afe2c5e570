"""Networks that say how much a user would like an item."""
