"""Losses that tasks minimize."""
