"""DSPA: count, fit, plan, apply."""
