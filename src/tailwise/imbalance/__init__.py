"""Imbalance: measures, shape, groups, catch-all, duplicates, shift, overlap, and the diagnosis of a corpus."""
