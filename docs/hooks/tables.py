"""Tables that are read off the code: presets, types of SAE, and what was run where."""

from pathlib import Path
from typing import NamedTuple

REPOSITORY = Path(__file__).resolve().parents[2]
TESTED, STAND_IN, NOT_RUN = "tested", "on a stand-in", "not run"


def table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(row) + " |" for row in lines)


def presets() -> str:
    from dspa_nn.models import PRESETS

    rows: list[list[str]] = []
    for preset in PRESETS.values():
        tuned = ", ".join(f"{name} {value}" for name, value in preset.defaults.items())
        # The embedded SAEs are a folder of the package.
        saes = [
            "embedded" if Path(own).is_absolute() else f"`{own}`"
            for own in (preset.input_sae, preset.output_sae)
        ]
        rows.append(
            [
                f"`{preset.name}`",
                f"`{preset.model_id}`",
                f"{preset.input_layer} and {preset.output_layer} of "
                f"{preset.architecture.num_hidden_layers}",
                f"{preset.d_in:,} and {preset.d_out:,}",
                "<br>".join(dict.fromkeys(saes)),
                tuned or "the paper's",
            ]
        )
    return table(["preset", "model", "layers", "latents", "SAEs", "settings"], rows)


def preset_needs() -> str:
    from dspa_nn.costs import needs_table

    return needs_table(markdown=True)


def sae_types() -> str:
    from dspa_nn.graph.encode import SAE_TYPES

    rows = [
        [
            f"`{name}`",
            ", ".join(f"`{other}`" for other in each.trained_as) or "itself",
            ", ".join(f"`{tensor}`" for tensor in each.tensors) or "the decoder",
            ", ".join(f"`{setting}`" for setting in each.settings) or "none",
        ]
        for name, each in SAE_TYPES.items()
    ]
    return table(["type", "what is trained as", "tensors that it reads", "settings"], rows)


class Run(NamedTuple):
    """Where a model was run: `evidence` is a file of the repository that runs or reports it."""

    model: str
    where: str
    dtype: str
    state: str
    evidence: str


TINY = "tiny random Llama, Gemma 2, Qwen 3"
EMBEDDED = "SmolLM2-135M-Instruct (embedded)"
RUNS = [
    Run(TINY, "CPU, nnsight and plain hooks", "float32", TESTED, "tests/steering/test_parity.py"),
    Run(TINY, "CPU", "bfloat16", TESTED, "tests/steering/test_apply.py"),
    Run(TINY, "CUDA, placement alone", "float32", STAND_IN, "tests/saes/test_placement.py"),
    Run(TINY, "CUDA, one H100, one H200", "float32, bfloat16", TESTED, "tests/test_gpu.py"),
    Run(TINY, "CUDA, two GPUs", "float32", NOT_RUN, ""),
    Run(TINY, "NDIF on loopback", "float32", TESTED, "tests/ndif/test_remote.py"),
    Run("other families (GPT-2, GPT-NeoX, Mistral, Gemma 3, Mamba and others)", "CPU, counting",
        "float32", TESTED, "tests/counts/test_caches.py"),
    Run(EMBEDDED, "CPU, nnsight and plain hooks", "float32", TESTED, "docs/results.md"),
    Run(EMBEDDED, "CUDA, one H200", "float32", TESTED, "docs/howto/gpu.md"),
    Run(EMBEDDED, "NDIF on loopback", "float32", TESTED, "docs/appendix/ndif.md"),
    Run("Gemma-2-2B, Gemma-2-9B", "shapes, payload and costs, without weights", "any", TESTED,
        "tests/costs/test_costs.py"),
    Run("Gemma-2-2B, Gemma-2-9B, Qwen3-8B", "CPU: a tiny model of the same architecture", "float32",
        STAND_IN, "tests/models/test_published.py"),
    Run("Gemma-2-2B, Gemma-2-9B, Qwen3-8B", "CPU: `dspa reproduce`, judge and all", "float32",
        STAND_IN, "tests/reproduce/test_reproduce.py"),
    Run("Gemma-2-2B, Gemma-2-9B, Qwen3-8B", "their weights, on any device", "any", NOT_RUN, ""),
    Run("any", "public NDIF", "any", NOT_RUN, ""),
    Run("any", "vLLM", "any", NOT_RUN, ""),
]  # fmt: skip


def what_runs_where() -> str:
    rows: list[list[str]] = []
    for run in RUNS:
        if run.evidence and not (REPOSITORY / run.evidence).exists():
            raise FileNotFoundError(f"{run.evidence} is named as evidence, and is not there")
        told = f"`{run.evidence}`" if run.evidence else "no weights, key or device were at hand"
        rows.append([run.model, run.where, run.dtype, f"**{run.state}**", told])
    return table(["model", "where", "dtype", "", "read on in"], rows)
