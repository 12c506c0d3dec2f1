"""Preference triples: prompt, chosen, rejected; read from files, data sets or rows."""

from dspa_nn.triples.demo import (
    DemoRow,
    Preference,
    demo_triples,
    read_demo_rows,
    take_demo_rows,
)
from dspa_nn.triples.layouts import DIVERGED, EMPTY, EQUAL, Skipped, read_row
from dspa_nn.triples.overlap import repeated, shared
from dspa_nn.triples.sources import Source, Triples, as_triples, load_triples
from dspa_nn.triples.splits import SPLITS, Split, hh_rlhf_rows, ultrafeedback_rows
from dspa_nn.triples.triple import Message, PreferenceTriple, Prompt, as_messages, check_text

__all__ = [
    "DIVERGED",
    "EMPTY",
    "EQUAL",
    "SPLITS",
    "DemoRow",
    "Message",
    "Preference",
    "PreferenceTriple",
    "Prompt",
    "Skipped",
    "Source",
    "Split",
    "Triples",
    "as_messages",
    "as_triples",
    "check_text",
    "demo_triples",
    "hh_rlhf_rows",
    "load_triples",
    "read_demo_rows",
    "read_row",
    "repeated",
    "shared",
    "take_demo_rows",
    "ultrafeedback_rows",
]
