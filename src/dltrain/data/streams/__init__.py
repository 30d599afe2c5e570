"""Batches from examples that lie in memory or on disk."""
