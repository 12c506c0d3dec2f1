# pyright: basic
"""One counting pass: what goes to the model, and integer counts back.

The prompt of a triple runs once; both responses go on from its key-value cache. Written with torch
and nnsight alone: on NDIF the encoding happens beside the model, and only counts come back.
"""

import torch
from nnsight.intervention.interleaver import EarlyStopException, Mediator

from dspa_nn.graph.active import NOT_FINITE, count_active, finite, read_counts
from dspa_nn.graph.refusals import CountsRefusal, refuse
from dspa_nn.graph.trace import exact, first


class Counter:
    """The two encoders, where their hidden states are read, and what is known of the batch at hand.

    A batch is a dict: `prompt`, keywords of the model for the prompts [triples, tokens], or None
    where every prompt is empty; `prompt_target`, int64 [triples, tokens], and `prompt_size`;
    `passes`, a list of dicts with `triples`, int64 [rows], whose prompts the rows go on from,
    `inputs`, keywords of the model, and `target`, int64 [rows, tokens]; and `response_size`. A
    target is the row of a table of that size in which a token is counted, or -1. follow: move the
    encoders beside the hidden states, whose device the sender of a remote job does not know.
    """

    def __init__(self, encoders, paths, follow=False):
        self.input_encoder, self.output_encoder = encoders
        self.paths = paths
        self.follow = follow

    def begin(self, batch):
        """Empty tables, and no cache: int32 [prompt_size, d_in] and [response_size, d_out]."""
        widths = self.input_encoder.width, self.output_encoder.width
        self.prompts = torch.zeros(batch["prompt_size"], widths[0], dtype=torch.int32)
        self.responses = torch.zeros(batch["response_size"], widths[1], dtype=torch.int32)
        self.cache, self.states = None, []

    def prompt(self, batch):
        """Count the prompts, in the trace of `batch["prompt"]`, and keep their cache.

        The model stops at the output layer.
        """
        inputs, outputs = self.paths
        cache = self.find_cache(*Mediator.value(f"{inputs}.input"))
        self.add(self.prompts, self.input_encoder, inputs, batch["prompt_target"])
        if outputs != inputs:
            Mediator.value(f"{outputs}.output")
        self.cache, self.states = cache, [dict(vars(layer)) for layer in cache.layers]
        raise EarlyStopException()

    def resume(self, triples):
        """The cache as the prompts left it, with a row for each of `triples`; None without one."""
        for layer, state in zip(getattr(self.cache, "layers", []), self.states, strict=False):
            vars(layer).update(state)
            # A layer above the output layer has run for no prompt, and holds nothing.
            if torch.is_tensor(state.get("keys")):
                rows = triples.to(layer.keys.device)
                layer.keys, layer.values = layer.keys[rows], layer.values[rows]
        return self.cache

    def response(self, target):
        """Count one pass of responses, in its trace; the model stops at the output layer."""
        self.add(self.responses, self.output_encoder, self.paths[1], target)
        raise EarlyStopException()

    def finish(self):
        """The two tables; the cache is let go."""
        self.cache, self.states = None, []
        return self.prompts, self.responses

    def packed(self):
        """The same as sparse rows, which is all that goes home: see `pack`."""
        return [pack(table) for table in self.finish()]

    def add(self, table, encoder, path, target):
        """Add what an encoder finds in the output of a block to a table [size, width]."""
        with torch.no_grad():
            hidden = first(Mediator.value(f"{path}.output"))
            if not finite(hidden, target >= 0):
                raise refuse(CountsRefusal, NOT_FINITE.format(""))
            if self.follow:
                encoder.to(hidden.device)
            with exact(hidden):
                table += count_active(encoder, hidden, target, len(table)).cpu()

    def find_cache(self, args, keywords):
        """The key-value cache that a block was called with."""
        for value in [*args, *keywords.values()]:
            if hasattr(value, "layers") and hasattr(value, "update"):
                return value
        raise refuse(
            CountsRefusal,
            "the model hands its blocks no key-value cache of layers, from which two responses to "
            "one prompt could go on; only models with transformers' dynamic cache are counted",
        )


class PromptReader:
    """Counts the active tokens of prompts, in the trace that runs them, and ends it there.

    counted: bool [rows, tokens]; path: the input block, seen from the root of the model; follow:
    as in `Counter`.
    """

    def __init__(self, encoder, path, counted, follow=False):
        self.encoder = encoder
        self.path = path
        self.counted = counted
        self.follow = follow

    def read(self, found):
        """Add int32 [rows, d_in] to the list `found`."""
        hidden = first(Mediator.value(f"{self.path}.output"))
        if self.follow:
            self.encoder.to(hidden.device)
        with exact(hidden):
            found.append(read_counts(self.encoder, hidden, self.counted).cpu())
        raise EarlyStopException()


def pack(table):
    """Compressed sparse rows of a table [rows, width]: (indptr, columns, values), all int32."""
    row, column = torch.nonzero(table, as_tuple=True)
    lengths = torch.bincount(row, minlength=len(table))
    indptr = torch.cat([lengths.new_zeros(1), lengths.cumsum(0)])
    return indptr.to(torch.int32), column.to(torch.int32), table[row, column]


def stop():
    """End the traced forward here: no later layer and no LM head is run."""
    raise EarlyStopException()
