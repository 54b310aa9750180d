"""Dependency parsing: scorers of arcs and relations, and the search for the best tree."""
