"""The comparison of all methods: triples, methods, their scales, runs and tables."""
