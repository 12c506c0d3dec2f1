"""What a layer sweep costs: nine pairs of layers in one run, against the deepest pair alone.

    python -m benchmarks.sweep_speed [--quick] [--out benchmarks/results]

The embedded model with random TopK SAEs as wide as the preset's, at three input and three output
layers. On the same triples, in turns, in one process: `DSPA.count` of the deepest pair; a
`LayerSweep.count` of all; the products of the four encoders that the sweep has besides, by
themselves, on as many tokens; and all that these four do (products, TopK, counting). Seconds are
the process's own (CPU time), since other work on the machine is none of the sweep's.

The triples are UltraFeedback's fitting rows (`DSPA_DATA`), else the demo's.
"""

import argparse
import os
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

import dspa_nn as dn
from benchmarks._report import options, ratio, run_interleaved, write
from dspa_nn.costs import encode_flops, fit_flops
from dspa_nn.counts import CountRun
from dspa_nn.graph.active import count_active
from dspa_nn.models import get_preset, load_model

PRESET = "smollm2-135m-instruct"
INPUTS, OUTPUTS = (6, 9, 12), (18, 24, 27)
DEEPEST = INPUTS[-1], OUTPUTS[-1]
WIDTH, K = 4096, 32
DATA = Path(os.environ.get("DSPA_DATA", "../shared/data"))


def random_sae(layer: int, d_model: int) -> Any:
    """A random TopK SAE, of the preset's width and number of active latents."""
    from sae_lens import TopKSAE, TopKSAEConfig
    from sae_lens.saes.sae import SAEMetadata

    noise = torch.Generator().manual_seed(layer)
    metadata = SAEMetadata(hook_name=f"blocks.{layer}.hook_resid_post")
    sae = TopKSAE(TopKSAEConfig(d_in=d_model, d_sae=WIDTH, k=K, metadata=metadata))
    weights = torch.randn(d_model, WIDTH, generator=noise) / d_model**0.5
    with torch.no_grad():
        sae.W_enc.copy_(weights)
        sae.W_dec.copy_(weights.T)
    return sae


def source() -> Any:
    """Triples to count."""
    path = DATA / "ultrafeedback" / "triples.jsonl"
    return dn.load_triples(path, chat=True)[:400] if path.exists() else dn.demo_triples()


class Besides:
    """The encoders that a sweep runs beside those of the deepest pair, on random hidden states."""

    def __init__(self, sweep: dn.LayerSweep, triples: Any) -> None:
        run = CountRun(sweep, triples)
        inputs, outputs = sweep.readers
        self.encoders = [reader.sae.encoder for reader in (*inputs[:-1], *outputs[:-1])]
        self.passes: list[tuple[Any, torch.Tensor]] = []
        for batch in run.batches:
            members = [run.tokenised[at] for at in batch]
            tokens = sum(len(one.prompt.prompt_ids) for one in members)
            self.passes += [(encoder, self.hidden(tokens)) for encoder in self.encoders[:2]]
            tokens = sum(len(end.response_ids) for one in members for end in one.ends)
            self.passes += [(encoder, self.hidden(tokens)) for encoder in self.encoders[2:]]

    def hidden(self, tokens: int) -> torch.Tensor:
        """Random hidden states, [1, tokens, d_model]."""
        return torch.randn(1, tokens, self.encoders[0].d_model)

    def multiply(self) -> None:
        """The products alone."""
        for encoder, hidden in self.passes:
            torch.mm(hidden[0], encoder.tensors["W_enc"])

    def count(self) -> None:
        """Encode, and count what is active."""
        for encoder, hidden in self.passes:
            target = torch.arange(hidden.shape[1]).remainder(8)[None]
            count_active(encoder, hidden, target, 8)

    @property
    def flops(self) -> int:
        """FLOPs of their products."""
        return sum(
            encode_flops(hidden.shape[2], encoder.width) * hidden.shape[1]
            for encoder, hidden in self.passes
        )


def flops_of_pair(dspa: dn.DSPA, config: Any, triples: Any) -> int:
    tokenised = CountRun(dspa, triples).tokenised
    lengths = [
        (one.prompt.prompt_length, *(len(end.response_ids) for end in one.ends))
        for one in tokenised
    ]
    return fit_flops(
        config, lengths, input_layer=dspa.input_layer, output_layer=dspa.output_layer,
        d_in=WIDTH, d_out=WIDTH,
    ).total  # fmt: skip


def extend(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--groups", type=int, help="groups of triples")
    parser.add_argument("--size", type=int, help="triples to a group")


def main() -> None:
    asked = options(__doc__ or "", extend)
    groups, size = asked.groups or (2 if asked.quick else 12), asked.size or 4
    model = load_model(get_preset(PRESET))
    config: Any = get_preset(PRESET).config
    saes = {layer: random_sae(layer, config.hidden_size) for layer in (*INPUTS, *OUTPUTS)}
    inputs, outputs = ({at: saes[at] for at in layers} for layers in (INPUTS, OUTPUTS))
    sweep = dn.LayerSweep(model, input_saes=inputs, output_saes=outputs)
    deepest = sweep.dspa(*DEEPEST)
    triples = source()
    times: dict[str, list[float]] = {}
    predicted: list[float] = []
    for group in range(groups + 1):  # the first one warms up
        members = triples[group * size : (group + 1) * size]
        besides = Besides(sweep, members)
        contenders = {
            "the deepest pair alone": partial(deepest.count, members, progress=False),
            "the sweep, nine pairs": partial(sweep.count, members, progress=False),
            "products of its other encoders": besides.multiply,
            "all of its other encoders": besides.count,
        }
        order = list(contenders)[:: -1 if group % 2 else 1]
        seconds = run_interleaved(
            {name: contenders[name] for name in order}, 1, warm_up=0, clock=time.process_time
        )
        if group == 0:
            continue
        print(
            f"group {group} of {groups}",
            {k: round(s[0], 2) for k, s in seconds.items()},
            flush=True,
        )
        predicted.append(1 + besides.flops / flops_of_pair(deepest, config, members))
        for name in contenders:
            times.setdefault(name, []).extend(seconds[name])
        for pair in ((INPUTS[0], OUTPUTS[0]), DEEPEST) if group == 1 else ():
            alone = sweep.dspa(*pair).count(members, progress=False)
            for name in ("content", "chosen", "rejected"):
                of_sweep: Any = getattr(sweep.counts(*pair), name)
                assert (getattr(alone, name) != of_sweep).nnz == 0, f"counts of {pair} differ"
    alone, swept, products, others = times.values()
    for name, besides_it in (("products", products), ("encoders", others)):
        less = [all_of_it - part for all_of_it, part in zip(swept, besides_it, strict=True)]
        times[f"the sweep less those {name}"] = less
    rows = [
        {"": name, "CPU seconds": sum(taken), "over the deepest pair": ratio(taken, alone)}
        for name, taken in times.items()
    ]
    notes = [
        f"{groups} groups of {size} triples; input layers {INPUTS}, output layers {OUTPUTS}, "
        f"{WIDTH:,} latents each, {K} active on a token.",
        f"Counted FLOPs of the sweep are {np.mean(predicted):.4f} times those of the deepest pair.",
        "Other encoders: the four that the deepest pair does not run.",
    ]
    write("sweep_speed", "What a layer sweep costs", rows, notes, asked.out)


if __name__ == "__main__":
    main()
