"""Sparse autoencoders as plain tensors."""
