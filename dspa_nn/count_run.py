"""`DSPA.count`: plan the batches of a source, and run them here or on NDIF."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dspa_nn import counting
from dspa_nn.counts import ActivationCounts
from dspa_nn.errors import CountsError
from dspa_nn.graph.count import Counter
from dspa_nn.triples import PreferenceTriple


def count_triples(
    dspa: Any,
    triples: Sequence[PreferenceTriple],
    *,
    remote: bool,
    token_budget: int | None,
    overlong: str,
    checkpoint: str | Path | None,
    progress: bool | None,
) -> ActivationCounts:
    """Count as `DSPA.count` says; the batches depend on the triples and the budget alone."""
    config = getattr(dspa.model, "_module", dspa.model).config
    context = int(getattr(config.get_text_config(), "max_position_embeddings", 1 << 30))
    jobs, skipped = counting.prepare(triples, dspa.facts.tokenizer, context, overlong)
    budget = counting.TOKEN_BUDGET if token_budget is None else token_budget
    batches = counting.plan_batches(jobs, budget)
    plan = {"token_budget": budget, "sha256": counting.plan_hash(jobs, batches)}
    provenance = {**dspa.provenance(), "batch_plan": plan}
    provenance["data_sha256"] = getattr(triples, "sha256", None) or plan["sha256"]
    paths = [f"{dspa.model.path}.{path}" for path in dspa.paths]
    encoders = dspa.input_sae.encoder, dspa.output_sae.encoder
    folder = None if checkpoint is None else Path(checkpoint)
    advance, bar = counting.show_progress(len(jobs), progress)
    with bar:
        if remote:
            from dspa_nn.graph.remote import CountsRefusal
            from dspa_nn.remote_counting import Run

            counter = Counter(encoders, paths, CountsRefusal)
            run = Run(dspa.model, counter, jobs, batches, provenance, folder)
            counts = run.count(advance)
        else:
            counter = Counter(encoders, paths, CountsError)
            counts = counting.count_batches(
                jobs,
                batches,
                lambda batch: counting.run_batch(dspa.model, counter, batch),
                (dspa.input_sae.width, dspa.output_sae.width),
                provenance,
                folder,
                advance,
            )
    counts.skipped = {**getattr(triples, "skipped", {}), **skipped}
    return counts
