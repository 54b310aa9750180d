"""Lexical evidence: what the words, characters and shapes of an input say without an encoder."""
