"""What a fit needs of a table of counts."""

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int64

from dspa_nn.maps.options import PromptTokens
from dspa_nn.shapes import SparseTable


@runtime_checkable
class FittableCounts(Protocol):
    """What a fit needs of a table of counts; `ActivationCounts` is one."""

    def __len__(self) -> int: ...

    @property
    def d_in(self) -> int:
        """The width of the input SAE."""
        ...

    @property
    def d_out(self) -> int:
        """The width of the output SAE."""
        ...

    @property
    def index(self) -> Int64[np.ndarray, " n"]:
        """The number of each triple in its source."""
        ...

    @property
    def skipped(self) -> Mapping[str, int]:
        """Why triples of the source are not in the table, and how many."""
        ...

    @property
    def provenance(self) -> Mapping[str, Any]:
        """What was counted with what."""
        ...

    @property
    def chosen_length(self) -> Int64[np.ndarray, " n"]:
        """How many tokens of each chosen response were counted."""
        ...

    @property
    def rejected_length(self) -> Int64[np.ndarray, " n"]:
        """How many tokens of each rejected response were counted."""
        ...

    def prompt(self, tokens: PromptTokens) -> tuple[SparseTable, Int64[np.ndarray, " n"]]:
        """Counts of the prompts [n, d_in], and how many of their tokens were counted [n]."""
        ...

    def differences(self, rows: Int64[np.ndarray, " rows"]) -> SparseTable:
        """Chosen less rejected densities of these rows of the table, [rows, d_out]."""
        ...
