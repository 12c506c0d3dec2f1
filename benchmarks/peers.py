"""Steered generation beside other libraries, each with its nearest edit on the same model.

    python -m benchmarks.peers [--quick] [--out benchmarks/results] [--peers FOLDER]

None of them does this edit: DSPA plans latents from the prompt. The nearest are an SAE in the
stream whose latents a hook lowers (SAELens), a hook on the residual stream (TransformerLens), and
one dense vector added to it (steering-vectors, nnterp). A library that is not installed, or does
not import beside the others, is named with the reason. `--peers` is a folder to import from as well
(`pip install --target`). Peak memory is of a process of its own for each.
"""

import argparse
import subprocess
import sys
from collections.abc import Callable
from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks._report import options, ratio, run_interleaved, write
from benchmarks._steering import Scene

Run = Callable[[int], Any]


def bridge(scene: Scene, kind: Any) -> Any:
    """A TransformerLens bridge around a copy, since it rewires the model that it is given."""
    from dspa_nn import embedded

    made = kind.boot_transformers(
        embedded.REPO_ID, hf_model=deepcopy(scene.hf), tokenizer=scene.tokenizer
    )
    return made.eval()


def bridged(model: Any, scene: Scene, tokens: int) -> Tensor:
    return model.generate(
        scene.ids,
        attention_mask=scene.mask,
        max_new_tokens=tokens,
        do_sample=False,
        stop_at_eos=False,
        verbose=False,
    )


def sae_lens(scene: Scene) -> Run:
    """SAETransformerBridge: the output SAE with its error term, sixteen fixed latents lowered."""
    from sae_lens import SAE, SAETransformerBridge

    from dspa_nn.presets import get_preset

    model = bridge(scene, SAETransformerBridge)
    sae = SAE.load_from_disk(get_preset("smollm2-135m-instruct").output_sae)
    sae.use_error_term = True
    model.add_sae(sae)
    planned = planned_latents(scene)

    def lower(latents: Tensor, hook: Any) -> Tensor:
        latents[..., planned] = (latents[..., planned] - latents.amax(-1, keepdim=True)).clamp(0)
        return latents

    point = f"blocks.{scene.dspa.output_layer}.hook_out.hook_sae_acts_post"
    known = [name for name in model.hook_dict if name.endswith("hook_sae_acts_post")]
    point = point if point in known else known[0]

    def run(tokens: int) -> Tensor:
        with model.hooks(fwd_hooks=[(point, lower)]):
            return bridged(model, scene, tokens)

    return run


def transformer_lens(scene: Scene) -> Run:
    """TransformerBridge: encode, lower sixteen fixed latents and decode, in a hook."""
    from transformer_lens.model_bridge import TransformerBridge

    model = bridge(scene, TransformerBridge)
    encoder, decoder = scene.dspa.output_sae.encoder, scene.dspa.output_sae.decoder
    planned = planned_latents(scene)

    def lower(hidden: Tensor, hook: Any) -> Tensor:
        latents = encoder.encode(hidden)[0]
        own = latents[..., planned]
        delta = (own - latents.amax(-1, keepdim=True)).clamp(0) - own
        return hidden + delta @ decoder[planned]

    point = f"blocks.{scene.dspa.output_layer}.hook_out"

    def run(tokens: int) -> Tensor:
        with model.hooks(fwd_hooks=[(point, lower)]):
            return bridged(model, scene, tokens)

    return run


def steering_vectors(scene: Scene) -> Run:
    """steering-vectors: one dense vector at the output layer."""
    from steering_vectors import SteeringVector  # pyright: ignore[reportMissingImports]

    layer = scene.dspa.output_layer
    vector = SteeringVector({layer: dense(scene)}, layer_type="decoder_block")

    def run(tokens: int) -> Tensor:
        with vector.apply(scene.hf):
            return scene.unsteered(tokens)

    return run


def nnterp(scene: Scene) -> Run:
    """nnterp: one dense vector at the output layer, through nnsight."""
    from nnterp import StandardizedTransformer  # pyright: ignore[reportMissingImports]

    model = StandardizedTransformer(scene.hf, tokenizer=scene.tokenizer)
    vector = dense(scene)

    def run(tokens: int) -> Tensor:
        inputs = {"input_ids": scene.ids, "attention_mask": scene.mask}
        with model.generate(inputs, **scene.settings(tokens)) as tracer:
            with tracer.all():
                model.steer(scene.dspa.output_layer, vector)
            ids = tracer.result.save()
        return ids

    return run


def planned_latents(scene: Scene) -> Tensor:
    """The first prompt's plan: fixed, where ours is each prompt's own."""
    return torch.tensor(
        [latent for latent, _ in scene.dspa.plan(scene.map, scene.prompts[0]).ablate]
    )


def dense(scene: Scene) -> Tensor:
    return scene.dspa.output_sae.decoder[planned_latents(scene)].sum(0)


PEERS: dict[str, Callable[[Scene], Run]] = {
    "SAELens SAETransformerBridge": sae_lens,
    "TransformerLens hooks": transformer_lens,
    "steering-vectors": steering_vectors,
    "nnterp steer": nnterp,
}
OURS = {"HF unsteered": "unsteered", "DSPA, apply": "steered", "DSPA, attach": "attached"}


def contender(name: str, scene: Scene) -> Run:
    return getattr(scene, OURS[name]) if name in OURS else PEERS[name](scene)


def peak(name: str, asked: argparse.Namespace) -> float:
    """Peak memory in MB of a process that generates with one contender alone."""
    command = [sys.executable, __file__, "--alone", name]
    if asked.peers:
        command += ["--peers", asked.peers]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(done.stdout.splitlines()[-1])


def extend(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--peers", help="a folder to import other libraries from as well")
    parser.add_argument("--alone", help=argparse.SUPPRESS)


def main() -> None:
    asked = options(__doc__ or "", extend)
    if asked.peers:
        sys.path.append(asked.peers)
    if asked.alone:
        contender(asked.alone, Scene(1, fit=4))(8)
        # Not ru_maxrss: a child begins with its parent's.
        lines = Path("/proc/self/status").read_text().splitlines()
        print(next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM")))
        return
    tokens, repeats = (16, 2) if asked.quick else (128, 6)
    scene, missing = Scene(1), []
    runs: dict[str, Callable[[], Any]] = {}
    for name in [*OURS, *PEERS]:
        try:
            run = contender(name, scene)
            run(2)
        except ImportError as error:
            missing.append(f"{name}: not run ({type(error).__name__}: {error}).")
            continue
        runs[name] = partial(run, tokens)
    seconds = run_interleaved(runs, repeats)
    rows = [
        {
            "contender": name,
            "tokens/s": tokens * len(own) / sum(own),
            "speed over HF unsteered": ratio(seconds["HF unsteered"], own),
            "DSPA, apply over it": ratio(own, seconds["DSPA, apply"]),
            "peak memory, MB": peak(name, asked),
        }
        for name, own in seconds.items()
    ]
    notes = [
        f"{tokens} new tokens, greedy, one prompt, {repeats} repeats in turns.",
        "The bridges run on a copy of the model, which their peak memory includes.",
        *missing,
    ]
    write("peers", "Beside other libraries", rows, notes, asked.out)


if __name__ == "__main__":
    main()
