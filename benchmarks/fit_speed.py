"""How fast counting is: against the three whole passes that a researcher writes first.

    python -m benchmarks.fit_speed [--quick] [--out benchmarks/results]

Plain: one triple at a time; prompt, prompt + chosen, prompt + rejected through the whole model with
`output_hidden_states`, then the SAEs. Ours: the prompt once, both responses from its cache, blocks
up to the output layer, no LM head. Both on the same UltraFeedback triples (`DSPA_DATA`), in turns;
the prediction is the ratio of counted FLOPs for those very triples. Then the counts of the two are
compared: float order may flip a latent at its threshold, and such flips are counted.
"""

import os
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

import dspa_nn as dn
from benchmarks._report import options, ratio, run_interleaved, write
from dspa_nn.batching import Job
from dspa_nn.costs import speed_up
from dspa_nn.counting import prepare

PRESET = "smollm2-135m-instruct"
DATA = Path(os.environ.get("DSPA_DATA", "../shared/data"))


def plain(dspa: dn.DSPA, jobs: list[Job]) -> list[dict[str, np.ndarray]]:
    """Counts of every triple, from three passes each."""
    hf, tables = dspa.model._module, []
    layers = dspa.input_layer + 1, dspa.output_layer + 1
    for job in jobs:
        found = {}
        with torch.no_grad():
            out = hf(job.prompt.prompt_ids[None], output_hidden_states=True)
            active = dspa.input_sae.encoder.encode(out.hidden_states[layers[0]][0])[0] > 0
            found["content"] = active[job.prompt.counted("content")].sum(0).numpy()
            for name, end in (("chosen", job.chosen), ("rejected", job.rejected)):
                out = hf(end.ids[None], output_hidden_states=True)
                response = out.hidden_states[layers[1]][0, end.prompt_length :]
                active = dspa.output_sae.encoder.encode(response)[0] > 0
                found[name] = active.sum(0).numpy()
        tables.append(found)
    return tables


def lengths_of(jobs: list[Job]) -> list[tuple[int, int, int]]:
    """Tokens of prompt, chosen and rejected, for each triple."""
    ends = [(job.chosen.response_ids, job.rejected.response_ids) for job in jobs]
    return [
        (job.prompt.prompt_length, len(one), len(two))
        for job, (one, two) in zip(jobs, ends, strict=True)
    ]


def flips(dspa: dn.DSPA, triples: Any, jobs: list[Job]) -> list[dict[str, Any]]:
    """Compare the counts of both ways, table by table."""
    counts = dspa.count(triples, progress=False)
    by_hand = plain(dspa, jobs)
    rows = []
    for name, lengths in (
        ("content", counts.content_length),
        ("chosen", counts.chosen_length),
        ("rejected", counts.rejected_length),
    ):
        wanted = np.stack([own[name] for own in by_hand])
        gap = np.abs(getattr(counts, name).toarray() - wanted)
        rows.append(
            {
                "table": name,
                "triples": len(jobs),
                "counted tokens": int(lengths.sum()),
                "token-latent pairs active": int(wanted.sum()),
                "flipped, at least": int(gap.sum()),
                "flips a token": float(gap.sum() / lengths.sum()),
                "largest change of one count": int(gap.max()),
            }
        )
    return rows


def main() -> None:
    asked = options(__doc__ or "")
    groups, size, compared = (3, 4, 12) if asked.quick else (8, 12, 100)
    source = DATA / "ultrafeedback" / "triples.jsonl"
    if not source.exists():
        raise SystemExit(f"{source} is not there: set DSPA_DATA to the folder that holds it")
    dspa = dn.DSPA.from_preset(PRESET)
    config = dspa.model._module.config
    triples = dn.load_triples(source, chat=True)[: max(groups * size, compared)]
    jobs, _ = prepare(triples, dspa.facts.tokenizer, config.max_position_embeddings, "error")
    shape = {
        "input_layer": dspa.input_layer,
        "output_layer": dspa.output_layer,
        "d_in": dspa.input_sae.width,
        "d_out": dspa.output_sae.width,
    }
    times: dict[str, list[float]] = {}
    predicted, tokens = [], 0
    plain(dspa, jobs[:1])
    for group in range(groups):
        own = slice(group * size, (group + 1) * size)
        lengths = lengths_of(jobs[own])
        predicted += [speed_up(config, lengths, **shape)]
        tokens += sum(map(sum, lengths))
        once = partial(dspa.count, triples[own], progress=False)
        seconds = run_interleaved(
            {
                "plain": partial(plain, dspa, jobs[own]),
                "ours, a triple at a time": partial(once, token_budget=1),
                "ours": once,
            },
            1,
            warm_up=0,
        )
        for name, value in seconds.items():
            times.setdefault(name, []).extend(value)
    rows = []
    for name, own in times.items():
        found = ratio(times["plain"], own)
        share = ratio([a / p for a, p in zip(times["plain"], predicted, strict=True)], own)
        rows.append(
            {
                "contender": name,
                "tokens/s": tokens / sum(own),
                "faster than plain": found,
                "FLOPs predict": float(np.exp(np.mean(np.log(predicted))))
                if name != "plain"
                else 1.0,
                "reached of the prediction": share if name != "plain" else None,
            }
        )
    notes = [
        f"{groups} groups of {size} triples, {tokens} tokens (prompt, chosen and rejected once "
        "each); tokens/s of every contender are in these.",
        "'ours, a triple at a time' is token_budget=1: no batching, no padding.",
        "A flip moves one count by 1; opposite flips of one latent within a triple cancel, so the "
        "figure is a lower bound.",
    ]
    tables = {"Time": rows, "Counts of both ways": flips(dspa, triples[:compared], jobs[:compared])}
    write("fit_speed", "Speed of counting", tables, notes, asked.out)


if __name__ == "__main__":
    main()
