"""What was edited and why: reports that a person reads, and what latents mean."""

from dspa_nn.audit.causal import CausalCheck, LatentEffect, causal_check, top_latents
from dspa_nn.audit.covered import Coverage, coverage
from dspa_nn.audit.halves import Stability, TopSet, stability
from dspa_nn.audit.neuronpedia import explained, neuronpedia_page, read_neuronpedia
from dspa_nn.audit.paths import Vote, votes_for
from dspa_nn.audit.places import Side, Text, meaning_of_snippets, snippets
from dspa_nn.audit.reporting import report
from dspa_nn.audit.steered import RankedLatent, SteeredLatents, steered_latents
from dspa_nn.saes import LatentMeaning, Snippet, read_meanings, write_meanings

__all__ = [
    "CausalCheck",
    "Coverage",
    "LatentEffect",
    "LatentMeaning",
    "RankedLatent",
    "Side",
    "Snippet",
    "Stability",
    "SteeredLatents",
    "Text",
    "TopSet",
    "Vote",
    "causal_check",
    "coverage",
    "explained",
    "meaning_of_snippets",
    "neuronpedia_page",
    "read_meanings",
    "read_neuronpedia",
    "report",
    "snippets",
    "stability",
    "steered_latents",
    "top_latents",
    "votes_for",
    "write_meanings",
]
