"""Networks for texts and sequences."""
