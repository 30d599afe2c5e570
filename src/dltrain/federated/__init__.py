"""Federated learning: clients train in turn, each on examples of its own, and are averaged."""
