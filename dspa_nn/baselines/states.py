"""Mean hidden states of preference triples: what dense vectors are fitted on."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, cast

import torch
from jaxtyping import Bool, Float64
from nnsight import register, save
from nnsight.modeling.transformers import TransformersModel
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from dspa_nn.baselines.subject import Subject, as_subject
from dspa_nn.checks import check_choice, check_positive_int
from dspa_nn.counts import TokenisedTriple, prepare
from dspa_nn.errors import SteeringError
from dspa_nn.files import sha256_of_json
from dspa_nn.graph.calls import check_outside_blocks
from dspa_nn.graph.vectors import MeanReader
from dspa_nn.models import context_length, evaluating, require_weights
from dspa_nn.progress import show_progress
from dspa_nn.prompts import Rendered, batches_by_length, padded
from dspa_nn.shipping import TRAVELS
from dspa_nn.steering import DSPA
from dspa_nn.triples import as_triples

Pooling = Literal["mean", "last"]
# Padded tokens to a pass: nothing above the steered layer is run.
TOKEN_BUDGET = 4096


@dataclass(frozen=True, eq=False)
class Activations:
    """Mean hidden states of triples, float64, one row a triple.

    Example:
        >>> taken = activations(dspa, triples[:4])
        >>> taken.differences.shape
        torch.Size([4, 32])

    Attributes:
        chosen, rejected: over the tokens of either response, at `layer`.
        prompts: over the prompt's own tokens, at `condition_layer`.
        layer, condition_layer: decoder blocks whose output was read.
        provenance: the model, its weights up to `layer`, and the triples.
    """

    chosen: Float64[Tensor, "n d_model"] = field(repr=False)
    rejected: Float64[Tensor, "n d_model"] = field(repr=False)
    prompts: Float64[Tensor, "n d_model"] = field(repr=False)
    layer: int
    condition_layer: int
    provenance: dict[str, Any] = field(repr=False)

    @property
    def differences(self) -> Float64[Tensor, "n d_model"]:
        """Chosen less rejected."""
        return self.chosen - self.rejected

    def __len__(self) -> int:
        return len(self.chosen)


def activations(
    model: "Subject | DSPA | TransformersModel",
    triples: Iterable[Any],
    *,
    layer: int | None = None,
    condition_layer: int | None = None,
    pooling: Pooling = "mean",
    token_budget: int = TOKEN_BUDGET,
    remote: bool = False,
    progress: bool | None = None,
) -> Activations:
    """Run the model over triples, up to one layer, and keep means of its hidden states.

    Example:
        >>> activations(dspa, triples[:4], pooling="last").layer
        2

    Args:
        model: a `DSPA`, whose layers are the defaults, or an nnsight model.
        triples: what `DSPA.count` takes: triples, or rows such as a list of dicts.
        layer: decoder block whose output is read for the responses; None is the `DSPA`'s output
            layer.
        condition_layer: the same for the prompts; None is the `DSPA`'s input layer, or `layer`.
        pooling: "mean" over the response's tokens, or the "last" of them.
        token_budget: padded tokens to a pass.
        remote: run on NDIF: means alone come back.
        progress: show a progress bar; None shows it on a terminal.

    Raises:
        SteeringError: no such layer, or a model that is not loaded here without remote=True.
        DSPAError: what reading or rendering raises.
    """
    check_outside_blocks("activations")
    check_choice("pooling", pooling, ("mean", "last"), SteeringError)
    check_positive_int("token_budget", token_budget, SteeringError)
    subject = as_subject(model)
    late = subject.layer(layer)
    known = condition_layer is not None or subject.layers is not None
    early = subject.layer(condition_layer, of="input") if known else late
    if not remote:
        require_weights(subject.model, "activations")
    listed = as_triples(triples)
    context = context_length(subject.model)
    tokenised, skipped = prepare(listed, subject.facts.tokenizer, context, "truncate")
    ends = [end for triple in tokenised for end in triple.ends]
    sums = [torch.zeros(len(ends), subject.facts.d_model, dtype=torch.float64) for _ in range(2)]
    with show_progress("activations", len(ends), "responses", progress) as advance:
        for rows in batches_by_length([len(end.ids) for end in ends], token_budget):
            found = run(subject, [ends[row] for row in rows], (early, late), pooling, remote)
            for whole, part in zip(sums, found, strict=True):
                whole[rows] = part
            advance(len(rows))
    known_data = getattr(triples, "sha256", None)
    provenance = subject.origin(late) | {
        "triples": len(tokenised),
        "skipped": {**getattr(triples, "skipped", {}), **skipped},
        "data_sha256": known_data or hash_of(tokenised),
        "pooling": pooling,
    }
    return Activations(sums[1][0::2], sums[1][1::2], sums[0][0::2], late, early, provenance)


def run(
    subject: Subject,
    rows: Sequence[Rendered],
    layers: tuple[int, int],
    pooling: Pooling,
    remote: bool,
) -> list[Float64[Tensor, "rows d_model"]]:
    """Means of one batch: over the prompts at the first layer, over the responses at the second."""
    inputs = padded([row.ids for row in rows], "right")
    width = inputs["input_ids"].shape[1]
    prompts = masks([row.counted("content") for row in rows], width)
    responses = masks([response_mask(row, pooling) for row in rows], width)
    root = subject.model.path
    reader: Any
    paths = [f"{root}.{subject.facts.block(layer)}" for layer in layers]
    if layers[0] == layers[1]:
        reader = MeanReader(paths[:1], [[prompts, responses]])
    elif layers[0] < layers[1]:
        reader = MeanReader(paths, [[prompts], [responses]])
    else:
        reader = MeanReader(paths[::-1], [[responses], [prompts]])
    # Blocks name the model alone: what else they name would be sent along.
    model = subject.model
    if remote:
        register(TRAVELS)
        with model.session(remote=remote):
            found = save([])
            with model.trace(inputs, use_cache=False):
                reader.read(found)
    else:
        found: list[Any] = []
        with evaluating(model), torch.no_grad(), model.trace(inputs, use_cache=False):
            reader.read(found)
    means = cast(list[Tensor], found[0])
    return means[::-1] if layers[0] > layers[1] else means


def response_mask(row: Rendered, pooling: Pooling) -> Bool[Tensor, " tokens"]:
    """The tokens of a response, or the last of them."""
    place = torch.arange(len(row.ids))
    return place >= (row.prompt_length if pooling == "mean" else len(row.ids) - 1)


def masks(rows: Sequence[Bool[Tensor, " _"]], width: int) -> Bool[Tensor, "rows width"]:
    """Rows of marks as one array, False beyond their end.

    >>> masks([torch.tensor([True])], 2)
    tensor([[ True, False]])
    """
    return pad_sequence([torch.nn.functional.pad(row, (0, width - len(row))) for row in rows], True)


def hash_of(tokenised: Sequence[TokenisedTriple]) -> str:
    """SHA-256 of what the model was shown."""
    shown = [[list(map(int, end.ids)) for end in triple.ends] for triple in tokenised]
    return sha256_of_json(shown)


def as_activations(
    model: "Subject | DSPA | TransformersModel",
    source: "Activations | Iterable[Any]",
    **options: Any,
) -> Activations:
    """Activations as they are; of triples they are taken.

    >>> taken = activations(dspa, triples[:4])
    >>> as_activations(dspa, taken) is taken
    True

    Raises:
        SteeringError: options for activations that are there already.
    """
    if not isinstance(source, Activations):
        return activations(model, source, **options)
    if options:
        raise SteeringError(taken_already(options, "activations"))
    return source


def taken_already(options: Mapping[str, Any], what: str) -> str:
    """What is said of options that say how triples are read, where none are.

    >>> taken_already({"layer": 2}, "activations")
    'layer came with activations, which were taken without it; give triples, or leave it out'
    """
    names = " and ".join(options)
    them = "it" if len(options) == 1 else "them"
    return (
        f"{names} came with {what}, which were taken without {them}; give triples, or leave {them} "
        "out"
    )
