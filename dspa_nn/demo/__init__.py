"""The demo: fit a map on embedded triples, steer held-out prompts, measure what it did."""

from dspa_nn.demo.run import run_demo

__all__ = ["run_demo"]
