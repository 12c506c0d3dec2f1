"""The model and the inputs of a run: from the hub at the commits of the run, or what is named."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dspa_nn.errors import EvaluationError
from dspa_nn.files import as_path, without_waiting
from dspa_nn.harness import PAPER_TASKS
from dspa_nn.imports import untyped
from dspa_nn.models import Preset, load_named
from dspa_nn.mt_bench import MTBench
from dspa_nn.progress import quiet_loaders
from dspa_nn.reproduce.pins import ALPACA_EVAL, MT_BENCH, TRIPLES, download
from dspa_nn.reproduce.settings import Settings, Sources
from dspa_nn.steering import DSPA
from dspa_nn.triples import Triples, load_triples


@dataclass(frozen=True)
class Task:
    """A multiple-choice figure: its task in lm-eval, the metric, and a file in place of the hub's.

    >>> Task("arc_easy", "acc_norm").name
    'arc_easy'
    """

    name: str
    metric: str
    file: Path | None = None


@dataclass(frozen=True)
class Inputs:
    """What a run measures with, beside the model.

    Attributes:
        triples: preference data. bench: MT-Bench. alpaca_eval: the file that answers are compared
            with. tasks: figure -> task.
    """

    triples: Triples
    bench: MTBench
    alpaca_eval: Path
    tasks: Mapping[str, Task]


def load_dspa(preset: Preset, sources: Sources, commits: Mapping[str, str]) -> DSPA:
    """The preset's model in bfloat16 on the GPUs that are here, with its SAEs, or those named.

    Raises:
        DSPAError: a model or an SAE that is not to be had, or that do not go together.
    """
    own = sources.model is None
    name = preset.model_id if sources.model is None else sources.model
    saes = {
        "input_sae": sources.input_sae or preset.input_sae,
        "output_sae": sources.output_sae or preset.output_sae,
    }
    with quiet_loaders():
        model = load_named(
            name,
            revision=commits.get(name) if own else None,
            dtype="bfloat16",
            device_map="auto",
        )
        return DSPA(
            model,
            input_layer=preset.input_layer,
            output_layer=preset.output_layer,
            defaults=preset.defaults,
            template=preset.template,
            same_model_as=None if own else preset.model_id,
            **saes,
        )


def load_inputs(
    sources: Sources, settings: Settings, folder: Path, commits: Mapping[str, str]
) -> Inputs:
    """Triples, questions and tasks; what is not named is fetched into the run's folder.

    Raises:
        DSPAError: a source that cannot be read or had.
    """
    bench = sources.mt_bench or download(MT_BENCH, folder / "data" / "mt_bench")
    reference = sources.alpaca_eval
    if reference is None:
        reference = download([ALPACA_EVAL], folder / "data") / ALPACA_EVAL.name
    tasks = {
        figure: Task(
            f"dspa_{figure}" if figure in sources.choices else figure,
            "acc" if figure in sources.choices else metric,
            sources.choices.get(figure),
        )
        for figure, (_, metric) in PAPER_TASKS.items()
    }
    return Inputs(
        triples=_triples(sources, settings, commits),
        bench=MTBench.load(bench),
        alpaca_eval=as_path(reference),
        tasks=tasks,
    )


def _triples(sources: Sources, settings: Settings, commits: Mapping[str, str]) -> Triples:
    if sources.triples is not None:
        return load_triples(sources.triples, chat=True, limit=settings.triples)
    try:
        with without_waiting():
            rows: Any = untyped("datasets").load_dataset(
                TRIPLES, split="train", revision=commits.get(TRIPLES)
            )
    except Exception as error:  # noqa: BLE001 - its errors are of a dozen unrelated classes
        raise EvaluationError(
            f"{TRIPLES} could not be had from the hub ({type(error).__name__}): check the "
            "connection, or name a file by --triples"
        ) from None
    return load_triples(rows, chat=True, limit=settings.triples)
