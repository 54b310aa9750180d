"""The advisor: a diagnosis in, ranked and explained methods out."""
