"""The loop: read these files first."""
