"""A map on the Hugging Face hub: which files it is, and what its card says."""

from typing import Any, cast

from dspa_nn.hub import CardFacts, OnHub

_USE = """import dspa_nn as dn

map = dn.ConditionalDifferenceMap.from_hub("{repo_id}")
print(map)
with model.generate(prompt, max_new_tokens=64) as tracer:
    edits = dspa.apply(map)
    ids = tracer.result.save()"""


class PublishedMap(OnHub):
    """A map, or a sum of maps, that can lie on the hub.

    >>> isinstance(map, PublishedMap)
    True
    """

    hub_files = ("map.json", "map-*.safetensors")

    def card_facts(self) -> CardFacts:
        """What the card of a repository says of it.

        >>> map.card_facts().settings["entries"] == len(map.values)
        True
        """
        map = cast(Any, self)
        terms: list[tuple[float, Any]] = list(getattr(map, "terms", ()))
        settings: dict[str, Any] = {"input latents": map.shape[0], "output latents": map.shape[1]}
        if terms:
            settings["sum of"] = [
                f"{coefficient:g} x a map of {one.n_triples} triples" for coefficient, one in terms
            ]
        settings |= {name: value for name, value in map.fitted.items() if value is not None}
        if "fitted_gate" in map.provenance:
            settings["fitted with the gate"] = map.provenance["fitted_gate"]
        settings["entries"] = len(map.values)
        settings |= {f"steers with {name}": value for name, value in map.defaults.items()}
        layers = [map.provenance.get(name) for name in ("input_layer", "output_layer")]
        where = "" if None in layers else f", from layer {layers[0]} to layer {layers[1]}"
        model = map.provenance.get("model_id")
        of = f" for {model}" if isinstance(model, str) else ""
        return CardFacts(
            kind="sum" if terms else "map",
            what=f"A conditional-difference map{of}{where}: it says which output latents chosen "
            "responses use more than rejected ones, given the latents of the prompt, and steers "
            "the model towards them.",
            use=_USE,
            origin=map.provenance,
            settings=settings,
        )
