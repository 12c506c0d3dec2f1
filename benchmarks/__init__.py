"""Scripts that measure: `python -m benchmarks.NAME --help` says what and how long."""
