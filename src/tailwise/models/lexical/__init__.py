"""Lexical evidence: what the words, characters and shapes of an input say without an encoder."""

from tailwise.models.lexical.features import LexicalFeatures

__all__ = ["LexicalFeatures"]
