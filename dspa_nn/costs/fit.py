"""FLOPs of fitting a map: what the passes over the triples cost, by how they are run.

Counted, not estimated: see `dspa_nn.costs.flops` for what a FLOP is here.
"""

from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from dspa_nn.costs.flops import encode_flops, forward_flops, text_config
from dspa_nn.costs.lengths import Lengths, checked_lengths
from dspa_nn.errors import DSPAError

FitPlan = Literal["once", "pairs", "plain"]

# Dense bfloat16 peak of an H100 SXM, and the share of it that sizing assumes (not measured here).
H100_PEAK = 989e12
UTILISATION = 0.4


@dataclass(frozen=True)
class FitFlops:
    """FLOPs of one fit, by what they were spent on.

    Example:
        >>> cost = fit_flops(model.config, [(100, 100, 100)], input_layer=1, output_layer=2,
        ...                  d_in=48, d_out=40)
        >>> cost.tokens, cost.lm_head, cost.total == cost.per_triple
        (300, 0, True)

    Attributes:
        plan: how the triples went through the model, see `fit_flops`.
        triples: how many; tokens: positions that went through the decoder blocks.
        blocks: projections and MLPs of the decoder blocks. attention: queries by keys, and
            weights by values. lm_head, input_sae, output_sae: the LM head and the two encoders.
    """

    plan: str
    triples: int
    tokens: int
    blocks: int
    attention: int
    lm_head: int
    input_sae: int
    output_sae: int

    @property
    def total(self) -> int:
        """All of it, in FLOPs."""
        return self.blocks + self.attention + self.lm_head + self.input_sae + self.output_sae

    @property
    def per_triple(self) -> float:
        """The mean over the triples, in FLOPs."""
        return self.total / self.triples

    def gpu_hours(
        self,
        triples: int | None = None,
        *,
        peak: float | int = H100_PEAK,
        utilisation: float | int = UTILISATION,
    ) -> float:
        """GPU hours at an assumed share of a GPU's peak: an estimate on paper, not measured.

        Example:
            >>> cost = fit_flops(model.config, [(120, 200, 180)], input_layer=1, output_layer=2,
            ...                  d_in=48, d_out=40)
            >>> hours = cost.gpu_hours(61_000, peak=989e12, utilisation=0.4)

        Args:
            triples: scale to so many triples of the same lengths; None takes those counted.
            peak: FLOP/s of the GPU. utilisation: share of it that is reached, in (0, 1].
        """
        if not (peak > 0 and 0 < utilisation <= 1):
            raise DSPAError(
                f"a peak of {peak} FLOP/s and a utilisation of {utilisation} came; the peak must "
                "be above 0 and the utilisation in (0, 1]: give 989e12 and 0.4, say"
            )
        count = self.triples if triples is None else triples
        return self.per_triple * count / (peak * utilisation) / 3600

    def to_dict(self) -> dict[str, Any]:
        """Plain values for a JSON file, total included."""
        return {**asdict(self), "total": self.total}

    def __str__(self) -> str:
        head = (
            f"FitFlops: plan {self.plan!r}, {self.triples} triple(s), {self.tokens} tokens through "
            f"the blocks, {self.total / 1e12:.4g} TFLOP"
        )
        names = ("blocks", "attention", "lm_head", "input_sae", "output_sae")
        parts = [(name, getattr(self, name)) for name in names]
        lines = [
            f"  {name:<10} {flops / 1e12:>12.4g} TFLOP {flops / self.total:>7.1%}"
            for name, flops in parts
        ]
        return "\n".join([head, *lines])


def fit_flops(
    config: Any,
    lengths: Lengths,
    *,
    input_layer: int,
    output_layer: int,
    d_in: int,
    d_out: int,
    plan: str = "once",
) -> FitFlops:
    """Count what counting these triples costs (docs/method.md 3.1 and 3.2).

    Example:
        >>> cost = fit_flops(model.config, [(120, 200, 180)], input_layer=1, output_layer=2,
        ...                  d_in=48, d_out=40)
        >>> print(cost)
        FitFlops: plan 'once', 1 triple(s), 500 tokens through the blocks, ... TFLOP
        ...

    Args:
        config: a `transformers` config of a decoder-only model; no weights are needed.
        lengths: (prompt, chosen, rejected) of each triple, in tokens; a prompt may be empty.
        input_layer: 0-based decoder block that the input SAE reads.
        output_layer: the one that the output SAE reads.
        d_in: latents of the input SAE, which encodes the prompt's tokens under every plan.
        d_out: latents of the output SAE, which encodes the tokens of both responses.
        plan: "once": the prompt once, both responses from its key-value cache, blocks 0 to the
            output layer, no LM head: what `DSPA.count` runs. "pairs": prompt and response
            together, twice, through the same blocks. "plain": prompt, prompt and chosen, prompt
            and rejected through every block and the LM head: `model(ids,
            output_hidden_states=True)` three times.

    Raises:
        DSPAError: an unknown plan, layers that the model lacks, an empty response, no triples, or
            a model that cannot be counted without data.
    """
    if plan not in get_args(FitPlan):
        raise DSPAError(f"there is no plan {plan!r}; the plans are {', '.join(get_args(FitPlan))}")
    depth = text_config(config).num_hidden_layers
    if not 0 <= input_layer <= output_layer < depth:
        raise DSPAError(
            f"input layer {input_layer} and output layer {output_layer} came, and the model has "
            f"layers 0 to {depth - 1}; the input layer must not come after the output layer"
        )
    blocks = depth if plan == "plain" else output_layer + 1
    forward = forward_flops(config, blocks=blocks)
    passes = [_passes(triple, plan) for triple in checked_lengths(lengths)]
    every = [forward for of_triple in passes for forward in of_triple.forwards]
    tokens = sum(new for new, _ in every)
    d_model = text_config(config).hidden_size
    return FitFlops(
        plan=plan,
        triples=len(passes),
        tokens=tokens,
        blocks=forward.blocks(tokens),
        attention=sum(forward.attention(new, past) for new, past in every),
        lm_head=forward.lm_head * tokens if plan == "plain" else 0,
        input_sae=encode_flops(d_model, d_in) * sum(triple.prompt for triple in passes),
        output_sae=encode_flops(d_model, d_out) * sum(triple.responses for triple in passes),
    )


def speed_up(config: Any, lengths: Lengths, **options: Any) -> float:
    """Predict how many times the plain three passes cost what `DSPA.count` costs, in FLOPs.

    Example:
        >>> speed_up(model.config, [(120, 200, 180)], input_layer=1, output_layer=2,
        ...          d_in=48, d_out=40) > 1
        True

    The options are those of `fit_flops`, all but `plan`. Batches, and so padding, are left out.
    """
    triples = [tuple(triple) for triple in lengths]
    plain, once = (fit_flops(config, triples, plan=plan, **options) for plan in ("plain", "once"))
    return plain.total / once.total


@dataclass(frozen=True)
class _Passes:
    """The forwards of one triple, each (new tokens, cached tokens), and what is encoded."""

    prompt: int
    responses: int
    forwards: list[tuple[int, int]]


def _passes(triple: tuple[int, int, int], plan: str) -> _Passes:
    prompt, chosen, rejected = triple
    forwards = {
        "once": [(prompt, 0), (chosen, prompt), (rejected, prompt)],
        "pairs": [(prompt + chosen, 0), (prompt + rejected, 0)],
        "plain": [(prompt, 0), (prompt + chosen, 0), (prompt + rejected, 0)],
    }[plan]
    return _Passes(prompt, chosen + rejected, forwards)
