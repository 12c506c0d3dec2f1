"""The paper's theory as code: arithmetic on counts and maps, no run of the model (docs/theory.md).

Scores here are arrays or tensors in and out, so that a selection rule can be made of any of them.
"""

from dspa_nn.theory.bounds import (
    CoActivation,
    RowBounds,
    co_activation,
    concentration_radius,
    row_bounds,
    row_means,
)
from dspa_nn.theory.confidence import Confidence, Studentised, confident_map, studentised
from dspa_nn.theory.demixing import Demixer, demix
from dspa_nn.theory.gate_gram import Conditioning, conditioning, gram, gram_on, prompt_conditioning
from dspa_nn.theory.sample import Sample, sample_of
from dspa_nn.theory.topk import ablation_gain, best_ablation
from dspa_nn.theory.whitening import Shrinkage, Whitening, diagonal_whitening, shrunk_whitening
from dspa_nn.theory.world import World, make_world

__all__ = [
    "CoActivation",
    "Conditioning",
    "Confidence",
    "Demixer",
    "RowBounds",
    "Sample",
    "Shrinkage",
    "Studentised",
    "Whitening",
    "World",
    "ablation_gain",
    "best_ablation",
    "co_activation",
    "concentration_radius",
    "conditioning",
    "confident_map",
    "demix",
    "diagonal_whitening",
    "gram",
    "gram_on",
    "make_world",
    "prompt_conditioning",
    "row_bounds",
    "row_means",
    "sample_of",
    "shrunk_whitening",
    "studentised",
]
