"""The catalog: every published method as one entry, and recipes by name."""

from tailwise.catalog.entries import METHODS
from tailwise.catalog.method import Fragment, Method, compose_fragments
from tailwise.catalog.resolving import resolve, search_space

__all__ = ["METHODS", "Fragment", "Method", "compose_fragments", "resolve", "search_space"]
