"""Where the files lie that the package brings along: the demo's triples, the embedded SAEs."""

from pathlib import Path

ASSETS = Path(__file__).parents[1] / "assets"
