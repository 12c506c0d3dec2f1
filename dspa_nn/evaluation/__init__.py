"""Measures of what steering does: for now, the lexical style score of the demo."""
