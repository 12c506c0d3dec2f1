"""The embedded model, a fitted map and a batch of prompts, and the same edit written by hand."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM

import dspa_nn as dn
from dspa_nn.models import model_path
from dspa_nn.triples import read_demo_rows, take_demo_rows

PRESET = "smollm2-135m-instruct"


class Scene:
    """What every contender shares: model, SAEs, map, and left-padded prompts of `batch` rows.

    map: a folder that holds a map; None fits one on `fit` triples of the demo.
    """

    def __init__(self, batch: int, fit: int = 60, map: str | None = None) -> None:
        self.dspa = dn.DSPA.from_preset(PRESET)
        self.tokenizer = self.dspa.facts.tokenizer
        rows = read_demo_rows("register")
        self.map = (
            self.dspa.fit([row.triple for row in take_demo_rows(rows, "fit", fit)], progress=False)
            if map is None
            else dn.ConditionalDifferenceMap.load(map)
        )
        held_out = [row.triple.prompt for row in take_demo_rows(rows, "test", None)]
        self.texts = held_out[:batch]
        self.take(batch)

    @cached_property
    def hf(self) -> Any:
        """Another copy of the model, not wrapped by nnsight: what a user without nnsight runs."""
        return huggingface()

    @cached_property
    def table(self) -> Tensor:
        """The map for `by_hand`."""
        return transposed(self.map)

    def take(self, batch: int) -> None:
        """Use this many prompts."""
        self.prompts = [self.dspa.render(text) for text in self.texts[:batch]]
        width = max(len(prompt.ids) for prompt in self.prompts)
        self.ids = torch.zeros(batch, width, dtype=torch.int64)
        self.mask, self.content = torch.zeros_like(self.ids), torch.zeros_like(self.ids)
        for row, prompt in enumerate(self.prompts):
            filled = slice(width - len(prompt.ids), width)
            self.ids[row, filled] = prompt.ids
            self.mask[row, filled] = 1
            self.content[row, filled] = prompt.counted("content").long()

    def settings(self, tokens: int) -> dict[str, Any]:
        """Greedy, and exactly `tokens` new tokens, even if the model ends earlier."""
        return {
            "max_new_tokens": tokens,
            "min_new_tokens": tokens,
            "do_sample": False,
            "pad_token_id": self.tokenizer.pad_token_id,
        }

    def unsteered(self, tokens: int, **more: Any) -> Tensor:
        """HF's generate, without steering."""
        settings = self.settings(tokens) | more
        ids, mask = self.ids.to(self.hf.device), self.mask.to(self.hf.device)
        return self.hf.generate(ids, attention_mask=mask, **settings)

    def in_nnsight(self, tokens: int) -> Tensor:
        """The same call in a trace of nnsight that saves the result and edits nothing."""
        inputs = {"input_ids": self.ids, "attention_mask": self.mask}
        with self.dspa.model.generate(inputs, **self.settings(tokens)) as tracer:
            ids = tracer.result.save()
        return ids

    def steered(self, tokens: int, **more: Any) -> Tensor:
        """DSPA in a trace, as a user writes it."""
        inputs = {"input_ids": self.ids, "attention_mask": self.mask}
        with self.dspa.model.generate(inputs, **self.settings(tokens), **more) as tracer:
            self.edits = self.dspa.apply(self.map, prompt=self.prompts)
            ids = tracer.result.save()
        return ids

    def attached(self, tokens: int) -> Tensor:
        """The same edit through `DSPA.attach`."""
        with self.dspa.attach(self.hf, self.map, prompt=self.prompts):
            return self.unsteered(tokens)

    def by_hand(self, tokens: int) -> Tensor:
        """The same edit by two forward hooks, written for this model alone, with no log."""
        with hand_hooks(self):
            return self.unsteered(tokens)


def huggingface() -> Any:
    """The embedded model by transformers alone."""
    made: Any = AutoModelForCausalLM.from_pretrained(model_path(), dtype=torch.float32)
    # Where nnsight puts the preset's.
    return made.eval().to("cuda" if torch.cuda.is_available() else "cpu")


@contextmanager
def hand_hooks(scene: Scene) -> Iterator[None]:
    """Hooks as a researcher writes them for one experiment: ablation by the "centred" rule.

    Nothing is checked or logged, and the map is a sparse tensor made beforehand.
    """
    dspa, map = scene.dspa, scene.map
    source, target = dspa.input_sae.encoder, dspa.output_sae.encoder
    device = scene.hf.device
    tau, mean, table, content = (
        torch.as_tensor(values).to(device)
        for values in (map.tau, map.gate_mean, scene.table, scene.content)
    )
    alpha, k_diff = float(dspa.defaults["alpha"]), int(dspa.defaults["k_diff"])
    plan: dict[str, Tensor] = {}

    def read(_module: Any, _inputs: Any, output: Any) -> None:
        hidden = output[0] if isinstance(output, tuple) else output
        if hidden.shape[1] == 1:
            return
        active = (source.encode(hidden)[0] > 0) & content.bool().unsqueeze(-1)
        rho = active.sum(1).double() / content.sum(1, keepdim=True).double()
        weights = ((rho >= tau) & (rho > 0)).double() - mean
        score = (table @ weights.T).T
        plan["latents"] = score.sort(stable=True).indices[:, :k_diff]
        plan["rows"] = dspa.output_sae.decoder[plan["latents"]]

    def write(_module: Any, _inputs: Any, output: Any) -> Any:
        hidden = output[0] if isinstance(output, tuple) else output
        last = hidden[:, -1:]
        latents = target.encode(last)[0]
        planned = latents.gather(-1, plan["latents"].unsqueeze(1))
        cut = (planned - alpha * latents.amax(-1, keepdim=True)).clamp(min=0)
        delta = torch.where(planned > 0, cut, planned) - planned
        steered = last + torch.bmm(delta, plan["rows"])
        new = steered if hidden.shape[1] == 1 else torch.cat([hidden[:, :-1], steered], 1)
        return (new, *output[1:]) if isinstance(output, tuple) else new

    blocks = [scene.hf.get_submodule(path) for path in dspa.paths]
    handles = [
        blocks[0].register_forward_hook(read),
        blocks[1].register_forward_hook(write),
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def transposed(map: Any) -> Tensor:
    """A^T as a sparse float64 tensor [d_out, d_in]."""
    arrays = map.portable().arrays
    lengths = arrays["indptr"].diff()
    rows = torch.repeat_interleave(arrays["rows"].long(), lengths.long())
    indices = torch.stack([arrays["columns"].long(), rows])
    size = (map.shape[1], map.shape[0])
    return torch.sparse_coo_tensor(indices, arrays["values"].double(), size).coalesce()
