"""Steering on real preferences: rows, settings, measures and tables of one experiment."""
