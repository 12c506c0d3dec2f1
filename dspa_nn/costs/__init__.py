"""What fitting and training cost, in FLOPs."""
