"""Counts on the Hugging Face hub: which files they are, and what their card says."""

from typing import Any, cast

from dspa_nn.hub import CardFacts, OnHub

_USE = """import dspa_nn as dn

counts = dn.ActivationCounts.from_hub("{repo_id}")
map = counts.fit(percentile=90)"""


class PublishedCounts(OnHub):
    """A table of counts that can lie on the hub.

    >>> isinstance(counts, PublishedCounts)
    True
    """

    hub_files = ("counts.json", "counts-*.safetensors")

    def card_facts(self) -> CardFacts:
        """What the card of a repository says of it.

        >>> counts.card_facts().settings["triples"] == len(counts)
        True
        """
        counts = cast(Any, self)
        model = counts.provenance.get("model_id")
        read = f" read by {model}" if isinstance(model, str) else ""
        return CardFacts(
            kind="counts",
            what=f"On how many tokens each latent fired, for each of {len(counts)} preference "
            f"triples{read}: integers, and no text. Maps of any subset, with any settings, are "
            "fitted from them without the model.",
            use=_USE,
            origin=counts.provenance,
            settings={
                "triples": len(counts),
                "input latents": counts.d_in,
                "output latents": counts.d_out,
                "left out": counts.skipped or "none",
            },
        )
