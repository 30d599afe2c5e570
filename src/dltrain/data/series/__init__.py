"""Series over time: windows of what was, and of what is to be forecast."""
