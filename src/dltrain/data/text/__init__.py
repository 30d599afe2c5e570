"""Texts: vocabularies, files, augmentation."""
