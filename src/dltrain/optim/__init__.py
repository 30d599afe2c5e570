"""How weights step, and what holds them back."""
