"""What was edited and why: reports that a person reads, and what latents mean."""

from dspa_nn.audit.neuronpedia import explained, neuronpedia_page, read_neuronpedia
from dspa_nn.audit.paths import Vote, votes_for
from dspa_nn.audit.places import Side, Text, meaning_of_snippets, snippets
from dspa_nn.audit.reporting import report
from dspa_nn.saes import LatentMeaning, Snippet, read_meanings, write_meanings

__all__ = [
    "LatentMeaning",
    "Side",
    "Snippet",
    "Text",
    "Vote",
    "explained",
    "meaning_of_snippets",
    "neuronpedia_page",
    "read_meanings",
    "read_neuronpedia",
    "report",
    "snippets",
    "votes_for",
    "write_meanings",
]
