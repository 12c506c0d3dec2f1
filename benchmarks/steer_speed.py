"""How fast steered generation is: against HF's generate, a hook by hand, and bare nnsight.

    python -m benchmarks.steer_speed [--quick] [--batch 1 8] [--threads 1 2]

All contenders run in turns in one process, on the same prompts, greedily, for the same number of
tokens; the figures are ratios of paired runs. The ceiling is what reading the output SAE's encoder
once for every token costs next to the model's weights.
"""

import argparse
import os
import time
from collections.abc import Callable, Sequence
from functools import partial

import torch

from benchmarks._report import options, ratio, run_interleaved, write
from benchmarks._steering import Scene

CONTENDERS = ("unsteered", "by_hand", "attached", "in_nnsight", "steered")


def compare(scene: Scene, tokens: int, repeats: int) -> dict[str, list[float]]:
    """Seconds of every contender; stop where they do not generate the same tokens."""
    runs: dict[str, Callable[[], torch.Tensor]] = {
        name: partial(getattr(scene, name), tokens) for name in CONTENDERS
    }
    wanted = scene.steered(tokens)
    for name in ("by_hand", "attached"):
        if not torch.equal(runs[name](), wanted):
            raise SystemExit(f"{name} generates other tokens than apply does, so it is no peer")
    if not scene.edits.total:
        raise SystemExit("nothing was steered, so there is nothing to time")
    return run_interleaved(runs, repeats)


def speeds(seconds: dict[str, list[float]], tokens: int, **at: int) -> list[dict[str, object]]:
    """One row per contender."""
    return [
        {
            **at,
            "contender": name,
            "tokens/s": at["batch"] * tokens * len(times) / sum(times),
            "speed over HF unsteered": ratio(seconds["unsteered"], times),
            "speed over the hook by hand": ratio(seconds["by_hand"], times),
        }
        for name, times in seconds.items()
    ]


def overhead(seconds: dict[str, list[float]], tokens: int, **at: int) -> dict[str, object]:
    """Microseconds per step that nnsight adds to HF, and steering to each: medians of pairs."""

    def step(one: str, other: str) -> float:
        gaps = sorted(a - b for a, b in zip(seconds[one], seconds[other], strict=True))
        middle = (gaps[(len(gaps) - 1) // 2] + gaps[len(gaps) // 2]) / 2
        return middle / tokens * 1e6

    return {
        **at,
        "nnsight over HF": step("in_nnsight", "unsteered"),
        "apply over nnsight": step("steered", "in_nnsight"),
        "attach over HF": step("attached", "unsteered"),
        "by hand over HF": step("by_hand", "unsteered"),
    }


def per_step(scene: Scene, rounds: int, **at: int) -> dict[str, object]:
    """Microseconds of the parts of a step, each timed right after a pass of the model."""
    from dspa_nn.graph.apply import begin
    from dspa_nn.steering import run_settings

    given, _ = run_settings("apply", {})
    steerer = scene.dspa.steerer(scene.map, given)
    prompts = [(prompt.prompt_ids, prompt.content) for prompt in scene.prompts]
    encoder, taken = scene.dspa.output_sae.encoder, {}
    layers = scene.dspa.input_layer, scene.dspa.output_layer

    def timed(name: str, part: Callable[[], object]) -> object:
        start = time.perf_counter()
        result = part()
        taken.setdefault(name, []).append((time.perf_counter() - start) * 1e6)
        return result

    with torch.no_grad():
        ids, mask = scene.ids.to(scene.hf.device), scene.mask.to(scene.hf.device)
        out = scene.hf(ids, attention_mask=mask, output_hidden_states=True)
        first, second = (out.hidden_states[layer + 1] for layer in layers)
        hidden, last, cache = second[:, -1:].clone(), ids[:, -1:], out.past_key_values
        for _ in range(rounds):
            run = begin(steerer, ids, mask.bool(), prompts, None, True)
            scene.hf(last, past_key_values=cache, use_cache=True)
            timed("prompt", partial(run.read_prompt, first))
            run.edit(second)
            timed("model", partial(scene.hf, last, past_key_values=cache, use_cache=True))
            timed("edit", partial(run.edit, hidden))
            timed("again", partial(run.edit, hidden))
            scene.hf(last, past_key_values=cache, use_cache=True)
            timed("encode", partial(encoder.encode, hidden))
    middle = {name: sorted(times)[len(times) // 2] for name, times in taken.items()}
    return {
        **at,
        "model, per step": middle["model"],
        "edit": middle["edit"],
        "of it encoding": middle["encode"],
        "edit, encoder in the cache": middle["again"],
        "edit / model": middle["edit"] / middle["model"],
        "reading the prompt and planning, once": middle["prompt"],
    }


def extend(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--batch", nargs="+", type=int, default=[1, 8], help="rows to a batch")
    parser.add_argument("--threads", nargs="+", type=int, help="torch threads")
    parser.add_argument("--repeats", type=int, help="rounds of all contenders")
    parser.add_argument("--alone", choices=CONTENDERS, help="run one contender alone: to profile")


def measure(
    scene: Scene, asked: argparse.Namespace, tokens: int
) -> dict[str, Sequence[dict[str, object]]]:
    repeats = 2 if asked.quick else 6
    cores = os.cpu_count() or 1
    speed, steps, over = [], [], []
    for threads in asked.threads or sorted({cores if asked.quick else 1, cores}):
        torch.set_num_threads(threads)
        for batch in asked.batch:
            scene.take(batch)
            at = {"threads": threads, "batch": batch}
            seconds = compare(scene, tokens, asked.repeats or repeats)
            speed += speeds(seconds, tokens, **at)
            over.append(overhead(seconds, tokens, **at))
            steps.append(per_step(scene, 10 if asked.quick else 30, **at))
    return {
        "Steered generation": speed,
        "Overhead, microseconds per step": over,
        "Where a step goes, microseconds": steps,
    }


def main() -> None:
    asked = options(__doc__ or "", extend)
    scene = Scene(max(asked.batch))
    if asked.alone:
        for _ in range(4):
            getattr(scene, asked.alone)(128)
        return
    tokens = 16 if asked.quick else 128
    weights = sum(tensor.nbytes for tensor in scene.hf.parameters())
    encoder = sum(tensor.nbytes for tensor in scene.dspa.output_sae.encoder.tensors.values())
    notes = [
        f"{tokens} new tokens, greedy, contenders in turns; ratios are of "
        "pairs, with 95 % intervals.",
        f"Ceiling at batch 1, weights read per token: {weights / (weights + encoder):.3f} (model "
        f"{weights / 1e6:.0f} MB, output encoder {encoder / 1e6:.1f} MB).",
        "unsteered, by_hand and attached run a model that nnsight has never touched; by_hand is "
        "two forward hooks for this model alone, nothing checked and nothing logged; its tokens, "
        "attach's and apply's are equal.",
        "Overheads are medians over pairs of whole runs, the prompt's pass in them.",
    ]
    write(
        "steer_speed",
        "Speed of steered generation",
        measure(scene, asked, tokens),
        notes,
        asked.out,
    )


if __name__ == "__main__":
    main()
