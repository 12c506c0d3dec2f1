"""How fast steered generation is: against HF's own generate, a hook by hand, and bare nnsight.

    python benchmarks/steer_speed.py [--quick] [--out benchmarks/results]

All contenders run in turns in one process, on the same prompts, greedily, for the same number of
tokens; the figures are ratios of paired runs. The ceiling is what reading the output SAE's encoder
once for every token costs next to the model's own weights.
"""

import time
from collections.abc import Callable
from functools import partial

import torch
from _report import options, ratio, run_interleaved, write
from _steering import Scene

CONTENDERS = ("unsteered", "by_hand", "attached", "in_nnsight", "steered")


def compare(scene: Scene, batch: int, tokens: int, repeats: int) -> list[dict[str, object]]:
    """Time every contender at one batch size; refuse to where the edits are not the same."""
    scene.take(batch)
    runs: dict[str, Callable[[], torch.Tensor]] = {
        name: partial(getattr(scene, name), tokens) for name in CONTENDERS
    }
    wanted = scene.steered(tokens)
    for name in ("by_hand", "attached"):
        if not bool((runs[name]() == wanted).all()):
            raise SystemExit(f"{name} generates other tokens than apply does, so it is no peer")
    seconds = run_interleaved(runs, repeats)
    rows = []
    for name, own in seconds.items():
        rows.append(
            {
                "batch": batch,
                "contender": name,
                "tokens/s": batch * tokens / (sum(own) / len(own)),
                "speed over HF unsteered": ratio(seconds["unsteered"], own),
                "speed over the hook by hand": ratio(seconds["by_hand"], own),
            }
        )
    return rows


def per_step(scene: Scene, batch: int, rounds: int) -> dict[str, object]:
    """Microseconds a step: the model, the edit, and of the edit the encoder."""
    from dspa_nn.graph.apply import begin

    scene.take(batch)
    given = dict.fromkeys(("alpha", "k_prompt", "k_diff", "mode", "prompt_rule"))
    steerer = scene.dspa.steerer(scene.map, given | {"positions": "response"}, None, None)
    prompts = [(own.prompt_ids, own.content) for own in scene.prompts]
    run = begin(steerer, scene.ids, scene.mask.bool(), prompts, None, True)
    layers = scene.dspa.input_layer, scene.dspa.output_layer
    with torch.no_grad():
        out = scene.hf(scene.ids, attention_mask=scene.mask, output_hidden_states=True)
        run.read_prompt(out.hidden_states[layers[0] + 1])
        run.edit(out.hidden_states[layers[1] + 1])
        hidden = out.hidden_states[layers[1] + 1][:, -1:]
        last = scene.ids[:, -1:]
        cache = out.past_key_values
        parts: dict[str, Callable[[], object]] = {
            "encode": lambda: scene.dspa.output_sae.encoder.encode(hidden),
            "edit": lambda: run.edit(hidden),
            "model": lambda: scene.hf(last, past_key_values=cache, use_cache=True),
        }
        taken: dict[str, list[float]] = {name: [] for name in parts}
        for _ in range(rounds):
            for name, part in parts.items():
                start = time.perf_counter()
                part()
                taken[name].append(time.perf_counter() - start)
    middle = {name: sorted(own)[len(own) // 2] * 1e6 for name, own in taken.items()}
    return {
        "batch": batch,
        "model, us a step": middle["model"],
        "edit, us": middle["edit"],
        "of it the encoder, us": middle["encode"],
        "edit / model": middle["edit"] / middle["model"],
    }


def main() -> None:
    asked = options(__doc__ or "")
    tokens, repeats = (32, 3) if asked.quick else (128, 8)
    scene = Scene(8)
    weights = sum(own.nbytes for own in scene.hf.parameters())
    encoder = sum(own.nbytes for own in scene.dspa.output_sae.encoder.tensors.values())
    tables = {"Steered generation": [], "Where a step goes": []}
    for batch in (1, 8):
        tables["Steered generation"] += compare(scene, batch, tokens, repeats)
        tables["Where a step goes"].append(per_step(scene, batch, 20 if asked.quick else 100))
    by = {(row["batch"], row["contender"]): row for row in tables["Steered generation"]}
    over = [
        {
            "batch": batch,
            "nnsight alone, us a step": step(by, batch, "in_nnsight", "unsteered"),
            "steered over nnsight alone, us a step": step(by, batch, "steered", "in_nnsight"),
        }
        for batch in (1, 8)
    ]
    tables["Overhead a step, from mean times"] = over
    notes = [
        f"{tokens} new tokens, greedy, {repeats} repeats in turns; ratios with 95 % intervals.",
        f"Ceiling at batch 1, weights read a token: {weights / (weights + encoder):.3f} (model "
        f"{weights / 1e6:.0f} MB, output encoder {encoder / 1e6:.1f} MB).",
        "by_hand: two forward hooks for this model alone, nothing checked and nothing logged; its "
        "tokens, attach's and apply's are equal.",
    ]
    write("steer_speed", "Speed of steered generation", tables, notes, asked.out)


def step(by: dict, batch: int, one: str, other: str) -> float:
    """Microseconds a step that `one` takes longer than `other`."""
    took = [batch / float(by[batch, name]["tokens/s"]) for name in (one, other)]
    return (took[0] - took[1]) * 1e6


if __name__ == "__main__":
    main()
