"""Steered generation beside other libraries, each with its nearest edit on the same model.

    python -m benchmarks.peers [--quick] [--peers FOLDER] [--nnterp FOLDER]

None of them does this edit: DSPA plans latents from the prompt. The nearest are an SAE in the
stream whose latents a hook lowers (SAELens), a hook on the residual stream (TransformerLens), and
one dense vector added to it (steering-vectors, nnterp). A library that is not installed is named
with the reason. `--peers` is a folder to import from as well (`pip install --target`). nnterp does
not import beside this nnsight: `--nnterp` is a virtual environment with it and the nnsight it
needs, whose process takes its turns with the others. `make bench` makes both, and the
defaults point to them. Peak memory is measured in a separate process for each.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from copy import deepcopy
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks._report import options, ratio, run_interleaved, write
from benchmarks._steering import Scene, huggingface
from dspa_nn.models import as_local, get_preset, model_path

Run = Callable[[int], Any]
PRESET = "smollm2-135m-instruct"
LAYER = get_preset(PRESET).output_layer


class Given:
    """One prompt, and sixteen latents that are lowered on every token, whatever the prompt.

    DSPA plans as many for each prompt.
    """

    def __init__(self, ids: Any, planned: Any, settings: dict[str, Any]) -> None:
        self.ids, self.planned = torch.tensor(ids), torch.tensor(planned)
        self.mask, self.settings = torch.ones_like(self.ids), settings

    @cached_property
    def hf(self) -> Any:
        """The model, by transformers alone."""
        return huggingface()

    @cached_property
    def sae(self) -> Any:
        """The preset's output SAE, as SAELens loads it."""
        from sae_lens import SAE

        return SAE.load_from_disk(get_preset(PRESET).output_sae)

    def vector(self) -> Tensor:
        """The decoder's directions of the planned latents, summed: [d_model]."""
        return self.sae.W_dec.detach()[self.planned].sum(0)

    def generate(self, tokens: int) -> Tensor:
        """`generate` of transformers, without steering."""
        many = {"max_new_tokens": tokens, "min_new_tokens": tokens}
        return self.hf.generate(self.ids, attention_mask=self.mask, **self.settings | many)


def bridge(given: Given, kind: Any) -> Any:
    """A TransformerLens bridge around a copy, since it rewires the model that it is given."""
    from transformers import AutoTokenizer

    from dspa_nn.models import REPO_ID, model_path

    tokenizer = AutoTokenizer.from_pretrained(model_path(), padding_side="left")
    made = kind.boot_transformers(REPO_ID, hf_model=deepcopy(given.hf), tokenizer=tokenizer)
    return made.eval()


def bridged(model: Any, given: Given, tokens: int) -> Tensor:
    return model.generate(
        given.ids,
        attention_mask=given.mask,
        max_new_tokens=tokens,
        do_sample=False,
        stop_at_eos=False,
        verbose=False,
    )


def sae_lens(given: Given) -> Run:
    """SAETransformerBridge: the output SAE with its error term, the latents lowered."""
    from sae_lens import SAETransformerBridge

    model, sae, planned = bridge(given, SAETransformerBridge), given.sae, given.planned
    sae.use_error_term = True
    model.add_sae(sae)

    def lower(latents: Tensor, hook: Any) -> Tensor:
        latents[..., planned] = (latents[..., planned] - latents.amax(-1, keepdim=True)).clamp(0)
        return latents

    (point,) = [name for name in model.hook_dict if name.endswith("hook_sae_acts_post")]

    def run(tokens: int) -> Tensor:
        with model.hooks(fwd_hooks=[(point, lower)]):
            return bridged(model, given, tokens)

    return run


def transformer_lens(given: Given) -> Run:
    """TransformerBridge: encode, lower the latents and decode what changed, in a hook."""
    from transformer_lens.model_bridge import TransformerBridge

    model, sae, planned = bridge(given, TransformerBridge), given.sae, given.planned
    rows = sae.W_dec.detach()[planned]

    def lower(hidden: Tensor, hook: Any) -> Tensor:
        latents = sae.encode(hidden)
        before = latents[..., planned]
        delta = (before - latents.amax(-1, keepdim=True)).clamp(0) - before
        return hidden + delta @ rows

    def run(tokens: int) -> Tensor:
        with model.hooks(fwd_hooks=[(f"blocks.{LAYER}.hook_out", lower)]):
            return bridged(model, given, tokens)

    return run


def steering_vectors(given: Given) -> Run:
    """steering-vectors: one dense vector at the output layer."""
    from steering_vectors import SteeringVector  # pyright: ignore[reportMissingImports]

    vector = SteeringVector({LAYER: given.vector()}, layer_type="decoder_block")

    def run(tokens: int) -> Tensor:
        with vector.apply(given.hf):
            return given.generate(tokens)

    return run


class Nnterp:
    """nnterp: one dense vector at the output layer, in a process with the nnsight it needs."""

    def __init__(self, given: Given, folder: str | None) -> None:
        if folder is None:
            raise ImportError("no --nnterp environment was given")
        with tempfile.TemporaryDirectory() as scratch:
            told = Path(scratch) / "given.json"
            words = {
                "model": model_path(),
                "ids": given.ids.tolist(),
                "settings": given.settings,
                "layer": LAYER,
                "vector": given.vector().tolist(),
                "threads": torch.get_num_threads(),
            }
            told.write_text(json.dumps(words), encoding="utf-8")
            script = Path(__file__).with_name("_nnterp.py")
            self.process = subprocess.Popen(
                [f"{folder}/bin/python", str(script), str(told)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            if self.ask("0") != "ready":
                assert self.process.stderr is not None
                lines = self.process.stderr.read().strip().splitlines()
                raise ImportError(lines[-1] if lines else "no answer")

    def ask(self, words: str) -> str:
        """Send a line, and wait for one."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{words}\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().strip()

    def __call__(self, tokens: int) -> None:
        """Generate there, and wait."""
        if self.ask(str(tokens)) != "done":
            raise RuntimeError("nnterp's process has ended")

    def peak(self) -> float:
        """Peak memory in MB, and the end of the process."""
        megabytes = float(self.ask("peak"))
        self.process.wait()
        return megabytes


PEERS: dict[str, Callable[[Given], Run]] = {
    "HF unsteered": lambda given: given.generate,
    "SAELens SAETransformerBridge": sae_lens,
    "TransformerLens hooks": transformer_lens,
    "steering-vectors": steering_vectors,
}
OURS = {"DSPA, apply": "steered", "DSPA, attach": "attached"}
NNTERP = "nnterp steer"


def peak(name: str, folder: Path, asked: argparse.Namespace) -> float:
    """Peak memory in MB of a process that generates with one contender alone."""
    command = [sys.executable, "-m", "benchmarks.peers", "--alone", name, str(folder)]
    if asked.peers:
        command += ["--peers", asked.peers]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(done.stdout.splitlines()[-1])


def alone(name: str, folder: Path) -> None:
    """Generate with one contender and print this process's peak memory in MB."""
    if name in OURS:
        scene = Scene(1, map=str(folder / "map"))
        # One model in the process, as a user would have.
        scene.hf = as_local(scene.dspa.model)
        getattr(scene, OURS[name])(8)
    else:
        given = Given(**json.loads((folder / "given.json").read_text(encoding="utf-8")))
        PEERS[name](given)(8)
    # Not ru_maxrss, which a child process inherits from its parent.
    lines = Path("/proc/self/status").read_text().splitlines()
    print(next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM")))


def made(name: str) -> str | None:
    """The folder that `make bench` makes in the virtual environment, where it has."""
    folder = Path(sys.prefix) / name
    return str(folder) if folder.is_dir() else None


def extend(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--peers", default=made("peers"), help="a folder to import other libraries from as well"
    )
    parser.add_argument(
        "--nnterp", default=made("nnterp"), help="a virtual environment with nnterp"
    )
    parser.add_argument("--threads", type=int, default=1, help="torch threads")
    parser.add_argument("--repeats", type=int, help="rounds of all contenders")
    parser.add_argument("--alone", nargs=2, help=argparse.SUPPRESS)


def main() -> None:
    asked = options(__doc__ or "", extend)
    torch.set_num_threads(asked.threads)
    if asked.peers:
        sys.path.append(asked.peers)
    if asked.alone:
        alone(asked.alone[0], Path(asked.alone[1]))
        return
    tokens, repeats = (16, 2) if asked.quick else (128, 5)
    repeats = asked.repeats or repeats
    scene = Scene(1)
    planned = [latent for latent, _ in scene.dspa.plan(scene.map, scene.prompts[0]).ablate]
    told = {"ids": scene.ids.tolist(), "planned": planned, "settings": scene.settings(1)}
    given, missing = Given(**told), []
    scene.hf = given.hf
    runs: dict[str, Run] = {}
    for name in [*PEERS, NNTERP]:
        try:
            runs[name] = Nnterp(given, asked.nnterp) if name == NNTERP else PEERS[name](given)
            runs[name](2)
        except ImportError as error:
            missing.append(f"{name}: not run ({type(error).__name__}: {error}).")
            runs.pop(name, None)
    runs |= {name: getattr(scene, way) for name, way in OURS.items()}
    seconds = run_interleaved({name: partial(run, tokens) for name, run in runs.items()}, repeats)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        scene.map.save(folder / "map")
        (folder / "given.json").write_text(json.dumps(told), encoding="utf-8")
        peaks = {
            name: run.peak() if isinstance(run, Nnterp) else peak(name, folder, asked)
            for name, run in runs.items()
        }
    rows = [
        {
            "contender": name,
            "tokens/s": tokens * len(times) / sum(times),
            "speed over HF unsteered": ratio(seconds["HF unsteered"], times),
            "DSPA, apply over it": ratio(times, seconds["DSPA, apply"]),
            "peak memory, MB": peaks[name],
        }
        for name, times in seconds.items()
    ]
    notes = [
        f"{tokens} new tokens, greedy, one prompt, {repeats} repeats in turns.",
        "Peak memory: of a process that does this alone. The bridges run on a copy of the model, "
        "since they rewire it; both are in their figure.",
        *missing,
    ]
    write("peers", "Beside other libraries", rows, notes, asked.out)


if __name__ == "__main__":
    main()
