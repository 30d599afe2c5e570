"""What a network tries to do: losses and metrics."""
