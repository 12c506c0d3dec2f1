"""What was edited and why: reports that a person reads, and what latents mean."""

from dspa_nn.audit.asking import CATEGORIES
from dspa_nn.audit.categories import CategoryTable, FisherTest, category_by_rule, category_table
from dspa_nn.audit.causal import causal_check, top_latents
from dspa_nn.audit.causal_table import CausalCheck, LatentEffect
from dspa_nn.audit.comparing import compare_with_random, latents_to_compare, random_latents
from dspa_nn.audit.covered import Coverage, coverage
from dspa_nn.audit.explaining import explain, judged_meanings
from dspa_nn.audit.halves import Stability, TopSet, stability
from dspa_nn.audit.meanings import known_meanings
from dspa_nn.audit.neuronpedia import explained, neuronpedia_page, read_neuronpedia
from dspa_nn.audit.paths import Vote, votes_for
from dspa_nn.audit.places import Side, Text, meaning_of_snippets, snippets
from dspa_nn.audit.reporting import report
from dspa_nn.audit.steered import RankedLatent, SteeredLatents, steered_latents
from dspa_nn.saes import LatentMeaning, Snippet, read_meanings, write_meanings

__all__ = [
    "CATEGORIES",
    "CategoryTable",
    "CausalCheck",
    "Coverage",
    "FisherTest",
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
    "category_by_rule",
    "category_table",
    "causal_check",
    "compare_with_random",
    "coverage",
    "explain",
    "explained",
    "judged_meanings",
    "known_meanings",
    "latents_to_compare",
    "meaning_of_snippets",
    "neuronpedia_page",
    "random_latents",
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
