"""The counting pass of one source: planned once, then any part of it counted, here or on NDIF."""

import shutil
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from dspa_nn.counts import batches as batching
from dspa_nn.counts import passes as counting
from dspa_nn.counts.shards import shard_folder
from dspa_nn.counts.table import ActivationCounts
from dspa_nn.graph.count import Counter
from dspa_nn.models import require_weights
from dspa_nn.progress import show_progress
from dspa_nn.prompts import Overlong
from dspa_nn.triples import PreferenceTriple


class CountRun:
    """The planned batches of a source; they depend on the triples and the budget alone.

    >>> run = CountRun(dspa, triples)
    >>> whole = run.count(shards=2, shard=0).merge(run.count(shards=2, shard=1))

    A worker that counts several shards keeps one of these and so renders the source once. The
    arguments, and what is raised, are those of `DSPA.count`.
    """

    def __init__(
        self,
        dspa: Any,
        triples: Sequence[PreferenceTriple],
        *,
        token_budget: int | None = None,
        overlong: Overlong = "truncate",
    ) -> None:
        self.dspa = dspa
        config = getattr(dspa.model, "_module", dspa.model).config
        context = int(getattr(config.get_text_config(), "max_position_embeddings", 1 << 30))
        self.jobs, skipped = counting.prepare(triples, dspa.facts.tokenizer, context, overlong)
        self.skipped = {**getattr(triples, "skipped", {}), **skipped}
        budget = batching.TOKEN_BUDGET if token_budget is None else token_budget
        self.batches = batching.plan_batches(self.jobs, budget)
        plan = {
            "token_budget": budget,
            "sha256": batching.plan_hash(self.jobs, self.batches, budget),
            "triples": len(self.jobs),
        }
        self.provenance = {**dspa.provenance(), "batch_plan": plan}
        self.provenance["data_sha256"] = getattr(triples, "sha256", None) or plan["sha256"]

    def count(
        self,
        *,
        shards: int = 1,
        shard: int = 0,
        remote: bool = False,
        checkpoint: str | Path | None = None,
        progress: bool | None = None,
    ) -> ActivationCounts:
        """Count one shard of the batches; all shards together hold every triple once."""
        batches = counting.shard_of(self.batches, shard, shards)
        folder = None if checkpoint is None else Path(checkpoint)
        if folder is not None and shards > 1:
            folder = shard_folder(folder, shard, shards)  # chunks are numbered within a shard
        widths = self.dspa.input_sae.width, self.dspa.output_sae.width
        if batches:
            counts = self._run(batches, widths, remote, folder, progress)
        else:
            counts = ActivationCounts.from_rows(
                [], d_in=widths[0], d_out=widths[1], provenance=self.provenance
            )
        # What was left out was left out of the source: said once, so that merged equals whole.
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
        """Count one shard and save it in its place in `folder`; one that is there is read.

        >>> CountRun(dspa, triples).keep("counts", shards=8, shard=3)    # doctest: +SKIP

        So a worker may be given a shard again, by a scheduler that saw it die after its work was
        done. The shard's part of `checkpoint` goes once the shard is saved, which holds the same.

        Raises:
            CountsError: what is there is the shard of another run.
        """
        place = shard_folder(folder, shard, shards)
        batches = counting.shard_of(self.batches, shard, shards)
        indices = [self.jobs[at].index for batch in batches for at in batch]
        counts = counting.stored(place, self.provenance, indices)
        if counts is None:
            counts = self.count(
                shards=shards, shard=shard, checkpoint=checkpoint, progress=progress
            )
            counts.save(place)
        if checkpoint is not None:
            parts = Path(checkpoint) if shards == 1 else shard_folder(checkpoint, shard, shards)
            for part in parts.glob("chunk-*"):
                shutil.rmtree(part, ignore_errors=True)
            with suppress(OSError):  # not there, or not ours alone
                parts.rmdir()
        return counts

    def _run(
        self,
        batches: list[list[int]],
        widths: tuple[int, int],
        remote: bool,
        folder: Path | None,
        progress: bool | None,
    ) -> ActivationCounts:
        model, budget = self.dspa.model, self.provenance["batch_plan"]["token_budget"]
        paths = [f"{model.path}.{path}" for path in self.dspa.paths]
        if not remote:
            self.dspa.place_saes()
        encoders = self.dspa.input_sae.encoder, self.dspa.output_sae.encoder
        with show_progress("counting", sum(map(len, batches)), "triples", progress) as advance:
            if remote:
                from dspa_nn.counts.remote import Run

                encoders = tuple(encoder.on("cpu") for encoder in encoders)
                counter = Counter(encoders, paths, follow=True)
                run = Run(model, counter, self.jobs, batches, self.provenance, folder)
                return run.count(advance)
            require_weights(model, "count")
            counter = Counter(encoders, paths)
            return counting.count_batches(
                self.jobs,
                batches,
                lambda batch: counting.run_batch(model, counter, batch, budget),
                widths,
                self.provenance,
                folder,
                advance,
            )
