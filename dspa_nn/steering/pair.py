"""A model and its two SAEs, checked against each other: all that is known before any run."""

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from nnsight.modeling.transformers import TransformersModel
from torch import nn

from dspa_nn._version import __version__
from dspa_nn.checks import check_names, check_type
from dspa_nn.counts import Reader
from dspa_nn.errors import SteeringError, TripleError
from dspa_nn.extensions import rule_of
from dspa_nn.graph.encode import Encoder
from dspa_nn.graph.portable import as_portable
from dspa_nn.graph.record import Steerer
from dspa_nn.graph.rules import KINDS
from dspa_nn.graph.settings import DEFAULTS
from dspa_nn.graph.stand_ins import PortableDSPA
from dspa_nn.maps import ConditionalDifferenceMap
from dspa_nn.models import Fingerprint, ModelFacts, read_facts
from dspa_nn.ndif import Payload, adopt, payload_of
from dspa_nn.prompts import Rendered, content_of, is_batch, render
from dspa_nn.saes import LoadedSAE, cast, check_sae, layer_device, load_sae, placed, read_device
from dspa_nn.shipping import Reduced, Shipped, reduce_dspa
from dspa_nn.steering.layers import check_layers, first_known
from dspa_nn.steering.options import ExtensionOrName, PromptOrPrompts
from dspa_nn.steering.pickling import Copied
from dspa_nn.steering.plan import Plan
from dspa_nn.triples import Prompt


class ModelAndSAEs(Copied, Shipped):
    """What `DSPA` is made of, and what it puts together for a run or for the way to NDIF.

    Example:
        >>> dspa = DSPA.from_preset("smollm2-135m-instruct")
        >>> prompt = dspa.render([{"role": "user", "content": "Hello"}])
        >>> dspa.paths
        ('model.layers.9', 'model.layers.24')

    The arguments, and what is raised, are those of `DSPA`.
    """

    def __init__(
        self,
        model: TransformersModel,
        *,
        input_sae: object,
        output_sae: object,
        input_layer: int | None = None,
        output_layer: int | None = None,
        same_model_as: str | None = None,
        defaults: Mapping[str, Any] | None = None,
        payload_dtype: str | None = None,
        sae_device: torch.device | str | None = None,
        template: str | None = None,
    ) -> None:
        self.model = model
        check_type("defaults", defaults, Mapping | None, SteeringError)
        check_type("payload_dtype", payload_dtype, str | None, SteeringError)
        check_type("same_model_as", same_model_as, str | None, SteeringError)
        self.payload_dtype = payload_dtype
        self.sae_device = read_device(sae_device)
        self.facts: ModelFacts = read_facts(model, template=template)
        self.same_model_as = same_model_as
        self.defaults = dict(defaults or {})
        check_names("defaults", self.defaults, tuple(DEFAULTS), SteeringError)
        self._fingerprint = Fingerprint()
        check_layers(self.facts, input_layer, output_layer)  # before an SAE is fetched
        self.input_sae = self._load(input_sae, input_layer, "input")
        self.output_sae = self._load(output_sae, output_layer, "output")
        # `check_sae` refuses an SAE of no known layer where none was given.
        self.input_layer = int(first_known(input_layer, self.input_sae.layer))
        self.output_layer = int(first_known(output_layer, self.output_sae.layer))
        check_layers(self.facts, self.input_layer, self.output_layer)
        # An SAE that was put on a GPU by hand stays there.
        self._follows = tuple(sae.encoder.device.type == "cpu" for sae in self._saes)
        self.place_saes()
        if hasattr(model, "interleaver"):
            adopt(model)

    def _load(self, source: object, layer: int | None, role: str) -> LoadedSAE:
        sae = source if isinstance(source, LoadedSAE) else load_sae(source)
        check_sae(
            sae,
            layer=layer,
            n_layers=self.facts.n_layers,
            d_model=self.facts.d_model,
            model_name=self.same_model_as or self.facts.model_id,
            role=role,
        )
        return sae if self.payload_dtype is None else cast(sae, self.payload_dtype)

    def __repr__(self) -> str:
        return (
            f"DSPA({self.facts.model_id}: input layer {self.input_layer}, {self.input_sae}; "
            f"output layer {self.output_layer}, {self.output_sae})"
        )

    @property
    def _saes(self) -> tuple[LoadedSAE, LoadedSAE]:
        return self.input_sae, self.output_sae

    def place_saes(
        self, model: nn.Module | None = None, paths: Sequence[str] | None = None
    ) -> None:
        """Put each SAE beside the layer that it reads, or on `sae_device`.

        Every run begins with it, since a model may have been loaded, or moved, in between.
        model: another one of the same kind, which is steered in place of `self.model`; paths:
            where its two blocks are.
        """
        steered = self.model if model is None else model
        devices = [
            self.sae_device or (layer_device(steered, path) if follows else None)
            for path, follows in zip(paths or self.paths, self._follows, strict=True)
        ]
        # Nothing is ever decoded with the input SAE.
        self.input_sae = placed(self.input_sae, devices[0], decoder=False)
        self.output_sae = placed(self.output_sae, devices[1], decoder=True)

    @property
    def paths(self) -> tuple[str, str]:
        """Dotted paths of the two decoder blocks, seen from the model."""
        return self.facts.block(self.input_layer), self.facts.block(self.output_layer)

    @property
    def readers(self) -> tuple[list[Reader], list[Reader]]:
        """What counts prompts, and what counts responses."""
        paths = self.paths
        return [Reader(self.input_sae, paths[0])], [Reader(self.output_sae, paths[1])]

    def render(
        self,
        prompt: Prompt | Rendered,
        response: str | None = None,
        *,
        continue_final_message: bool = False,
    ) -> Rendered:
        """Show exactly the text and ids that `fit` and `apply` see (docs/method.md 5).

        Example:
            >>> prompt = dspa.render([{"role": "user", "content": "Hello"}])
            >>> print(prompt)
            Rendered: ... prompt tokens (5 content, ...

        Args:
            prompt: a string, a list of chat messages, or what `render` returned.
            response: text to join to the prompt, or None.
            continue_final_message: let generation continue a last message of the assistant's. By
                default it is closed, and a new turn of the assistant's begins.
        """
        tokenizer, continued = self.facts.tokenizer, continue_final_message
        return render(tokenizer, prompt, response, continue_final_message=continued)

    def provenance(self, *, anew: bool = False) -> dict[str, Any]:
        """Return what identifies this model, as it is now, and these SAEs in maps and counts.

        anew: read every weight again, though nothing seems to have changed.
        """
        return {
            **self._model(anew),
            "dtype": self.facts.dtype,
            **({"payload_dtype": self.payload_dtype} if self.payload_dtype else {}),
            "template_sha256": self.facts.template_sha256,
            "input_layer": self.input_layer,
            "output_layer": self.output_layer,
            "input_sae": self.input_sae.id,
            "output_sae": self.output_sae.id,
            "input_sae_sha256": self.input_sae.sha256,
            "output_sae_sha256": self.output_sae.sha256,
            "package_version": __version__,
        }

    def _model(self, anew: bool) -> dict[str, Any]:
        names = {"model_id": self.facts.model_id, "model_revision": self.facts.revision}
        if self.same_model_as is None:
            return names | self.identity(anew=anew)
        # A commit of another repository says nothing of the model that it is said to be, nor do
        # weights that may have been repacked.
        read = self._fingerprint.read(self.model, self.facts.blocks, self.output_layer, anew=anew)
        loaded = names | {key: read[key] for key in ("adapters", "weights")}
        said = {"model_id": self.same_model_as, "model_revision": None}
        return said | self.identity() | {"loaded_model": loaded}

    def identity(self, model: object = None, *, anew: bool = False) -> dict[str, Any]:
        """What tells a model's weights from others of its name; see `models.Fingerprint`.

        Example:
            >>> dspa.identity()["adapters"]
            'none'

        model: one of the same kind, in place of `dspa.model`. anew: as for `provenance`.
        """
        remembered, blocks = self._fingerprint, self.facts.blocks
        if model is not None:
            remembered, blocks = Fingerprint(), read_facts(model, self.facts.tokenizer).blocks
        subject = self.model if model is None else model
        read = remembered.read(subject, blocks, self.output_layer, anew=anew)
        if self.same_model_as is not None:
            read = {"adapters": read["adapters"]}  # the user says that it counts as that model
        return {key: value for key, value in read.items() if value is not None}

    def steerer(
        self,
        map: object,
        given: Mapping[str, Any],
        only: Iterable[int] | None = None,
        never: Iterable[int] | None = None,
        **rules: Any,
    ) -> Steerer:
        """Return what a steered run needs, as plain tensors: settings filled in and checked.

        Args:
            map: a map, or plans that `plan` made with one.
            given: settings by name, None where a default is to be filled in.
            only: as in `SteeringOptions`.
            never: as in `SteeringOptions`.
            rules: gate, score, select and edit, as there.

        Raises:
            SteeringError: settings out of range, or what is neither a map nor plans.
            MapError: a map of another model or SAE.
            ExtensionError: what is no extension, or one of another point.
        """
        chosen = {kind: rule_of(kind, rules.get(kind)) for kind in KINDS}
        self.place_saes()
        steerer = self.portable().steerer(as_portable(map), given, only, never, chosen)
        steerer.content_of = partial(content_of, self.facts.tokenizer)
        return steerer

    def payload(
        self,
        map: ConditionalDifferenceMap | Plan | Sequence[Plan] | None = None,
        **rules: ExtensionOrName | None,
    ) -> Payload:
        """Count the bytes that a remote run sends, part by part, before anything is sent.

        Example:
            >>> [part.name for part in dspa.payload(map).parts]
            ['input encoder', 'output encoder', 'decoder, ... rows', 'map, ... rows']

        Args:
            map: what `apply` will be given, a map or plans; without one, what a counting job sends.
            rules: the extensions that it will be given, by keyword (gate, score, select, edit).
        """
        return payload_of(self, map, **rules)

    def portable(self, columns: torch.Tensor | None = None) -> PortableDSPA:
        """Return what travels in this object's place: plain tensors and the code of `graph/`.

        columns: output latents, ascending, whose decoder rows are taken; None takes every row.
        """
        decoder = self.output_sae.decoder
        tokens = {"bos_id": self.facts.bos_id, "markup_ids": self.facts.special_ids}
        return PortableDSPA(
            self.paths,
            self.encoders,
            decoder if columns is None else decoder[columns.to(decoder.device)],
            columns,
            self.provenance(),
            self.defaults,
            tokens,
        )

    def as_shipped(self) -> Reduced:
        """Return what is pickled in its place for NDIF."""
        return reduce_dspa(self)

    @property
    def encoders(self) -> tuple[Encoder, Encoder]:
        """Encoders of the input and of the output SAE."""
        return self.input_sae.encoder, self.output_sae.encoder

    def prompt_batch(self, prompt: PromptOrPrompts) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Render a prompt or a list of them; return (ids, whether content) of each.

        Example:
            >>> [(ids, content)] = dspa.prompt_batch("Hello")
            >>> bool(content.all())
            True

        Returns:
            int64 [tokens] and bool [tokens] for each prompt; a response is left out.
        """
        batch: Any = prompt if is_batch(prompt) else [prompt]
        rendered: list[Rendered] = []
        for index, item in enumerate(batch):
            try:
                rendered.append(self.render(item))
            except TripleError as error:
                where = f"prompt {index}: " if len(batch) > 1 else ""
                raise TripleError(f"{where}{error}") from None
        return [(item.prompt_ids, item.content) for item in rendered]
