"""Tests of dspa_nn/audit."""
