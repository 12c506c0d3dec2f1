"""One training run: a step budget, a loss log, checkpoints, and resuming from them."""

import json
import sys
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback, TrainingArguments

from dspa_nn.errors import DSPAError
from dspa_nn.files import as_path, sha256_of_json, write_atomically
from dspa_nn.models import Fingerprint, model_path, read_facts
from dspa_nn.triples import PreferenceTriple, load_triples

from .texts import Room


@dataclass(frozen=True)
class Budget:
    """How long a run is, and in which pieces.

    Attributes:
        epochs: passes over the data, where no number of steps is given.
        steps: optimiser steps, or None for the epochs.
        batch: rows that are run at once; accumulate: of such batches to a step.
        tokens: of a sequence, at most. response: of a response, at most; None for no such limit.
        save_every: steps between checkpoints.
        seed: of the order and of what is drawn.
        fast: matrix products in bfloat16 on a CPU as well; a GPU has them always.
        checkpointing: the backward computes the blocks again, which takes less memory.
    """

    epochs: float
    steps: int | None = None
    batch: int = 4
    accumulate: int = 1
    tokens: int = 768
    response: int | None = None
    save_every: int = 20
    seed: int = 0
    fast: bool = False
    checkpointing: bool = False

    @property
    def room(self) -> Room:
        """How long sequences may be."""
        return Room(self.tokens, self.response)


def arguments(out: Path, budget: Budget, **settings: Any) -> dict[str, Any]:
    """Keywords of `TrainingArguments` (or of `DPOConfig`), with the budget filled in."""
    cuda = torch.cuda.is_available()
    return {
        "output_dir": str(out / "checkpoints"),
        "num_train_epochs": budget.epochs,
        "max_steps": budget.steps or -1,
        "per_device_train_batch_size": budget.batch,
        "gradient_accumulation_steps": budget.accumulate,
        "optim": "adamw_torch",
        "save_steps": budget.save_every,
        "save_total_limit": 2,
        "logging_steps": 1,
        **({"gradient_checkpointing": True} if budget.checkpointing else {}),
        "seed": budget.seed,
        "use_cpu": not cuda,
        "bf16": cuda or budget.fast,
        "dataloader_pin_memory": cuda,
        "remove_unused_columns": False,
        "report_to": "none",
        "disable_tqdm": True,
        **settings,
    }


def training_arguments(out: Path, budget: Budget, **settings: Any) -> TrainingArguments:
    """The same as an object."""
    return TrainingArguments(**arguments(out, budget, **settings))


class LossLog(TrainerCallback):
    """Writes every step's loss to `loss.jsonl`; after a resume, those of before as well.

    Beside it: the seconds that the step took, those of them that the processor worked for it, and
    the most memory that the process has held.
    """

    def __init__(self, out: Path) -> None:
        self.path = out / "loss.jsonl"
        self.began = self.worked = 0.0

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Start the clocks."""
        self.began, self.worked = time.monotonic(), time.process_time()

    def on_log(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Write what was logged so far."""
        if "loss" in state.log_history[-1]:
            state.log_history[-1] |= {
                "seconds": round(time.monotonic() - self.began, 3),
                "processor_seconds": round(time.process_time() - self.worked, 3),
                "peak_bytes": peak_bytes(),
            }
        lines = [json.dumps(entry) for entry in state.log_history if "loss" in entry]
        write_atomically(self.path, "\n".join(lines) + "\n")


def peak_bytes() -> int:
    """The most memory held so far: on the GPU where there is one, else by this process."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


class Watch(Protocol):
    """What looks on while a trainer trains, as `flops.StepFlops` does."""

    def attach(self, trainer: Any) -> None: ...


def go(
    trainer: Any, out: Path, settings: Any, origin: dict[str, Any], watch: Watch | None = None
) -> list[float]:
    """Train, from the last checkpoint if there is one; save; return the loss of every step.

    Raises:
        DSPAError: the checkpoints are of another run.
    """
    known = agree(out, {"settings": settings, "origin": origin})
    checkpoint = last_whole(Path(trainer.args.output_dir)) if known else None
    trainer.add_callback(LossLog(out))
    if watch is not None:
        watch.attach(trainer)
    trainer.train(resume_from_checkpoint=checkpoint)
    trainer.save_model(str(out))
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


def last_whole(folder: Path) -> str | None:
    """The newest checkpoint that was written to its end: `trainer_state.json` is written last."""
    found = [path for path in folder.glob("checkpoint-*") if path.name[11:].isdigit()]
    for path in sorted(found, key=lambda path: int(path.name[11:]), reverse=True):
        try:
            json.loads((path / "trainer_state.json").read_text())
        except (OSError, ValueError):
            continue
        return str(path)
    return None


def agree(out: Path, told: dict[str, Any]) -> bool:
    """Note in `run.json` what a run is made of; True if it is there already, and the same.

    Raises:
        DSPAError: `out` holds another run.
    """
    note = out / "run.json"
    noted_before = json.loads(note.read_text()) if note.is_file() else None
    mark = {"sha256": sha256_of_json(told)}
    if noted_before is not None and noted_before["sha256"] != mark["sha256"]:
        raise DSPAError(
            f"{out} holds a run of other settings, data or weights{differing(noted_before, told)}; "
            "give another --out, or remove it"
        )
    write_atomically(note, json.dumps(told | mark, indent=1))
    return noted_before is not None


def differing(before: dict[str, Any], now: dict[str, Any]) -> str:
    """The first thing in which two runs differ, for a message."""
    for part in ("settings", "origin"):
        for name, value in now[part].items():
            if before.get(part, {}).get(name) != value:
                return f" ({name} was {before.get(part, {}).get(name)} and is {value})"
    return ""


def losses_in(path: Path) -> list[float]:
    """The loss of every step, from a log."""
    return [json.loads(line)["loss"] for line in path.read_text().splitlines()]


def load(name: str | None) -> tuple[Any, Any]:
    """A model in float32 (bfloat16 on a GPU) and its tokenizer; None is the embedded one.

    Raises:
        DSPAError: there is no such model, or it is an adapter.
    """
    path = name or model_path()
    if (Path(path) / "adapter_config.json").is_file():
        raise DSPAError(
            f"{path} holds an adapter, and a model was expected: give the --model that the adapter "
            "was trained on, or merge the two"
        )
    dtype = torch.bfloat16 if torch.cuda.is_available() else torch.float32
    try:
        model: Any = AutoModelForCausalLM.from_pretrained(path, dtype=dtype)
        tokenizer = AutoTokenizer.from_pretrained(path)
    except (OSError, ValueError) as error:
        raise DSPAError(
            f"there is no model {path} ({str(error).splitlines()[0]}): give --model a folder that "
            "save_pretrained wrote, or the id of a model on the hub"
        ) from error
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return model, tokenizer


def all_trained(model: Any) -> Any:
    """The model in float32, for training every weight: bfloat16 would round small updates away.

    The products are in bfloat16 on a GPU all the same. An adapter of PEFT's is float32 by itself.
    """
    return model.float()


def origin_of(model: Any, tokenizer: Any, triples: list[PreferenceTriple]) -> dict[str, Any]:
    """What a trained model or adapter comes from: the weights below it, and the triples."""
    facts = read_facts(model, tokenizer)
    read = Fingerprint().read(model, facts.blocks, facts.n_layers - 1)
    shown = [[list(own.messages), own.chosen, own.rejected] for own in triples]
    return {
        "model_id": facts.model_id,
        "model_revision": facts.revision,
        **read,
        "triples": len(triples),
        "data_sha256": sha256_of_json(shown),
    }


def take(source: str, number: int | None, start: int = 0) -> list[PreferenceTriple]:
    """The first triples of a source, from `start` on."""
    found: Iterable[PreferenceTriple] = load_triples(source)
    listed = list(found)[start : None if number is None else start + number]
    if not listed:
        raise DSPAError(f"{source} holds no triple from row {start} on; check the path and --start")
    return listed


def noted(out: str | Path, settings: Any) -> dict[str, Any]:
    """Settings as JSON's types."""
    return json.loads(json.dumps({**asdict(settings), "out": as_path(out).name}, default=str))
