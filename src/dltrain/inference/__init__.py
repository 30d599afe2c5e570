"""Using a trained run: predictions, evaluations, exports."""
