"""Every config file, installed as a package so that one search path finds them everywhere."""

IMPLIED = {"model=fusion": ["data.images", "data.texts"]}
"""Choices that follow from keys that were typed, where nobody chose of their group."""
