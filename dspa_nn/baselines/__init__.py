"""Every method of the comparison, one file each, behind `steering.SteeringMethod`.

A baseline is fitted on triples, which leaves an artefact (a vector, a map, an instruction) that is
saved and loaded with its provenance, and steers as DSPA does: with plain hooks, in a block of
nnsight's, and there on NDIF too.
"""

from dspa_nn.baselines.caa import fit_caa
from dspa_nn.baselines.cast import fit_cast
from dspa_nn.baselines.dense import VectorMethod
from dspa_nn.baselines.formats import import_vector
from dspa_nn.baselines.global_difference import fit_global_difference, one_for_all
from dspa_nn.baselines.log import VectorLog
from dspa_nn.baselines.prefix import INSTRUCTION, Instruction, PromptPrefix
from dspa_nn.baselines.random_map import fit_random_map
from dspa_nn.baselines.registry import (
    BASELINES,
    Baseline,
    baseline_method,
    fit_baseline,
    load_baseline,
)
from dspa_nn.baselines.repe import fit_repe
from dspa_nn.baselines.states import Activations, activations
from dspa_nn.baselines.static_sae import fit_static_sae
from dspa_nn.baselines.subject import Subject
from dspa_nn.baselines.trained import AdapterMethod, WeightsMethod
from dspa_nn.baselines.unsteered import Unsteered
from dspa_nn.baselines.vector import Condition, ControlVector

__all__ = [
    "BASELINES",
    "INSTRUCTION",
    "Activations",
    "AdapterMethod",
    "Baseline",
    "Condition",
    "ControlVector",
    "Instruction",
    "PromptPrefix",
    "Subject",
    "Unsteered",
    "VectorLog",
    "VectorMethod",
    "WeightsMethod",
    "activations",
    "baseline_method",
    "fit_baseline",
    "fit_caa",
    "fit_cast",
    "fit_global_difference",
    "fit_random_map",
    "fit_repe",
    "fit_static_sae",
    "import_vector",
    "load_baseline",
    "one_for_all",
]
