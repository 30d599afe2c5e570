"""Networks that generate images."""
