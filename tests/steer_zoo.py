"""One tiny model, its SAEs and a fitted map, built twice: by `dspa_nn` and by the oracle.

lab = steer_zoo.lab("gemma2", "add")     # cached: tests share it and change nothing in it
ours = steer_zoo.by_nnsight(lab, rows)   # and by_hooks, by_oracle: a `Run` each
"""

import functools
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from dspa_nn import DSPA, DSPAWarning, PreferenceTriple
from dspa_nn.maps import Gate, PromptTokens
from tests import tiny
from tests.oracle import method
from tests.oracle import model as oracle

SETTINGS: dict[str, Any] = {"alpha": 0.5, "k_prompt": 8, "k_diff": 6, "mode": "both"}
STEPS = 6


def pieces(bos: str, messages: list[dict[str, str]]) -> list[tuple[str, bool]]:
    """(text, whether it is content) of a rendered chat, written from the templates by hand."""
    found: list[tuple[str, bool]] = [("<bos>", False)] if bos == "add" else []
    if bos == "markup" and messages[0]["role"] != "system":
        found.append(("<|im_start|>system\nBe kind.<|im_end|>\n", False))
    for message in messages:
        found.append((f"<|im_start|>{message['role']}\n", False))
        found.append((message["content"], True))
        found.append(("<|im_end|>\n", False))
    thinking = "<think>\n\n</think>\n\n" if bos == "none" else ""
    return [*found, ("<|im_start|>assistant\n" + thinking, False)]


def prompt_ids(tok: Any, bos: str, prompt: Any) -> tuple[list[int], list[bool]]:
    """Ids of a prompt and which are content, without `dspa_nn`: docs/method.md 5 on a tokenizer of
    characters, where joining ids and joining text are the same."""
    if isinstance(prompt, str):
        ids = tok(prompt).input_ids
        return ids, [True] * len(ids)
    ids, content = [], []
    for text, inside in pieces(bos, prompt):
        own = tok(text, add_special_tokens=False).input_ids
        ids += own
        content += [inside] * len(own)
    return ids, content


@dataclass
class Lab:
    """A model with everything that steering it needs, ours and the oracle's."""

    hf: Any
    tok: Any
    nn: Any
    sae_in: Any
    sae_out: Any
    layers: tuple[int, int]
    bos: str
    dspa: DSPA
    triples: list[PreferenceTriple]
    counts: Any
    map: Any
    oracle_counts: list[method.TripleCounts]
    oracle_map: method.FittedMap
    prompt_tokens: str

    def prompts(self, count: int = 4, *, chat: bool = False) -> list[Any]:
        """Prompts that the map was not fitted on, of different lengths."""
        return [own["prompt"] for own in tiny.triples(count, chat=chat, seed=9)]

    def ids(self, prompt: Any) -> list[int]:
        return prompt_ids(self.tok, self.bos, prompt)[0]


@functools.cache
def lab(
    family: str = "llama",
    bos: tiny.BosStyle = "add",
    kind: str = "topk",
    *,
    chat: bool = False,
    prompt_tokens: PromptTokens = "content",
    layers: tuple[int, int] = (tiny.LAYER_IN, tiny.LAYER_OUT),
    normalise: str = "none",
    gate: Gate = "active",
    percentile: int = 50,
    k_diff: int = 6,
) -> Lab:
    """Build one; every test module of a session shares it."""
    hf, tok = tiny.model(family), tiny.tokenizer(bos)
    sae_in, sae_out = tiny.saes(
        hf, kind, layer_in=layers[0], layer_out=layers[1], normalise=normalise
    )
    nn = tiny.nnsight_model(hf, tok)
    dspa = DSPA(
        nn, input_sae=sae_in, output_sae=sae_out, input_layer=layers[0], output_layer=layers[1]
    )
    triples = [PreferenceTriple(**own) for own in tiny.triples(12, chat=chat)]
    counts = dspa.count(triples, token_budget=256, progress=False)
    fitted = counts.fit(
        percentile=percentile, k_diff=k_diff, gate=gate, prompt_tokens=prompt_tokens
    )
    theirs = []
    for own in triples:
        ids, content = prompt_ids(tok, bos, own.prompt)
        ends = [tok(t, add_special_tokens=False).input_ids for t in (own.chosen, own.rejected)]
        theirs.append(
            oracle.count_triple(
                hf, sae_in, sae_out, *layers, ids, ends[0], ends[1], content, tok.bos_token_id
            )
        )
    oracle_map = method.fit_map(
        theirs, percentile=percentile, k_diff=k_diff, gate=gate, prompt_tokens=prompt_tokens
    )
    return Lab(
        hf, tok, nn, sae_in, sae_out, layers, bos, dspa, triples, counts, fitted, theirs,
        oracle_map, prompt_tokens,
    )  # fmt: skip


@dataclass
class Run:
    """A greedy generation: logits [steps, rows, vocabulary], sequences, edits, and the log."""

    logits: torch.Tensor
    ids: torch.Tensor
    edits: list[tuple[int, int, int]]
    values: np.ndarray  # [edits, 2]: before and after
    log: Any = None


def listed(log: Any) -> tuple[list[tuple[int, int, int]], np.ndarray]:
    """Edits by position, row and latent, and their values, whatever order the log has."""
    found = sorted(log, key=lambda edit: (edit.position, edit.row, edit.latent))
    places = [(edit.row, edit.position, edit.latent) for edit in found]
    return places, np.array([[edit.before, edit.after] for edit in found]).reshape(-1, 2)


def padded(lab: Lab, rows: list[list[int]], side: str = "left") -> dict[str, torch.Tensor]:
    """A batch of ids, padded with a token that also occurs as text: the mask alone tells."""
    ids, mask = tiny.pad(rows, tiny.VOCABULARY["a"], side)
    return {"input_ids": ids, "attention_mask": mask}


def asked(changes: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Settings of `apply`, and what is left for `generate`."""
    of_apply = ("alpha", "k_prompt", "k_diff", "mode", "prompt_rule", "positions", "only", "never",
                "prompt", "gate", "score", "select", "edit", "prompt_length")  # fmt: skip
    given = SETTINGS | {key: changes[key] for key in of_apply if key in changes}
    rest = {key: value for key, value in changes.items() if key not in of_apply}
    return given, {"max_new_tokens": STEPS, "do_sample": False, **rest}


def run_of(result: Any, log: Any) -> Run:
    places, values = listed(log)
    return Run(torch.stack(result.logits), result.sequences, places, values, log)


def by_nnsight(lab: Lab, rows: list[list[int]], **changes: Any) -> Run:
    options, call = asked(changes)
    inputs = padded(lab, rows)
    with lab.nn.generate(
        inputs, **call, output_logits=True, return_dict_in_generate=True
    ) as tracer:
        log = lab.dspa.apply(lab.map, **options)
        result = tracer.result.save()
    return run_of(result, log)


def by_hooks(lab: Lab, rows: list[list[int]], **changes: Any) -> Run:
    options, call = asked(changes)
    with lab.dspa.attach(lab.hf, lab.map, **options) as steering:
        result = lab.hf.generate(
            **padded(lab, rows), **call, output_logits=True, return_dict_in_generate=True
        )
    assert len(steering.logs) == 1
    return run_of(result, steering.logs[0])


def plans(lab: Lab, inputs: Any, options: dict[str, Any], contents: Any = None) -> Any:
    """The oracle's plans for a padded batch."""
    ids, mask = inputs["input_ids"], inputs["attention_mask"]
    content = None
    if contents is not None and lab.prompt_tokens == "content":
        content = torch.zeros_like(mask, dtype=torch.bool)
        for row, inside in enumerate(contents):
            real = mask[row].nonzero().flatten()[: len(inside)]
            content[row, real] = torch.tensor(inside)
    names = ("k_prompt", "k_diff", "mode", "prompt_rule", "only", "never")
    return oracle.make_plans(
        lab.oracle_map, lab.hf, lab.sae_in, lab.layers[0], ids, mask, lab.tok.bos_token_id,
        content_mask=content, prompt_length=options.get("prompt_length"),
        **{name: options[name] for name in names if name in options},
    )  # fmt: skip


def by_oracle(lab: Lab, rows: list[list[int]], contents: Any = None, **changes: Any) -> Run:
    options, call = asked(changes)
    inputs = padded(lab, rows)
    got = oracle.steered_generate(
        lab.hf, lab.sae_out, lab.layers[1], plans(lab, inputs, options, contents),
        inputs["input_ids"], inputs["attention_mask"], alpha=options["alpha"],
        max_new_tokens=call["max_new_tokens"], use_cache=call.get("use_cache", True),
        positions=options.get("positions", "response"), bos_id=lab.tok.bos_token_id,
        eos_ids=call.get("eos_token_id", ()), pad_id=call.get("pad_token_id", 0),
    )  # fmt: skip
    places, values = listed(got.edits)
    return Run(got.logits, got.ids, places, values, got)


def deviation(got: torch.Tensor, wanted: torch.Tensor) -> float:
    """Largest difference as a share of the largest |value|."""
    return float((got - wanted).abs().max() / wanted.abs().max())


def assert_equal(got: Run, wanted: Run, tolerance: float = 1e-5) -> None:
    """Logits of every step within the tolerance, the same tokens, the same edits."""
    assert torch.equal(got.ids, wanted.ids)
    assert deviation(got.logits, wanted.logits) <= tolerance
    assert got.edits == wanted.edits
    if got.edits:
        scale = np.abs(wanted.values).max()
        assert np.abs(got.values - wanted.values).max() <= 10 * tolerance * scale


def quiet(call: Any, *args: Any, **changes: Any) -> Any:
    """Call with the toolkit's warnings silenced, where they are not what is tested."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DSPAWarning)
        return call(*args, **changes)


@contextmanager
def oracle_hook(lab: Lab, planned: Any, alpha: float, width: int) -> Iterator[None]:
    """The oracle's edit in a plain hook, whatever decoding loop drives the model.

    The first pass is steered at its last position, later ones throughout, or (without a cache)
    from the prompt's last position on.
    """
    double = oracle.in_float64(lab.sae_out)

    def hook(_module: Any, _inputs: Any, output: Any) -> Any:
        hidden = output[0] if isinstance(output, tuple) else output
        changed = hidden.clone()
        start = width - 1 if hidden.shape[1] >= width and width > 1 else 0
        for row in range(len(hidden)):
            plan = planned[row // (len(hidden) // len(planned))]
            for place in range(start, hidden.shape[1]):
                own = oracle.edited_hidden(lab.sae_out, double, hidden[row, place], plan, alpha)
                changed[row, place] = own[0]
        return (changed, *output[1:]) if isinstance(output, tuple) else changed

    handle = lab.hf.model.layers[lab.layers[1]].register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()


def by_generate(lab: Lab, rows: list[list[int]], **changes: Any) -> Any:
    """transformers' own `generate` under the oracle's hook, in any decoding mode."""
    options, call = asked(changes)
    inputs = padded(lab, rows)
    planned = plans(lab, inputs, options)
    seed = call.pop("seed", 0)
    with oracle_hook(lab, planned, options["alpha"], inputs["input_ids"].shape[1]):
        torch.manual_seed(seed)
        return lab.hf.generate(**inputs, **call)
