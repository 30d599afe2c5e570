"""Reinforcement learning: tasks that act, and what they keep of what happened."""
