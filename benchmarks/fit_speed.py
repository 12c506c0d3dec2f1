"""How fast counting is: against the plain way, three whole passes of the model per triple.

    python -m benchmarks.fit_speed [--quick] [--out benchmarks/results]

Plain: one triple at a time; prompt, prompt + chosen, prompt + rejected through the whole model with
`output_hidden_states`, then the SAEs. `DSPA.count`: the prompt once, both responses from its cache,
blocks up to the output layer, no LM head. Both run on the same UltraFeedback triples (`DSPA_DATA`),
in turns; the predicted speed-up is the ratio of counted FLOPs for those triples. Then both are
compared at every token and latent: the order of float sums may flip a latent that lies near its
threshold, and flips are counted.
"""

import argparse
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

import dspa_nn as dn
from benchmarks._report import options, ratio, run_interleaved, write
from benchmarks._steering import PRESET, huggingface
from dspa_nn.costs import speed_up
from dspa_nn.counts import TOKEN_BUDGET, CountRun, TokenisedTriple, prepare, run_batch
from dspa_nn.graph import active, count

# The gap, as a share of the token's strongest latent, that counts as near.
NEAR = 1e-5
DATA = Path(os.environ.get("DSPA_DATA", "../shared/data"))


def states(dspa: dn.DSPA, hf: Any, triple: TokenisedTriple) -> dict[str, tuple[Any, torch.Tensor]]:
    """Encoder and hidden states [tokens, d_model] of each table of a triple, from three passes."""
    encoded = {}
    layers = dspa.input_layer + 1, dspa.output_layer + 1
    with torch.no_grad():
        out = hf(triple.prompt.prompt_ids[None].to(hf.device), output_hidden_states=True)
        prompt = out.hidden_states[layers[0]][0][triple.prompt.counted("content")]
        encoded["content"] = dspa.input_sae.encoder, prompt
        for name, end in (("chosen", triple.chosen), ("rejected", triple.rejected)):
            out = hf(end.ids[None].to(hf.device), output_hidden_states=True)
            response = out.hidden_states[layers[1]][0, end.prompt_length :]
            encoded[name] = dspa.output_sae.encoder, response
    return encoded


def plain(dspa: dn.DSPA, hf: Any, tokenised: list[TokenisedTriple]) -> list[dict[str, np.ndarray]]:
    """Counts of every triple, from three passes each."""
    return [
        {
            name: (encoder.encode(hidden)[0] > 0).sum(0).cpu().numpy()
            for name, (encoder, hidden) in states(dspa, hf, triple).items()
        }
        for triple in tokenised
    ]


def lengths_of(tokenised: list[TokenisedTriple]) -> list[tuple[int, int, int]]:
    """Tokens of prompt, chosen and rejected, for each triple."""
    ends = [(triple.chosen.response_ids, triple.rejected.response_ids) for triple in tokenised]
    return [
        (triple.prompt.prompt_length, len(one), len(two))
        for triple, (one, two) in zip(tokenised, ends, strict=True)
    ]


@contextmanager
def watched() -> Iterator[list[tuple[Any, torch.Tensor, torch.Tensor]]]:
    """Record (encoder, rows of the table, active latents) of all tokens that are counted."""
    seen: list[tuple[Any, torch.Tensor, torch.Tensor]] = []

    def count_active(encoder: Any, hidden: Any, target: Any, size: int) -> torch.Tensor:
        latents, _ = encoder.encode(hidden[target >= 0])
        seen.append((encoder, target[target >= 0], latents > 0))
        return active.count_active(encoder, hidden, target, size)

    count.count_active = count_active
    try:
        yield seen
    finally:
        count.count_active = active.count_active


def by_ours(
    dspa: dn.DSPA, triples: Any
) -> Iterator[tuple[TokenisedTriple, dict[str, torch.Tensor]]]:
    """Every triple with the latents active on its tokens, bool [tokens, width] per table."""
    run = CountRun(dspa, triples)
    encoders = dspa.input_sae.encoder, dspa.output_sae.encoder
    paths = [f"{dspa.model.path}.{path}" for path in dspa.paths]
    for positions in run.batches:
        batch = [run.tokenised[position] for position in positions]
        with watched() as seen:
            counter = count.Counter([(encoders[0], paths[0])], [(encoders[1], paths[1])])
            run_batch(dspa.model, counter, batch, TOKEN_BUDGET)
        for index, triple in enumerate(batch):
            wanted = {
                "content": (encoders[0], 2 * index),
                "chosen": (encoders[1], index),
                "rejected": (encoders[1], len(batch) + index),
            }
            yield (
                triple,
                {
                    name: torch.cat([a[t == row] for used, t, a in seen if used is encoder])
                    for name, (encoder, row) in wanted.items()
                },
            )


def flips(dspa: dn.DSPA, hf: Any, triples: Any) -> list[dict[str, Any]]:
    """Compare both ways token by token and latent by latent.

    Both SAEs are TopK: a latent can only flip where the last one in and the first one out differ
    by less than the order of float sums changes them.
    """
    rows = {
        name: {
            "table": name,
            "triples": 0,
            "tokens": 0,
            "active (token, latent) pairs": 0,
            "flipped": 0,
            f"tokens with a gap below {NEAR:.0e}": 0,
            "largest gap with a flip": 0.0,
        }
        for name in ("content", "chosen", "rejected")
    }
    for triple, ours in by_ours(dspa, triples):
        for name, (encoder, hidden) in states(dspa, hf, triple).items():
            wanted, gap = (encoder.encode(hidden)[0] > 0).cpu(), gaps(encoder, hidden)
            flipped = wanted != ours[name].cpu()
            for key, value in zip(
                list(rows[name])[1:6],
                (1, len(hidden), wanted.sum(), flipped.sum(), (gap < NEAR).sum()),
                strict=True,
            ):
                rows[name][key] += int(value)
            where = gap[flipped.any(-1)]
            largest = float(where.max()) if len(where) else 0.0
            rows[name]["largest gap with a flip"] = max(
                rows[name]["largest gap with a flip"], largest
            )
    return list(rows.values())


def gaps(encoder: Any, hidden: torch.Tensor) -> torch.Tensor:
    """Between the last latent in and the first out, as a share of the token's strongest."""
    tensors, k = encoder.tensors, encoder.rule["k"]
    centred = hidden - tensors["b_dec"] if encoder.rule["apply_b_dec_to_input"] else hidden
    top = (centred @ tensors["W_enc"] + tensors["b_enc"]).topk(k + 1, dim=-1).values
    return ((top[:, k - 1] - top[:, k]) / top[:, 0]).cpu()


def extend(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="torch threads")
    parser.add_argument("--groups", type=int, help="groups of triples to time")
    parser.add_argument("--size", type=int, help="triples to a group")
    parser.add_argument("--compared", type=int, help="triples whose counts are compared")


def measure(dspa: dn.DSPA, hf: Any, triples: Any, groups: int, size: int) -> tuple[list[Any], int]:
    """Time plain against ours, group by group; return the table and the tokens of all groups."""
    config = hf.config
    tokenised, _ = prepare(triples, dspa.facts.tokenizer, config.max_position_embeddings, "error")
    shape = {
        "input_layer": dspa.input_layer,
        "output_layer": dspa.output_layer,
        "d_in": dspa.input_sae.width,
        "d_out": dspa.output_sae.width,
    }
    times: dict[str, list[float]] = {}
    predicted, tokens = [], 0
    plain(dspa, hf, tokenised[:1])
    for group in range(groups):
        members = slice(group * size, (group + 1) * size)
        lengths = lengths_of(tokenised[members])
        predicted += [speed_up(config, lengths, **shape)]
        tokens += sum(map(sum, lengths))
        once = partial(dspa.count, triples[members], progress=False)
        contenders = {
            "plain": partial(plain, dspa, hf, tokenised[members]),
            "DSPA.count, one triple at a time": partial(once, token_budget=1),
            "DSPA.count, in batches": once,
        }
        order = list(contenders)[:: -1 if group % 2 else 1]
        seconds = run_interleaved({name: contenders[name] for name in order}, 1, warm_up=0)
        for name in contenders:
            times.setdefault(name, []).extend(seconds[name])
    rows = []
    for name, seconds in times.items():
        share = ratio([a / p for a, p in zip(times["plain"], predicted, strict=True)], seconds)
        rows.append(
            {
                "contender": name,
                "tokens/s": tokens / sum(seconds),
                "faster than plain": ratio(times["plain"], seconds),
                "FLOPs predict": float(np.exp(np.mean(np.log(predicted)))),
                "reached of the prediction": share,
            }
        )
    rows[0].update({"FLOPs predict": 1.0, "reached of the prediction": None})
    return rows, tokens


def main() -> None:
    asked = options(__doc__ or "", extend)
    torch.set_num_threads(asked.threads)
    groups, size, compared = (2, 3, 4) if asked.quick else (4, 8, 100)
    groups = groups if asked.groups is None else asked.groups
    size = asked.size or size
    compared = compared if asked.compared is None else asked.compared
    source = DATA / "ultrafeedback" / "triples.jsonl"
    if not source.exists():
        print(f"fit_speed: not run, {source} is not there (DSPA_DATA names the folder)")
        return
    dspa, hf = dn.DSPA.from_preset(PRESET), huggingface()
    triples = dn.load_triples(source, chat=True)[: max(groups * size, compared)]
    tables, notes = {}, []
    if groups * size:
        tables["Time"], tokens = measure(dspa, hf, triples, groups, size)
        notes += [
            f"{groups} groups of {size} triples, {tokens} tokens (prompt, chosen and rejected once "
            "each); tokens/s of every contender are in these.",
            "'one triple at a time' is token_budget=1: no batching, no padding.",
        ]
    if compared:
        tables["Latents of both ways"] = flips(dspa, hf, triples[:compared])
        notes += [
            "Flipped: active one way and not the other. Gap: between the last latent that TopK "
            "keeps and the first that it drops, over the token's strongest; no other token can "
            "flip while float order moves latents by less than half of it, so the tokens below "
            "the stated gap bound what can.",
        ]
    write("fit_speed", "Speed of counting", tables, notes, asked.out)


if __name__ == "__main__":
    main()
