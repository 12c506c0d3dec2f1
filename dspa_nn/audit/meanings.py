"""What a report says of the latents in it: the package's tables, and what is added to them."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from dspa_nn.audit.neuronpedia import explained, neuronpedia_page
from dspa_nn.checks import check_choice
from dspa_nn.errors import DSPAError
from dspa_nn.evaluation import promoted_tokens
from dspa_nn.saes import LatentMeaning, meanings_of
from dspa_nn.steering import DSPA


def _first(own: LatentMeaning, table: LatentMeaning) -> LatentMeaning:
    """What was given, and what the table adds to it."""
    [merged] = explained({0: table}, {0: own}).values()
    return replace(
        merged,
        promotes=own.promotes or table.promotes,
        fires_on=own.fires_on or table.fires_on,
        snippets=own.snippets or table.snippets,
    )


def known_meanings(
    origin: Mapping[str, Any],
    side: str,
    latents: Iterable[int],
    given: Mapping[int, LatentMeaning] | None = None,
    dspa: DSPA | None = None,
) -> dict[int, LatentMeaning]:
    """Each latent with what is known of it, which may be nothing.

    Example:
        >>> found = known_meanings({}, "output", [3], {3: LatentMeaning(explanation="light")})
        >>> found[3].explanation
        'light'

    Args:
        origin: what identifies the SAEs, as in a map's provenance.
        side: "input" or "output".
        latents: of this SAE.
        given: meanings that go before those of the package's table.
        dspa: reads the tokens that output latents promote, where no table has them.

    Raises:
        DSPAError: another side.
    """
    check_choice("side", side, ("input", "output"), DSPAError)
    wanted = list(latents)
    table = meanings_of(origin.get(f"{side}_sae_sha256"))
    known = {latent: table.get(latent, LatentMeaning()) for latent in wanted}
    known |= {j: _first(given[j], known[j]) for j in wanted if given and j in given}
    if side == "output" and dspa is not None:
        bare = [latent for latent in wanted if not known[latent].promotes]
        words = promoted_tokens(dspa, bare, most=6)
        known |= {j: replace(known[j], promotes=tuple(words[j])) for j in bare}
    sae_id = str(origin.get(f"{side}_sae") or "")
    for latent in wanted:
        if known[latent].link is None and (page := neuronpedia_page(sae_id, latent)):
            known[latent] = replace(known[latent], link=page)
    return known
