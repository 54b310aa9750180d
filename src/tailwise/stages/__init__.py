"""Recipes and stages: plain data that say what to do (survey section 3.4)."""
