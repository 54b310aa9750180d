"""Encoders, cached features, heads, fitted models, and how they are saved and loaded."""
