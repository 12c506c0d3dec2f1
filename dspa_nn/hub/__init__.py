"""What is shared on the Hugging Face hub: saved things with a card, and what a file of ours is."""

from dspa_nn.hub.cards import CardFacts, CardOptions, card_of
from dspa_nn.hub.contents import Found, identify
from dspa_nn.hub.sharing import OnHub, download, upload

__all__ = [
    "CardFacts",
    "CardOptions",
    "Found",
    "OnHub",
    "card_of",
    "download",
    "identify",
    "upload",
]
