"""Who has rated what."""
