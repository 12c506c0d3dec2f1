"""The demo: fit a map on embedded triples, steer held-out prompts, measure what it did."""

from dspa_nn.demo.run import run_demo
from dspa_nn.demo.sets import SETS, SHOWN, DemoSet, TextScore
from dspa_nn.demo.show import terminal

__all__ = ["SETS", "SHOWN", "DemoSet", "TextScore", "run_demo", "terminal"]
