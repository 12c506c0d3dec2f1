"""FLOPs of a forward, as torch counts them on models without weights.

What is counted is every matrix product, a multiply-add as two operations: torch's convention.
Attention runs as plain matrix products (transformers' "eager"), because torch's counter sees
those alike on every device; they, and the counter's formulas of the fused CUDA kernels, take the
whole rectangle of queries by keys, the half that a causal mask throws away included. Element-wise
operations, softmax and the arithmetic on the counts afterwards are not counted.
"""

import copy
import json
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, cast

import torch

from dspa_nn.errors import DSPAError
from dspa_nn.graph.encode import Encoder

# Tokens of the forwards that the coefficients are read off; any two lengths give the same ones.
PROBE = 32


@dataclass(frozen=True)
class ForwardFlops:
    """What a forward costs, as the coefficients of its exact polynomial in the lengths.

    Example:
        >>> cost = forward_flops(model.config, blocks=3)
        >>> cost.blocks(100), cost.attention(100, past=400)
        (4608000, 19200000)

    Attributes:
        per_token: projections and MLPs. per_pair: attention, a query and a key at a time.
        per_pair_out_of_window: the part of `per_pair` in blocks with a sliding window: with a
            cache, these hold no keys before the window. lm_head: the LM head, per token.
        window: tokens of that window, or None.
    """

    per_token: int
    per_pair: int
    per_pair_out_of_window: int
    lm_head: int
    window: int | None

    def blocks(self, tokens: int) -> int:
        """Projections and MLPs of `tokens` new tokens."""
        return self.per_token * tokens

    def attention(self, tokens: int, past: int = 0) -> int:
        """Attention of `tokens` new tokens that see `past` cached ones, and each other."""
        dropped = 0 if self.window is None else max(0, past - (self.window - 1))
        pairs = self.per_pair * (past + tokens) - self.per_pair_out_of_window * dropped
        return tokens * pairs


def forward_flops(config: Any, *, blocks: int | None = None) -> ForwardFlops:
    """Count a forward at a few lengths and return its exact polynomial in them.

    Example:
        >>> forward_flops(model.config, blocks=3).per_token
        46080

    Matrix products are linear in the tokens, and attention is linear in pairs of query and key,
    so the counts of three forwards fix the coefficients; a fourth must agree with them.

    Raises:
        DSPAError: the model's counts follow no such polynomial, or cannot be had without data.
    """
    text = text_config(config)
    depth = text.num_hidden_layers if blocks is None else blocks
    return _coefficients(kind_of(text), text.to_json_string(use_diff=False), depth)


@lru_cache(maxsize=64)
def _coefficients(kind: type, serialized: str, blocks: int) -> ForwardFlops:
    config = kind(**json.loads(serialized))
    n, window = PROBE, getattr(config, "sliding_window", None)
    model = build(config, blocks=blocks)
    once, twice = (count_forward(model, tokens) for tokens in (n, 2 * n))
    per_token, per_pair = coefficients(once, twice, n)
    past = n if window is None else window + n
    far = count_forward(model, n, past=past)
    missing = n * per_token + n * (past + n) * per_pair - far
    dropped = 0 if window is None else past - (window - 1)
    out_of_window = missing // (n * dropped) if dropped else 0
    with_head = count_forward(build(config, blocks=blocks, lm_head=True), n)
    cost = ForwardFlops(per_token, per_pair, out_of_window, (with_head - once) // n, window)
    predicted = cost.blocks(3 * n) + cost.attention(3 * n, past + 1)
    if predicted != count_forward(model, 3 * n, past=past + 1):
        raise DSPAError(
            f"a forward of {kind.__name__} does not cost a fixed number of FLOPs per token and "
            "pair of tokens, so it cannot be predicted from lengths: count it with "
            "torch.utils.flop_counter on real inputs"
        )
    return cost


def coefficients(once: int, twice: int, n: int) -> tuple[int, int]:
    """Return (a, b) of a count `a n + b n^2`, from the counts of n tokens and of 2 n.

    >>> coefficients(5 * 10 + 3 * 10**2, 5 * 20 + 3 * 20**2, 10)
    (5, 3)
    """
    b = (twice - 2 * once) // (2 * n * n)
    return (once - n * n * b) // n, b


def text_config(config: Any) -> Any:
    """The text model's config, for a model that also reads images."""
    return config.get_text_config() if hasattr(config, "get_text_config") else config


def kind_of(config: object) -> type[Any]:
    """The class of a config."""
    return type(config)


def build(config: Any, *, blocks: int | None = None, lm_head: bool = False) -> Any:
    """Build a model's first decoder blocks without weights, on the meta device.

    Example:
        >>> build(model.config, blocks=3).device
        device(type='meta')
    """
    from transformers import AutoModel, AutoModelForCausalLM

    cut = copy.deepcopy(text_config(config))
    if blocks is not None:
        cut.num_hidden_layers = blocks
        if getattr(cut, "layer_types", None):
            cut.layer_types = cut.layer_types[:blocks]
    kind = AutoModelForCausalLM if lm_head else AutoModel
    with torch.device("meta"):
        return kind.from_config(cut, attn_implementation="eager").eval()


def count_forward(model: Any, tokens: int, *, past: int = 0, rows: int = 1) -> int:
    """FLOPs of one forward over `tokens` new tokens after `past` cached ones, as torch counts.

    Example:
        >>> count_forward(build(model.config), 100, past=50)
        13824000

    model: a Hugging Face model with attn_implementation="eager", with or without weights.

    Raises:
        DSPAError: the forward needs data, as that of a mixture of experts does.
    """
    from torch.utils.flop_counter import FlopCounterMode

    ids = torch.zeros(rows, past + tokens, dtype=torch.int64, device=model.device)
    # Mask and positions are given: transformers would look into the ids for packed sequences,
    # and on the meta device there is nothing to look at.
    mask = torch.ones_like(ids)
    positions = torch.arange(past + tokens, device=ids.device).expand(rows, -1)

    def run(first: int, last: int, cache: Any) -> Any:
        return model(
            input_ids=ids[:, first:last],
            attention_mask=mask[:, :last],
            position_ids=positions[:, first:last],
            past_key_values=cache,
            use_cache=past > 0,
        )

    try:
        with torch.no_grad():
            cache = run(0, past, None).past_key_values if past else None
            with FlopCounterMode(display=False) as counter:
                run(past, past + tokens, cache)
    except (RuntimeError, NotImplementedError) as error:
        raise DSPAError(
            f"a forward of {type(model).__name__} could not be counted without data ({error}); "
            "count it with torch.utils.flop_counter on a loaded model"
        ) from error
    return counter.get_total_flops()


@lru_cache(maxsize=64)
def encode_flops(d_model: int, width: int) -> int:
    """FLOPs of encoding one token with an SAE of one encoder matrix, as torch counts.

    Example:
        >>> encode_flops(576, 4096)
        4718592
    """
    from torch.utils.flop_counter import FlopCounterMode

    shapes = {"W_enc": (d_model, width), "b_enc": (width,)}
    rule = {
        "architecture": "standard",
        "width": width,
        "d_model": d_model,
        "dtype": "float32",
        "normalize_activations": "none",
        "apply_b_dec_to_input": False,
    }
    tensors = {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}
    encoder = Encoder(rule, tensors)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        cast(Any, encoder).encode(torch.empty(1, d_model, device="meta"))
    return counter.get_total_flops()
