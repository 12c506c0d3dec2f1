"""Which commit of each model, SAE and data set a run uses: known beforehand, or told by the first.

A commit that could be looked up is written down here. The others are asked of the hub when a run
begins, noted in its folder, and used from then on by that run, whenever it goes on.
"""

import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

from dspa_nn.errors import EvaluationError
from dspa_nn.files import without_waiting, write_atomically
from dspa_nn.imports import untyped
from dspa_nn.models import Preset
from dspa_nn.reproduce.settings import Sources
from dspa_nn.saes import repository_of

TRIPLES = "argilla/ultrafeedback-binarized-preferences-cleaned"
# What lm-eval's five tasks read.
CHOICES = {
    "mmlu": "cais/mmlu",
    "arc_easy": "allenai/ai2_arc",
    "truthfulqa_mc2": "truthfulqa/truthful_qa",
    "hellaswag": "Rowan/hellaswag",
    "winogrande": "allenai/winogrande",
}


@dataclass(frozen=True)
class Pin:
    """A repository on the hub, and the commit of it that is used.

    Attributes:
        what: what it is used for. repository: its id. kind: as the hub calls it.
        revision: a commit; None where no run has told it yet.
    """

    what: str
    repository: str
    kind: Literal["model", "dataset"]
    revision: str | None = None


@dataclass(frozen=True)
class Remote:
    """A file on the web, known to the byte.

    Attributes:
        name: below the folder that it goes to. url: with the commit in it. sha256: of its bytes.
    """

    name: str
    url: str
    sha256: str


_FASTCHAT = (
    "https://raw.githubusercontent.com/lm-sys/FastChat/0e6d3e4beaab66f4d3f93db72541a4abab8af28d/"
    "fastchat/llm_judge/data"
)
MT_BENCH = (
    Remote(
        "question.jsonl",
        f"{_FASTCHAT}/mt_bench/question.jsonl",
        "119565adbab82227089cefdb44c8d7e2cf04dc0a0ec233634c82e7d4e2a944f7",
    ),
    Remote(
        "judge_prompts.jsonl",
        f"{_FASTCHAT}/judge_prompts.jsonl",
        "fd283293406d024f44c174b094ef48031d0687a4682fd3a56b29b138f80281b6",
    ),
    Remote(
        "reference_answer/gpt-4.jsonl",
        f"{_FASTCHAT}/mt_bench/reference_answer/gpt-4.jsonl",
        "f957a5bc977badb66885ec970e6cd08527845780313f0995764260e5777b9b3f",
    ),
)
# The paper does not say whose outputs are compared with: these are AlpacaEval 1's.
ALPACA_EVAL = Remote(
    "text_davinci_003.json",
    "https://raw.githubusercontent.com/tatsu-lab/alpaca_eval/"
    "cd543a149df89434d8a54582c0151c0b945c3d20/results/text_davinci_003/model_outputs.json",
    "af0bc112f08c88bf589bbfe6fc1036806d0a0f6fec9c4d5a4db860f5afe73b4b",
)


def pins_of(preset: Preset, sources: Sources, steps: Sequence[str]) -> list[Pin]:
    """What a run of a preset takes from the hub; what is named otherwise is not among it.

    Example:
        >>> from dspa_nn.models import get_preset
        >>> pins = pins_of(get_preset("gemma-2-2b"), Sources(triples="mine.jsonl"), ["maps"])
        >>> [pin.repository for pin in pins]
        ['google/gemma-2-2b', 'google/gemma-scope-2b-pt-res']
    """
    saes = [sources.input_sae or preset.input_sae, sources.output_sae or preset.output_sae]
    found = [name for name in map(repository_of, saes) if name is not None]
    pins = [Pin("SAEs", name, "model") for name in dict.fromkeys(found)]
    if sources.model is None:
        pins.insert(0, Pin("model", preset.model_id, "model", preset.revision))
    if sources.triples is None:
        pins.append(Pin("triples", TRIPLES, "dataset"))
    if "multiple-choice" in steps and not sources.choices:
        pins += [Pin(task, name, "dataset") for task, name in CHOICES.items()]
    return pins


def resolve(pins: Sequence[Pin], known: Mapping[str, str], ask: Any = None) -> dict[str, str]:
    """The commit of every repository: the pin's, else the run's own of before, else the newest.

    Example:
        >>> resolve([Pin("model", "org/name", "model", "5f0c")], {})
        {'org/name': '5f0c'}

    ask: (repository, kind) -> commit; None asks the hub.

    Raises:
        EvaluationError: the hub cannot be asked, or it has no such repository.
    """
    asked: Callable[[str, str], str] = ask or _newest
    return {
        pin.repository: pin.revision or known.get(pin.repository) or asked(pin.repository, pin.kind)
        for pin in pins
    }


def _newest(repository: str, kind: str) -> str:
    try:
        with without_waiting():
            api: Any = untyped("huggingface_hub").HfApi()
            return str(api.repo_info(repository, repo_type=kind).sha)
    except Exception as error:  # noqa: BLE001 - the hub's many errors
        raise EvaluationError(
            f"the hub does not say which commit of {repository} is the newest "
            f"({type(error).__name__}): connect to it, log in where the model asks for it, or try "
            "the whole of it with --stand-in"
        ) from None


def download(files: Sequence[Remote], folder: Path) -> Path:
    """Fetch files that are not there yet, and hold every one against its hash.

    Raises:
        EvaluationError: no connection, or other bytes than those that were pinned.
    """
    for file in files:
        path = folder / file.name
        if not path.is_file():
            try:
                with urllib.request.urlopen(file.url, timeout=60) as answer:
                    body: bytes = answer.read()
            except OSError as error:
                raise EvaluationError(
                    f"{file.url} cannot be had ({error}): connect to the web, or name a folder "
                    "with the file in it by --mt-bench or --alpaca-eval"
                ) from None
            write_atomically(path, body)
        found = sha256(path.read_bytes()).hexdigest()
        if found != file.sha256:
            raise EvaluationError(
                f"{path} has the hash {found[:12]}, where {file.sha256[:12]} was pinned: remove "
                "it, and run again"
            )
    return folder
