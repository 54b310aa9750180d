"""Comparing methods on equal terms: cells, the store that keeps them, tuning, and what follows from the scores."""
