"""Tables, points and sequences of numbers."""
