"""Which layers? Every SAE of a model counted in one run, and any pair of them taken from it."""

from collections.abc import Iterable, Mapping
from typing import Any, Unpack, cast

import torch
from nnsight.modeling.transformers import TransformersModel

from dspa_nn.checks import check_names
from dspa_nn.counts import ActivationCounts, Reader, pairs_of, side_by_side
from dspa_nn.errors import CountsError, SteeringError
from dspa_nn.maps import ConditionalDifferenceMap, FitOptions
from dspa_nn.models import ModelFacts, read_facts
from dspa_nn.ndif import Payload, payload_of_encoders
from dspa_nn.saes import LoadedSAE, load_sae
from dspa_nn.steering.counting import planned_run
from dspa_nn.steering.dspa import DSPA
from dspa_nn.steering.layers import check_layers
from dspa_nn.steering.options import COUNT, CountOptions
from dspa_nn.steering.sweep_counts import SweepCounts


class LayerSweep:
    """A model with SAEs at several layers: one run counts them all, for any pair of layers.

    Example:
        >>> sweep = LayerSweep(model, input_saes={0: early, 1: later}, output_saes={2: late})
        >>> swept = sweep.count(triples)
        >>> for pair in swept.pairs:
        ...     print(pair, swept.fit(*pair, percentile=50).shape)
        (0, 2) (48, 40)
        (1, 2) (48, 40)
        >>> dspa, map = sweep.dspa(1, 2), sweep.fit(1, 2, percentile=50)

    The model runs as far as the deepest output layer, once, whatever the number of pairs. What is
    counted for a pair is what `sweep.dspa(i, o).count(triples)` counts, byte for byte, since no
    layer depends on those above it (docs/method.md 3.1).

    Args:
        model: as for `DSPA`.
        input_saes: decoder block, from 0 -> the input SAE that reads its output, as `DSPA` takes
            one.
        output_saes: the same for output SAEs. A pair is an input layer and an output layer that
            does not come before it; every SAE must be in a pair.
        same_model_as: as for `DSPA`.
        defaults: as for `DSPA`.
        payload_dtype: as for `DSPA`.
        sae_device: as for `DSPA`.
        template: as for `DSPA`.

    Raises:
        SAEError: an SAE that cannot be used, or that belongs to another layer, width or model.
        SteeringError: no SAEs, layers that do not exist, or one that is in no pair.
    """

    def __init__(
        self,
        model: TransformersModel,
        *,
        input_saes: Mapping[int, object],
        output_saes: Mapping[int, object],
        same_model_as: str | None = None,
        defaults: Mapping[str, Any] | None = None,
        payload_dtype: str | None = None,
        sae_device: torch.device | str | None = None,
        template: str | None = None,
    ) -> None:
        self.model = model
        self.facts: ModelFacts = read_facts(model, template=template)
        self.defaults = dict(defaults or {})
        self._options: dict[str, Any] = {
            "same_model_as": same_model_as,
            "defaults": defaults,
            "payload_dtype": payload_dtype,
            "sae_device": sae_device,
            "template": template,
        }
        inputs = _by_layer(self.facts, "input", input_saes)
        outputs = _by_layer(self.facts, "output", output_saes)
        self.pairs = pairs_of(inputs, outputs)
        _require_pairs(self.pairs, inputs, outputs)
        self._inputs: dict[int, LoadedSAE] = {at: load_sae(sae) for at, sae in inputs.items()}
        self._outputs: dict[int, LoadedSAE] = {at: load_sae(sae) for at, sae in outputs.items()}
        # A `DSPA` checks, places and names its two SAEs. One for each input SAE, with the last
        # output SAE; one for each output SAE, with the first input SAE.
        first, last = min(inputs), max(outputs)
        self._of_inputs = [self.dspa(layer, last) for layer in inputs]
        self._of_outputs = [self.dspa(first, layer) for layer in outputs]
        self._counted: SweepCounts | None = None

    def __repr__(self) -> str:
        saes = [
            f"{role} layers {', '.join(map(str, group))}"
            for role, group in (("input", self._inputs), ("output", self._outputs))
        ]
        pairs = len(self.pairs)
        return f"LayerSweep({self.facts.model_id}: {'; '.join(saes)}; {pairs} pairs)"

    def count(self, triples: Iterable[Any], **options: Unpack[CountOptions]) -> SweepCounts:
        """Run the model over the triples once, and count the latents of every SAE.

        Example:
            >>> swept = sweep.count(triples, checkpoint="sweep-run")
            >>> swept.save("sweep")

        Args:
            triples: as for `DSPA.count`.
            options: those of `DSPA.count`: remote, token_budget, overlong, refused, checkpoint,
                progress, shards, shard.

        Returns:
            The counts of all SAEs, each held once. `counts`, `fit` and so on of the sweep itself
            are those of what was counted last.

        Raises:
            CountsError: no triples, a checkpoint of another run, no such shard or keyword.
            TripleError: a triple that cannot be rendered; it is named.
        """
        check_names("count", options, COUNT, CountsError)
        run, left = planned_run(self, triples, options)
        self._counted = SweepCounts(run.count(**left), self)
        return self._counted

    def counts(self, input_layer: int, output_layer: int) -> ActivationCounts:
        """What was last counted, for one pair of layers.

        Example:
            >>> sweep.count(triples)
            SweepCounts: ...
            >>> len(sweep.counts(1, 2)) == len(triples)
            True

        Raises:
            CountsError: nothing was counted yet, or there is no such pair.
        """
        return self.counted.counts(input_layer, output_layer)

    def fit(
        self, input_layer: int, output_layer: int, **options: Unpack[FitOptions]
    ) -> ConditionalDifferenceMap:
        """The map of one pair of layers, from what was last counted; see `ActivationCounts.fit`.

        Example:
            >>> map = sweep.fit(1, 2, percentile=50)

        Raises:
            CountsError: nothing was counted yet, or there is no such pair.
            MapError: options out of range.
        """
        return self.counted.fit(input_layer, output_layer, **options)

    @property
    def counted(self) -> SweepCounts:
        """What was last counted.

        Raises:
            CountsError: nothing was.
        """
        if self._counted is None:
            raise CountsError("nothing was counted yet; call count(triples) of this sweep first")
        return self._counted

    def dspa(self, input_layer: int, output_layer: int) -> DSPA:
        """The `DSPA` of one pair of layers, of the same model and SAEs.

        Example:
            >>> sweep.dspa(1, 2).paths
            ('model.layers.1', 'model.layers.2')

        Raises:
            SteeringError: there is no such pair.
        """
        if (input_layer, output_layer) not in self.pairs:
            raise SteeringError(
                f"layers {input_layer!r} and {output_layer!r} came, and the pairs of this sweep "
                f"are {', '.join(map(str, self.pairs))}; give an input and an output layer of these"
            )
        return DSPA(
            self.model,
            input_sae=self._inputs[input_layer],
            output_sae=self._outputs[output_layer],
            input_layer=input_layer,
            output_layer=output_layer,
            **self._options,
        )

    def payload(self) -> Payload:
        """Count the bytes that a counting job on NDIF sends, SAE by SAE; nothing is sent.

        Example:
            >>> [part.name for part in sweep.payload().parts]
            ['input encoder', 'input encoder', 'output encoder']
        """
        inputs, outputs = ([reader.sae for reader in group] for group in self.readers)
        return payload_of_encoders(inputs, outputs)

    # What counting needs of it (`counts.CountedModel`)

    @property
    def readers(self) -> tuple[list[Reader], list[Reader]]:
        """What counts prompts, and what counts responses; each from the first block to the last."""
        return (
            [dspa.readers[0][0] for dspa in self._of_inputs],
            [dspa.readers[1][0] for dspa in self._of_outputs],
        )

    def place_saes(self) -> None:
        """Put each SAE beside the layer that it reads."""
        for dspa in (*self._of_inputs, *self._of_outputs):
            dspa.place_saes()

    def provenance(self, *, anew: bool = False) -> dict[str, Any]:
        """What identifies the model and the SAEs; what belongs to one SAE is a list.

        anew: read every weight again, though nothing seems to have changed.
        """
        return side_by_side(
            [dspa.provenance() | {"input_width": dspa.input_sae.width} for dspa in self._of_inputs],
            [
                dspa.provenance(anew=anew) | {"output_width": dspa.output_sae.width}
                for dspa in self._of_outputs
            ],
        )


def _by_layer(facts: ModelFacts, role: str, saes: Mapping[int, object]) -> dict[int, object]:
    """The SAEs from the first layer to the last; refused is what are no layers of the model."""
    if not isinstance(cast(object, saes), Mapping):
        raise SteeringError(
            f"{role}_saes is of type {type(saes).__name__}; expected Mapping, the SAE of each "
            "layer, as {9: folder}"
        )
    if not saes:
        raise SteeringError(
            f"{role}_saes is empty; give at least one SAE by its layer, as {{9: folder}}"
        )
    for layer in cast(Mapping[Any, object], saes):
        if layer is None:
            raise SteeringError(
                f"{role}_saes has the layer None; name the decoder block of each SAE, from 0"
            )
        check_layers(facts, *((layer, None) if role == "input" else (None, layer)))
    return {int(layer): saes[layer] for layer in sorted(saes)}


def _require_pairs(
    pairs: list[tuple[int, int]], inputs: Iterable[int], outputs: Iterable[int]
) -> None:
    for role, at, layers, side in (
        ("input", 0, inputs, "output layer after"),
        ("output", 1, outputs, "input layer before"),
    ):
        for layer in layers:
            if layer not in [pair[at] for pair in pairs]:
                raise SteeringError(
                    f"{role} layer {layer} has no {side} it, and so is in no pair; leave it out, "
                    f"or add an SAE at such a layer"
                )
