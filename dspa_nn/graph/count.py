# pyright: basic
"""One counting pass: what goes to the model, and integer counts back.

The prompt of a triple runs once, and both responses go on from its key-value cache; with a model
that remembers more than keys and values, each response runs behind its prompt. Written with torch
and nnsight alone: on NDIF the encoding happens beside the model, and only counts come back.
"""

from typing import Any

import torch
from torch import Tensor

from dspa_nn.graph.active import NOT_FINITE, count_active, finite, read_counts
from dspa_nn.graph.adapter import end_run, value_at
from dspa_nn.graph.blocks import hidden_states, without_autocast
from dspa_nn.graph.refusals import CountsRefusal, refuse

# Layers of transformers' caches that hold keys and values, one row a prompt, or nothing: `resume`
# can give each response its rows. The states of others (recurrent layers, compressed keys) change
# in place, or lie across rows.
KEYS_AND_VALUES = ("DynamicLayer", "DynamicSlidingWindowLayer", "DummyLayer")


class Counter:
    """Counts active latents in the traces of one batch after another.

    A batch is a dict:
        prompt: keywords of the model for the prompts [triples, tokens], or None where every prompt
            is empty.
        prompt_target: int64 [triples, tokens]. prompt_size: int.
        shared: whether responses go on from the prompts' cache; else each pass holds whole texts.
        passes: a list of dicts with `triples`, int64 [rows], whose prompts the rows go on from;
            `inputs`, keywords of the model; and `target`, int64 [rows, tokens].
        response_size: int.
    A target is the row of a table of that size in which a token is counted, or -1.

    Several SAEs may count prompts, and several responses: their columns lie side by side in the two
    tables, in the order in which they are given.

    Args:
        inputs: what counts prompts: (encoder, location of the decoder block) of each SAE, each of
            another block, from the first block to the last.
        outputs: the same of what counts responses; the last one not before the last input.
        follow: move the encoders beside the hidden states, whose device the sender of a remote job
            does not know.
        architecture: the name of the model's class, for messages.
    """

    def __init__(self, inputs, outputs, follow: bool = False, architecture: str = "the model"):
        self.inputs: Any = list(inputs)
        self.outputs: Any = list(outputs)
        self.follow = follow
        self.architecture = architecture

    def widths(self) -> tuple[int, int]:
        """Columns of the two tables: d_in and d_out, or their sums over several SAEs."""
        return total_width(self.inputs), total_width(self.outputs)

    def begin(self, batch: Any) -> None:
        """Empty tables, and no cache: int32 [prompt_size, d_in] and [response_size, d_out]."""
        d_in, d_out = self.widths()
        self.prompts = torch.zeros(batch["prompt_size"], d_in, dtype=torch.int32)
        self.responses = torch.zeros(batch["response_size"], d_out, dtype=torch.int32)
        self.cache, self.states = None, []

    def prompt(self, batch: Any) -> None:
        """Count the prompts, in the trace of `batch["prompt"]`, and keep a cache that is shared.

        The model stops at the last output layer, or at the last input layer where no cache is
        needed.
        """
        first, last, end = self.inputs[0][1], self.inputs[-1][1], self.outputs[-1][1]
        shared = batch.get("shared", True)
        cache = self.find_cache(*value_at(f"{first}.input")) if shared else None
        self.add(self.prompts, self.inputs, batch["prompt_target"])
        if cache is not None:
            if end != last:
                value_at(f"{end}.output")
            self.cache, self.states = cache, [dict(vars(layer)) for layer in cache.layers]
        end_run()

    def resume(self, triples: Tensor) -> Any:
        """The cache as the prompts left it, with a row for each of `triples`; None without one."""
        self.check_cache()
        for layer, state in zip(getattr(self.cache, "layers", []), self.states, strict=False):
            vars(layer).update(state)
            # A layer above the output layer has run for no prompt, and holds nothing.
            if torch.is_tensor(state.get("keys")):
                rows = triples.to(layer.keys.device)
                layer.keys, layer.values = layer.keys[rows], layer.values[rows]
        return self.cache

    def keywords(self, triples: Tensor) -> dict[str, Any]:
        """Keywords of the model for a pass whose rows go on from the prompts of these triples."""
        cache = self.resume(triples)
        return (
            {"use_cache": False} if cache is None else {"past_key_values": cache, "use_cache": True}
        )

    def check_cache(self) -> None:
        """Refuse a cache that holds more than keys and values: `resume` would mix its states up."""
        if self.cache is None:
            return
        strange = [type(layer).__name__ for layer in self.cache.layers]
        strange = [name for name in strange if name not in KEYS_AND_VALUES]
        beside = [value for name, value in vars(self.cache).items() if name != "layers"]
        if holds_tensors(beside):
            strange.append(type(self.cache).__name__)
        if strange:
            raise refuse(
                CountsRefusal,
                f"{self.architecture} keeps a {strange[0]} in its cache, where keys and values "
                "alone were expected, from which two responses to one prompt can go on; count with "
                "the same version of transformers here as where the model runs",
            )

    def response(self, target: Tensor) -> None:
        """Count one pass of responses, in its trace; the model stops at the last output layer."""
        self.add(self.responses, self.outputs, target)
        end_run()

    def finish(self) -> tuple[Tensor, Tensor]:
        """The two tables; the cache is let go."""
        self.cache, self.states = None, []
        return self.prompts, self.responses

    def packed(self) -> list[tuple[Tensor, Tensor, Tensor]]:
        """The same as sparse rows, which is all that goes home: see `pack`."""
        return [pack(table) for table in self.finish()]

    def add(self, table: Tensor, readers, target: Tensor) -> None:
        """Add the active latents in the outputs of some blocks to a table [size, widths]."""
        start = 0
        for encoder, path in readers:
            stop = start + encoder.width
            table[:, start:stop] += self.active_at(path, encoder, target, len(table))
            start = stop

    def active_at(self, path: str, encoder, target: Tensor, size: int) -> Tensor:
        """Tokens on which each latent is active in the output of a block: int32 [size, width]."""
        with torch.no_grad():
            hidden = hidden_states(value_at(f"{path}.output"))
            if hidden.dim() != 3:
                raise refuse(
                    CountsRefusal,
                    f"the decoder blocks of {self.architecture} put out hidden states of shape "
                    f"{tuple(hidden.shape)}, where [rows, tokens, width] was expected; models with "
                    "several residual streams cannot be counted",
                )
            if not finite(hidden, target >= 0):
                raise refuse(CountsRefusal, NOT_FINITE.format(""))
            if self.follow:
                encoder.to(hidden.device)
            with without_autocast(hidden):
                return count_active(encoder, hidden, target, size).cpu()

    def find_cache(self, args, keywords) -> Any:
        """The key-value cache that a block was called with."""
        for value in [*args, *keywords.values()]:
            if hasattr(value, "layers") and hasattr(value, "update"):
                return value
        raise refuse(
            CountsRefusal,
            f"{self.architecture} hands its blocks no key-value cache of layers, from which two "
            "responses to one prompt could go on; only models with transformers' dynamic cache are "
            "counted",
        )


def total_width(readers) -> int:
    """Latents of all the encoders."""
    return sum(encoder.width for encoder, _ in readers)


def holds_tensors(value: Any) -> bool:
    """Whether a value is a tensor, or a list or dict with one in it."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        return any(holds_tensors(item) for item in value)
    return torch.is_tensor(value)


class PromptReader:
    """Counts the active latents of prompts, in the trace that runs them, and ends it there.

    Args:
        encoder: the input encoder.
        path: the location of the input block.
        counted: bool [rows, tokens].
        follow: as in `Counter`.
    """

    def __init__(self, encoder: Any, path: str, counted: Tensor, follow: bool = False):
        self.encoder = encoder
        self.path = path
        self.counted = counted
        self.follow = follow

    def read(self, results: list[Tensor]) -> None:
        """Add int32 [rows, d_in] to the list `results`."""
        hidden = hidden_states(value_at(f"{self.path}.output"))
        if self.follow:
            self.encoder.to(hidden.device)
        with without_autocast(hidden):
            results.append(read_counts(self.encoder, hidden, self.counted).cpu())
        end_run()


def pack(table: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Compressed sparse rows of a table [rows, width]: (indptr, columns, values), all int32."""
    row, column = torch.nonzero(table, as_tuple=True)
    lengths = torch.bincount(row, minlength=len(table))
    indptr = torch.cat([lengths.new_zeros(1), lengths.cumsum(0)])
    return indptr.to(torch.int32), column.to(torch.int32), table[row, column]
