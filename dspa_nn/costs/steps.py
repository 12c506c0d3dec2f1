"""FLOPs of one step of a training recipe, from the shapes of its batch."""

from collections.abc import Sequence
from typing import Any

from dspa_nn.costs.flops import text_config
from dspa_nn.costs.passes import LORA_RANK, Trained, pass_flops
from dspa_nn.costs.training import TrainingFlops, check_last_target
from dspa_nn.errors import DSPAError


def sft_step(config: Any, rows: int, tokens: int, *, checkpointing: bool = False) -> TrainingFlops:
    """Count one step of fine-tuning every weight: `rows` sequences padded to `tokens`.

    Example:
        >>> print(sft_step(model.config, 4, 50))
        TrainingFlops: SFT, 4 triple(s), ... TFLOP (... forward, ... backward)

    The LM head runs at every position, padding included. What `checkpointing` computes again is
    counted as backward. The optimiser has no matrix products.

    Raises:
        DSPAError: no rows or tokens, or a model that cannot be counted without data.
    """
    _check(rows, tokens)
    one = pass_flops(config, Trained(None, lm_head=True, checkpointing=checkpointing))
    return TrainingFlops("SFT", rows, rows * one.forward(tokens), rows * one.backward(tokens))


def rahf_first_step(
    config: Any, rows: int, tokens: int, *, checkpointing: bool = False
) -> TrainingFlops:
    """Count one step of RAHF-SCIT's step 1: every row behind both instructions.

    Example:
        >>> whole = sft_step(model.config, 8, 50).total
        >>> rahf_first_step(model.config, 4, 50).total == whole
        True

    Raises:
        DSPAError: no rows or tokens, or a model that cannot be counted without data.
    """
    both = sft_step(config, 2 * rows, tokens, checkpointing=checkpointing)
    return TrainingFlops("RAHF-SCIT step 1", rows, both.forward, both.backward)


def rahf_second_step(
    config: Any, rows: int, lengths: Sequence[int], *, last_target: int, rank: int = LORA_RANK
) -> TrainingFlops:
    """Count one step of RAHF-SCIT's step 2, up to the last block whose hidden state is regressed.

    Example:
        >>> rahf_second_step(model.config, 4, (30, 90, 90), last_target=2).forward > 0
        True

    Args:
        config: a `transformers` config. rows: in a batch.
        lengths: tokens that the plain, the good and the bad prompt with the response are padded to.
        last_target: that block, 0-based; no block after it is run.
        rank: of the LoRA beside every linear layer of these blocks.

    Three frozen forwards, and one through the adapter, which alone has a backward.

    Raises:
        DSPAError: no rows or tokens, a block that the model lacks, or a model that cannot be
            counted without data.
    """
    check_last_target(last_target, text_config(config).num_hidden_layers)
    for tokens in lengths:
        _check(rows, tokens)
    frozen = pass_flops(config, Trained(last_target + 1, lm_head=False))
    adapted = pass_flops(config, Trained(last_target + 1, lm_head=False, rank=rank))
    forward = sum(frozen.forward(tokens) for tokens in lengths) + adapted.forward(lengths[0])
    return TrainingFlops(
        "RAHF-SCIT step 2", rows, rows * forward, rows * adapted.backward(lengths[0])
    )


def dpo_step(
    config: Any,
    rows: int,
    tokens: int,
    *,
    rank: int | None = LORA_RANK,
    scored: int | None = None,
    checkpointing: bool = False,
) -> TrainingFlops:
    """Count one step of DPO as TRL runs it: chosen and rejected of every row, padded to `tokens`.

    Example:
        >>> adapter, full = (dpo_step(model.config, 4, 50, rank=own).backward for own in (8, None))
        >>> adapter < full
        True

    Args:
        config: a `transformers` config. rows: in a batch. tokens: of a sequence.
        rank: of a LoRA beside every linear layer; None where every weight is trained.
        scored: positions of the batch at which TRL runs the LM head: on a CPU all but the last of
            every sequence (the default), on a GPU those of the responses.
        checkpointing: the backward computes the blocks again.

    TRL keeps no logits: its backward runs the LM head once more, and then takes the gradient of
    what came into it, and of its weight where that is trained. The reference model, which is the
    model with the adapter off, has a forward alone.

    Raises:
        DSPAError: no rows or tokens, or a model that cannot be counted without data.
    """
    _check(rows, tokens)
    text, sequences = text_config(config), 2 * rows
    own = pass_flops(config, Trained(None, lm_head=False, rank=rank, checkpointing=checkpointing))
    frozen = pass_flops(config, Trained(None, lm_head=False))
    places = sequences * (tokens - 1) if scored is None else scored
    head = 2 * text.hidden_size * text.vocab_size * places
    return TrainingFlops(
        "DPO" if rank is None else "DPO, adapter",
        rows,
        sequences * (own.forward(tokens) + frozen.forward(tokens)) + 2 * head,
        sequences * own.backward(tokens) + head * (3 if rank is None else 2),
    )


def sae_step(
    d_model: int, width: int, tokens: int, *, selected: bool = False, centred: bool = False
) -> int:
    """FLOPs of one step of training an SAE on `tokens` activations, by SAELens' trainer.

    Example:
        >>> sae_step(576, 4096, 2048) / sae_step(576, 4096, 2048, selected=True)
        5.0

    Args:
        d_model: numbers of an activation. width: latents. tokens: in a batch.
        selected: only the encoder is a matrix product, and all else goes through the latents that
            TopK selects, as in the recipes.
        centred: the decoder's bias comes off the input (`apply_b_dec_to_input`), so that the
            gradient of that is needed.

    Encoder and decoder forward, and the gradients of both weights and of the latents. What revives
    dead latents is left out, and so is the pass of the model that gave the activations: that is
    `forward_flops` up to the SAE's layer.
    """
    _check(tokens, width)
    one = 2 * d_model * width * tokens
    return one if selected else one * (6 if centred else 5)


def _check(rows: int, tokens: int) -> None:
    if rows < 1 or tokens < 1:
        raise DSPAError(f"{rows} rows of {tokens} came; give at least one of each")
