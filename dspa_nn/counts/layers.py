"""Counts of several SAEs side by side in one table, and the table of any pair of them.

The columns of the input SAEs lie beside each other in `content` and `markup`, those of the output
SAEs in `chosen` and `rejected`. In the provenance, what belongs to one SAE is a list, one value for
each; the rest is common to all. So rows are taken, merged, stored and resumed as those of a pair.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from dspa_nn.counts.rows import CountRows
from dspa_nn.counts.table import ActivationCounts
from dspa_nn.errors import CountsError

# What provenance says of an input SAE, and of an output SAE and the model up to its layer. Widths
# are those of the columns, and no part of a pair's provenance.
OF_INPUT = ("input_layer", "input_sae", "input_sae_sha256")
OF_OUTPUT = (
    "output_layer", "output_sae", "output_sae_sha256", "weights", "every_weight", "config",
    "loaded_model",
)  # fmt: skip
WIDTHS = ("input_width", "output_width")


def side_by_side(
    inputs: Iterable[Mapping[str, Any]], outputs: Iterable[Mapping[str, Any]]
) -> dict[str, Any]:
    """The provenance of a table of several SAEs, from those of pairs, each with its widths.

    >>> pair = {"dtype": "float32", "input_layer": 9, "output_layer": 24}
    >>> side_by_side([pair], [pair, pair | {"output_layer": 27}])
    {'dtype': 'float32', 'input_layer': [9], 'output_layer': [24, 27]}

    inputs: provenances of pairs, one for each input SAE; outputs: one for each output SAE.
    """
    together: dict[str, Any] = {}
    for pairs, keys in (([*inputs], (*OF_INPUT, WIDTHS[0])), ([*outputs], (*OF_OUTPUT, WIDTHS[1]))):
        together = {**pairs[0], **together}
        together |= {key: [pair[key] for pair in pairs] for key in keys if key in pairs[0]}
    return together


def layers_of(provenance: Mapping[str, Any]) -> tuple[list[int], list[int]]:
    """The input and the output layers of a table of several SAEs.

    Raises:
        CountsError: a table of one pair.
    """
    if not all(key in provenance for key in WIDTHS):
        raise CountsError(
            f"these are counts of input layer {provenance.get('input_layer')} and output layer "
            f"{provenance.get('output_layer')} alone, where those of a LayerSweep were expected; "
            "use them as they are"
        )
    return list(provenance["input_layer"]), list(provenance["output_layer"])


def pairs_of(inputs: Iterable[int], outputs: Iterable[int]) -> list[tuple[int, int]]:
    """Every input layer with every output layer that does not come before it.

    >>> pairs_of([9, 18], [12, 18])
    [(9, 12), (9, 18), (18, 18)]
    """
    outputs = [*outputs]
    return [(one, other) for one in inputs for other in outputs if one <= other]


def pair_of(table: ActivationCounts, input_layer: int, output_layer: int) -> ActivationCounts:
    """The table of one pair of SAEs: what a run of these two alone counts, byte for byte.

    Raises:
        CountsError: no such pair was counted.
    """
    provenance = table.provenance
    inputs, outputs = layers_of(provenance)
    if (input_layer, output_layer) not in (pairs := pairs_of(inputs, outputs)):
        raise CountsError(
            f"layers {input_layer!r} and {output_layer!r} came, and counted were the pairs "
            f"{', '.join(map(str, pairs))}: give an input and an output layer of these"
        )
    at_input, at_output = inputs.index(input_layer), outputs.index(output_layer)
    of_prompts = _columns(provenance[WIDTHS[0]], at_input)
    of_responses = _columns(provenance[WIDTHS[1]], at_output)
    own = {key: value for key, value in provenance.items() if key not in WIDTHS}
    own |= {key: own[key][at_input] for key in OF_INPUT if key in own}
    own |= {key: own[key][at_output] for key in OF_OUTPUT if own.get(key) is not None}
    rows = CountRows(
        table.index,
        table.content[:, of_prompts], table.markup[:, of_prompts],
        table.chosen[:, of_responses], table.rejected[:, of_responses],
        table.content_length, table.markup_length, table.chosen_length, table.rejected_length,
    )  # fmt: skip
    return ActivationCounts(rows, provenance=own, skipped=table.skipped)


def _columns(widths: list[int], at: int) -> slice:
    start = sum(widths[:at])
    return slice(start, start + widths[at])
