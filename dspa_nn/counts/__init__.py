"""Integer counts of active latents: the only step that runs the model."""

from dspa_nn.counts.batches import TOKEN_BUDGET, plan_batches, to_tensors
from dspa_nn.counts.cache import count_or_recall
from dspa_nn.counts.dates import kept_date
from dspa_nn.counts.kept import KeptCounts, clear_counts, counts_folder, kept_counts
from dspa_nn.counts.layers import layers_of, pair_of, pairs_of, side_by_side
from dspa_nn.counts.passes import run_batch, run_traces, shares_prompts, takes_positions
from dspa_nn.counts.rows import LENGTHS, TABLES, CountRows, sparse_rows
from dspa_nn.counts.run import CountedModel, CountingOptions, CountOptions, CountRun, Reader
from dspa_nn.counts.shards import check_shard, merge_shards, shard_folder
from dspa_nn.counts.table import ActivationCounts
from dspa_nn.counts.tokenize import Refused, TokenisedTriple, prepare

__all__ = [
    "LENGTHS",
    "TABLES",
    "TOKEN_BUDGET",
    "ActivationCounts",
    "CountOptions",
    "CountRows",
    "CountRun",
    "CountedModel",
    "CountingOptions",
    "KeptCounts",
    "Reader",
    "Refused",
    "TokenisedTriple",
    "check_shard",
    "clear_counts",
    "count_or_recall",
    "counts_folder",
    "kept_counts",
    "kept_date",
    "layers_of",
    "merge_shards",
    "pair_of",
    "pairs_of",
    "plan_batches",
    "prepare",
    "run_batch",
    "run_traces",
    "shard_folder",
    "shares_prompts",
    "side_by_side",
    "sparse_rows",
    "takes_positions",
    "to_tensors",
]
