"""A receipt for a map: what it does, what it damages, whether anything simpler does the same."""

from dspa_nn.receipt.claims import (
    HIGHEST_PERPLEXITY_RATIO,
    Verdict,
    fluency_claim,
    margin_claim,
    parts_of,
)
from dspa_nn.receipt.markup import STYLE, Row, intervals, table
from dspa_nn.receipt.run import SCHEMA, VERSION, Receipt, evaluate

__all__ = [
    "HIGHEST_PERPLEXITY_RATIO",
    "SCHEMA",
    "STYLE",
    "VERSION",
    "Receipt",
    "Row",
    "Verdict",
    "evaluate",
    "fluency_claim",
    "intervals",
    "margin_claim",
    "parts_of",
    "table",
]
