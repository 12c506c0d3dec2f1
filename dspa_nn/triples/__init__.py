"""Preference triples: prompt, chosen, rejected."""
