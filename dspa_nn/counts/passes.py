"""The one pass of the model over the triples, a batch at a time."""

import inspect
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from dspa_nn.counts.batches import BatchTensors, to_tensors
from dspa_nn.counts.checkpoints import Chunk, Progress
from dspa_nn.counts.rows import CountRows
from dspa_nn.counts.table import ActivationCounts
from dspa_nn.counts.tokenize import TokenisedTriple
from dspa_nn.graph.count import KEYS_AND_VALUES, Counter
from dspa_nn.imports import late
from dspa_nn.models import torch_module
from dspa_nn.shapes import SparseTable

# Families whose forward takes no positions and reads them off the attention mask (ALiBi).
_POSITIONS_FROM_MASK = ("bloom", "mpt")


class LocalRunner:
    """Runs chunks of batches in this process, one after another (`checkpoints.ChunkRunner`)."""

    def __init__(
        self,
        model: Any,
        counter: Counter,
        chunks: Sequence[Chunk],
        provenance: Mapping[str, Any],
        progress: Progress,
    ) -> None:
        self.model, self.counter, self.chunks = model, counter, chunks
        self.provenance, self.progress = provenance, progress
        self.submitted: list[int] = []

    @property
    def room(self) -> int:
        """One chunk at a time."""
        return 1 - len(self.submitted)

    def resume(self, unfinished: Sequence[int]) -> list[int]:
        """Nothing goes on without its process."""
        return []

    def submit(self, number: int) -> None:
        """Note the chunk, to be run by `collect`."""
        self.submitted.append(number)

    def collect(self) -> Iterator[tuple[int, ActivationCounts | None]]:
        """Run what was submitted."""
        budget = self.provenance["batch_plan"]["token_budget"]
        while self.submitted:
            number = self.submitted.pop(0)
            pieces: list[CountRows] = []
            for batch in self.chunks[number]:
                pieces.append(run_batch(self.model, self.counter, batch, budget))
                self.progress(len(batch))
            yield number, table_of(pieces, self.counter, self.provenance)


def table_of(
    pieces: Sequence[CountRows], counter: Counter, provenance: Mapping[str, Any]
) -> ActivationCounts:
    """The table of a chunk, from the rows of its batches."""
    d_in, d_out = counter.widths()
    return ActivationCounts.from_rows(pieces, d_in=d_in, d_out=d_out, provenance=provenance)


def run_batch(
    model: Any, counter: Counter, batch: Sequence[TokenisedTriple], token_budget: int
) -> CountRows:
    """Count one batch."""
    csr_array = late("scipy.sparse").csr_array

    run_traces(model, counter, laid_out(model, batch, token_budget))
    prompt, response = (csr_array(table.numpy()) for table in counter.finish())
    return to_rows(batch, prompt, response)


def laid_out(model: Any, batch: Sequence[TokenisedTriple], token_budget: int) -> BatchTensors:
    """A batch as this model takes it; see `to_tensors`."""
    return to_tensors(
        batch, token_budget, positions=takes_positions(model), shared=shares_prompts(model)
    )


def run_traces(model: Any, counter: Counter, tensors: BatchTensors) -> None:
    """Run a batch as `to_tensors` lays it out: a trace for its prompts, then one for each pass."""
    counter.begin(tensors)
    with torch.no_grad():
        if tensors["prompt"] is not None:
            with model.trace(tensors["prompt"], use_cache=tensors["shared"]):
                counter.prompt(tensors)
        for responses in tensors["passes"]:
            keywords = counter.keywords(responses["triples"])
            with model.trace(responses["inputs"], **keywords):
                counter.response(responses["target"])


def shares_prompts(model: Any) -> bool:
    """Whether two responses can go on from what a model keeps of their prompt: keys and values.

    Recurrent and hybrid models keep states, in the cache or in their modules, and transformers'
    versions differ in whether a second pass of several tokens goes on from them.

    model: an nnsight model, loaded or not.
    """
    module = torch_module(model)
    if getattr(module, "_is_stateful", False):
        return False
    if not takes_positions(model) and module.config.model_type not in _POSITIONS_FROM_MASK:
        return False  # a token's position would be that of its column, padding included
    try:
        cache = late("transformers").DynamicCache(config=module.config)
    except (AttributeError, KeyError, TypeError):
        return False  # a cache of the model's own classes
    return all(type(layer).__name__ in KEYS_AND_VALUES for layer in cache.layers)


def takes_positions(model: Any) -> bool:
    """Whether the model's forward takes `position_ids`; ALiBi models read them off the mask.

    model: an nnsight model. A wrapper of PEFT hands on whatever it is given.
    """
    module = torch_module(model)
    module = getattr(module, "get_base_model", lambda: module)()
    return "position_ids" in inspect.signature(module.forward).parameters


def to_rows(
    batch: Sequence[TokenisedTriple], prompt: SparseTable, response: SparseTable
) -> CountRows:
    """Put the two tables of a batch (see `to_tensors`) and its lengths together."""
    n = len(batch)
    content = np.array([int(triple.prompt.counted("content").sum()) for triple in batch])
    all_tokens = np.array([int(triple.prompt.counted("all").sum()) for triple in batch])
    return CountRows(
        content=prompt[0::2],
        markup=prompt[1::2],
        chosen=response[:n],
        rejected=response[n:],
        content_length=content,
        markup_length=all_tokens - content,
        chosen_length=np.array([len(triple.chosen.response_ids) for triple in batch]),
        rejected_length=np.array([len(triple.rejected.response_ids) for triple in batch]),
        index=np.array([triple.index for triple in batch]),
    )
