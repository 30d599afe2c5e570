"""Environments, whose examples come of acting in them."""
