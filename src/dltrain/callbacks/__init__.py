"""Watchers of a run: they read, write files and may ask for an end; they change no weight."""
