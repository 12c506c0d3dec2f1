"""The counting pass of one source: planned once, then any part of it counted, here or on NDIF."""

import shutil
from collections.abc import Iterable, Sequence
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypedDict, runtime_checkable

from dspa_nn.checks import check_type
from dspa_nn.counts.batches import TOKEN_BUDGET, hash_batch_plan, plan_batches
from dspa_nn.counts.checkpoints import chunks_of, count_chunks, stored
from dspa_nn.counts.dates import keep_date, today_for
from dspa_nn.counts.passes import LocalRunner
from dspa_nn.counts.shards import shard_folder, shard_of
from dspa_nn.counts.table import ActivationCounts
from dspa_nn.counts.tokenize import Refused, prepare
from dspa_nn.errors import CountsError
from dspa_nn.files import as_path, require_folder
from dspa_nn.graph.calls import check_outside_blocks
from dspa_nn.graph.count import Counter
from dspa_nn.models import (
    ModelFacts,
    context_length,
    evaluating,
    require_weights,
    torch_module,
)
from dspa_nn.progress import show_progress
from dspa_nn.prompts import Overlong
from dspa_nn.prompts import rendered_on as on_day
from dspa_nn.saes import LoadedSAE
from dspa_nn.triples import as_triples

# Why counts of a run on NDIF, and maps of them, are known by the model's name and not its weights.
WEIGHTS_ON_NDIF = "counted on NDIF, which does not say what weights it runs"


class CountingOptions(TypedDict, total=False):
    """Keywords of a counting pass, which `DSPA.count` and `DSPA.fit` take (docs/method.md 3.1).

    >>> options: CountingOptions = {"token_budget": 2048, "checkpoint": "counts-run"}

    Attributes:
        remote: run on NDIF.
        token_budget: padded tokens of a pass.
        overlong: what to do with a triple longer than the context: "truncate" (oldest messages
            first), "skip" or "error".
        refused: what to do with a triple that the chat template or the tokenizer refuses: "error",
            which names it, or "skip", which leaves it out and counts it in `skipped`.
        checkpoint: folder for finished batches.
        progress: whether to show a progress bar; None shows it on a terminal.
    """

    remote: bool
    token_budget: int | None
    overlong: Overlong
    refused: Refused
    checkpoint: str | Path | None
    progress: bool | None


class CountOptions(CountingOptions, total=False):
    """Keywords of `DSPA.count`: those of `CountingOptions`, and which part is counted.

    Attributes:
        shards: into how many parts the batch plan is divided.
        shard: which part is counted, from 0.
    """

    shards: int
    shard: int


class Reader(NamedTuple):
    """An SAE, and the dotted path, from the model, of the decoder block whose output it reads."""

    sae: LoadedSAE
    path: str


@runtime_checkable
class CountedModel(Protocol):
    """A model with its SAEs, as far as counting needs them: a `DSPA`, or a `LayerSweep`.

    `model` is an nnsight model.
    """

    model: Any
    facts: ModelFacts

    @property
    def readers(self) -> tuple[Sequence[Reader], Sequence[Reader]]:
        """What counts prompts, and what counts responses; each from the first block to the last."""
        ...

    def place_saes(self) -> None:
        """Put each SAE beside the layer that it reads."""
        ...

    def provenance(self, *, anew: bool = False) -> dict[str, Any]:
        """What identifies the model and the SAEs in maps and counts; `anew` reads all weights."""
        ...


class CountRun:
    """The batch plan of a source, which depends on the triples and the budget alone.

    >>> run = CountRun(dspa, triples)
    >>> whole = run.count(shards=2, shard=0).merge(run.count(shards=2, shard=1))

    A worker that counts several shards keeps one of these and so renders the source once. The
    arguments, and what is raised, are those of `DSPA.count`.

    Attributes:
        tokenised: the triples as token ids.
        batches: the batch plan, as positions in `tokenised`.
        rendered_on: the day that the chat template writes, in ISO form; None where it writes none.
        skipped: why triples of the source are left out or cut, and how many.
        provenance: what is counted with what.
    """

    def __init__(
        self,
        dspa: CountedModel,
        triples: Iterable[Any],
        *,
        token_budget: int | None = None,
        overlong: Overlong = "truncate",
        refused: Refused = "error",
        rendered_on: str | None = None,
    ) -> None:
        self.dspa = dspa
        context = context_length(dspa.model)
        triples = triples if isinstance(triples, str) else as_triples(triples)
        tokenizer = dspa.facts.tokenizer
        today = today_for(tokenizer)
        self.rendered_on = today and (rendered_on or today)
        with on_day(self.rendered_on):
            self.tokenised, skipped = prepare(triples, tokenizer, context, overlong, refused)
        self.skipped: dict[str, int] = {**getattr(triples, "skipped", {}), **skipped}
        budget = TOKEN_BUDGET if token_budget is None else token_budget
        self.batches = plan_batches(self.tokenised, budget)
        sha256 = hash_batch_plan(self.tokenised, self.batches, budget)
        tuned: dict[str, Any] = getattr(dspa, "defaults", None) or {}
        self.provenance: dict[str, Any] = {
            **dspa.provenance(anew=True),
            "batch_plan": {
                "token_budget": budget,
                "sha256": sha256,
                "triples": len(self.tokenised),
            },
            "prompts": ", ".join(sorted({_kind(triple) for triple in triples})),
            "data_sha256": getattr(triples, "sha256", None) or sha256,
            **({"defaults": dict(tuned)} if tuned else {}),
            **({"rendered_on": self.rendered_on} if self.rendered_on else {}),
        }

    def origin(self, remote: bool = False) -> dict[str, Any]:
        """The provenance of this run's counts; on NDIF, nothing of weights that only NDIF reads.

        >>> CountRun(dspa, triples).origin(remote=True)["weights"] is None
        True
        """
        if not remote:
            return self.provenance
        here = ("weights", "every_weight", "config")
        known = {key: value for key, value in self.provenance.items() if key not in here}
        return known | {"weights": None, "weights_unknown": WEIGHTS_ON_NDIF}

    def count(
        self,
        *,
        shards: int = 1,
        shard: int = 0,
        remote: bool = False,
        checkpoint: str | Path | None = None,
        progress: bool | None = None,
        required: bool = True,
    ) -> ActivationCounts:
        """Count one shard of the batches; all shards together hold every triple once.

        >>> len(CountRun(dspa, triples).count()) == len(triples)
        True

        required: whether what cannot be read or written of the checkpoint is an error; else the
            run goes on without it, and warns.
        """
        check_type("remote", remote, bool, CountsError)
        check_type("progress", progress, bool | None, CountsError)
        batches = shard_of(self.batches, shard, shards)
        folder = None if checkpoint is None else as_path(checkpoint)
        if folder is not None:
            require_folder("checkpoint", folder)
            if self.rendered_on is not None:
                keep_date(folder, self.rendered_on)
        if folder is not None and shards > 1:
            folder = shard_folder(folder, shard, shards)  # chunks are numbered within a shard
        if batches:
            counts = self._count_batches(batches, remote, folder, progress, required)
        else:
            counts = ActivationCounts.from_rows(
                [],
                d_in=sum(reader.sae.width for reader in self.dspa.readers[0]),
                d_out=sum(reader.sae.width for reader in self.dspa.readers[1]),
                provenance=self.origin(remote),
            )
        # Shard 0 alone tells which triples were left out, so that merged shards equal one run.
        counts.skipped = dict(self.skipped) if shard == 0 else {}
        return counts

    def keep(
        self,
        folder: str | Path,
        *,
        shards: int = 1,
        shard: int = 0,
        checkpoint: str | Path | None = None,
        progress: bool | None = None,
    ) -> ActivationCounts:
        """Count one shard and save it among the shards in `folder`; one that is there is read.

        >>> run = CountRun(dspa, triples)
        >>> len(run.keep("counts", shards=2, shard=0)) + len(run.keep("counts", shards=2, shard=1))
        20

        So a worker may be given a shard again, by a scheduler that saw it die after its work was
        done. The shard's part of `checkpoint` goes once the shard is saved, which holds the same.

        Raises:
            CountsError: what is there is the shard of another run.
        """
        saved = shard_folder(folder, shard, shards)
        batches = shard_of(self.batches, shard, shards)
        indices = [self.tokenised[position].index for batch in batches for position in batch]
        counts = stored(saved, self.provenance, indices)
        if counts is None:
            counts = self.count(
                shards=shards, shard=shard, checkpoint=checkpoint, progress=progress
            )
            counts.save(saved)
        if checkpoint is not None:
            parts = as_path(checkpoint) if shards == 1 else shard_folder(checkpoint, shard, shards)
            for part in parts.glob("chunk-*"):
                shutil.rmtree(part, ignore_errors=True)
            with suppress(OSError):  # not there, or other files are in it
                parts.rmdir()
        return counts

    def _count_batches(
        self,
        batches: Sequence[Sequence[int]],
        remote: bool,
        folder: Path | None,
        progress: bool | None,
        required: bool,
    ) -> ActivationCounts:
        model = self.dspa.model
        check_outside_blocks("count", None if remote else torch_module(model))
        if not remote:
            self.dspa.place_saes()
        inputs, outputs = (
            [(reader.sae.encoder, f"{model.path}.{reader.path}") for reader in group]
            for group in self.dspa.readers
        )
        chunks = chunks_of(self.tokenised, batches)
        architecture = type(torch_module(model)).__name__
        with show_progress("counting", sum(map(len, batches)), "triples", progress) as advance:
            if remote:
                from dspa_nn.counts.remote import RemoteRunner

                inputs, outputs = (
                    [(encoder.on("cpu"), path) for encoder, path in group]
                    for group in (inputs, outputs)
                )
                counter = Counter(inputs, outputs, follow=True, architecture=architecture)
                runner = RemoteRunner(
                    model, counter, chunks, self.origin(remote), folder, advance, required
                )
            else:
                require_weights(model, "count")
                counter = Counter(inputs, outputs, architecture=architecture)
                runner = LocalRunner(model, counter, chunks, self.provenance, advance)
            with nullcontext() if remote else evaluating(model):
                provenance = self.origin(remote)
                return count_chunks(chunks, runner, provenance, folder, advance, required)


def _kind(triple: Any) -> str:
    return "text" if isinstance(triple.prompt, str) else "chat"
