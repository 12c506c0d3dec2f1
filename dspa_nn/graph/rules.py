# pyright: basic
"""The four points at which a run can be told what to do: docs/method.md 4.

A gate weighs the prompt's latents, a score makes scores of output latents from these weights, a
selection plans latents by the scores, and an edit moves the planned ones. At each point stands a
`Rule`: a function and the names of what it is given. The paper's own rules are those of this
module; a user's come from `dspa_nn.extensions`, and run in their place by the same calls.
"""

from typing import Any

import torch
from torch import Tensor

from dspa_nn.graph.edit import edit_latents
from dspa_nn.graph.refusals import ExtensionRefusal, refuse
from dspa_nn.graph.select import always, centred, densest, densities, gated, scores, select

KINDS = ("gate", "score", "select", "edit")


class Rule:
    """What is decided at one point of a run, and by what.

    Attributes:
        kind: "gate", "score", "select" or "edit".
        name: what logs call it.
        function: called with what it wants, by name, after `state` where there is one.
        wants: names of what it is given: see `weights_of`, `scores_of`, `choose` and `edited`.
        state: an object that holds what the function needs besides, as tensors; or None.
        foreign: whether it was written outside this module, so that what it returns is looked at.
    """

    def __init__(
        self, kind: str, name: str, function: Any, wants: Any, state: Any = None,
        foreign: bool = True,
    ):  # fmt: skip
        self.kind = kind
        self.name = name
        self.function = function
        self.wants = tuple(wants)
        self.state = state
        self.foreign = foreign

    def __call__(self, given: dict[str, Any]) -> Any:
        """Call the function with what it wants of `given`."""
        wanted = {name: given[name] for name in self.wants}
        first = () if self.state is None else (self.state,)
        try:
            return self.function(*first, **wanted)
        except Exception as error:
            own = type(refuse(ExtensionRefusal, ""))
            if not self.foreign or isinstance(error, (own, torch.cuda.OutOfMemoryError)):
                raise
            held = {} if self.state is None else vars(self.state)
            told = f"raised {type(error).__name__} ({' '.join(str(error).split())})"
            for verb, tensors in (("given", wanted), ("holding", held)):
                sizes = [
                    f"{name} {list(value.shape)}" for name, value in tensors.items()
                    if isinstance(value, Tensor)
                ]  # fmt: skip
                told += f", {verb} {', '.join(sizes)}" if sizes else ""
            raise refused(self, told) from error

    def on(self, device: Any) -> "Rule":
        """The same rule with its tensors on a device."""
        held = {} if self.state is None else vars(self.state)
        far = [
            name for name, value in held.items()
            if isinstance(value, Tensor) and value.device != torch.device(device)
        ]  # fmt: skip
        if not far:
            return self
        kind: Any = type(self.state)
        state = kind.__new__(kind)
        vars(state).update(held, **{name: held[name].to(device) for name in far})
        return Rule(self.kind, self.name, self.function, self.wants, state, self.foreign)

    def same_as(self, other: "Rule") -> bool:
        """Whether both are one function with one state."""
        return self.function is other.function and self.state is other.state


# The paper's, and the two other prompt rules, by the name that `prompt_rule` has for them.
GATES = {
    "density": Rule("gate", "density", densest, ("counts", "k_prompt"), foreign=False),
    "gated": Rule("gate", "gated", gated, ("counts", "lengths", "tau", "gate"), foreign=False),
    "centred": Rule(
        "gate", "centred", centred, ("counts", "lengths", "tau", "gate_mean", "gate"),
        foreign=False,
    ),
}  # fmt: skip
# Of a map of one row that votes for every prompt.
ALWAYS = Rule("gate", "always", always, ("counts", "lengths"), foreign=False)
SCORE = Rule(
    "score", "paper", scores,
    ("weights", "rows", "indptr", "columns", "values", "d_out"), foreign=False,
)  # fmt: skip
SELECT = Rule("select", "paper", select, ("scores", "k_diff", "mode", "allowed"), foreign=False)
EDIT = Rule(
    "edit", "paper", edit_latents, ("latents", "strongest", "signs", "alpha"),
    foreign=False,
)  # fmt: skip


def carried(name: str, methods: dict[str, Any], held: dict[str, Any]) -> Any:
    """An object of a user's small class on the server: what it holds, and its bare methods."""
    kind: Any = type(name, (), methods)
    item = kind.__new__(kind)
    vars(item).update(held)
    return item


def weights_of(
    rule: Rule, arrays: dict[str, Any], counts: Tensor, lengths: Tensor, k_prompt: int
) -> Tensor:
    """What a gate makes of prompts: weights float64 [rows, d_in].

    counts: int32 [rows, d_in], counted tokens on which a latent is active; lengths: int64 [rows].
    """
    given = {
        "counts": counts, "lengths": lengths, "k_prompt": k_prompt,
        "tau": arrays["tau"], "gate_mean": arrays["gate_mean"], "gate": arrays["gate"],
    }  # fmt: skip
    if "densities" in rule.wants:
        given["densities"] = densities(counts, lengths)
    if rule.foreign:
        place_vectors(rule, given, counts.device)
    weights = rule.on(counts.device)(given) if rule.foreign else rule(given)
    return checked(rule, weights, counts.shape) if rule.foreign else weights


def scores_of(rule: Rule, arrays: dict, weights: Tensor, counts: Tensor, lengths: Tensor) -> Tensor:
    """Scores of output latents, float64 [rows, d_out], from the weights of prompt latents."""
    given = {"weights": weights, **arrays}
    if not rule.foreign:
        return rule(given)
    device = arrays["values"].device
    place_vectors(rule, given, device)
    given["weights"] = weights = weights.to(device)
    given["vote"] = Vote(arrays)
    given["counts"], given["lengths"] = counts.to(device), lengths.to(device)
    if "scores" in rule.wants:
        given["scores"] = given["vote"](weights)
    if "densities" in rule.wants:
        given["densities"] = densities(given["counts"], given["lengths"])
    return checked(rule, rule.on(device)(given), (len(weights), arrays["d_out"]))


def place_vectors(rule: Rule, given: dict[str, Any], device: Any) -> None:
    """Put a map's vectors on a device, or refuse where it does not hold what a rule asks for."""
    for name in ("tau", "gate_mean"):
        if name in rule.wants:
            if given[name] is None:
                raise refused(
                    rule, f"asks for {name}, which this map does not hold; fit the map from counts"
                )
            given[name] = given[name].to(device)


class Vote:
    """A^T w of a map: float64 [rows, d_in] -> float64 [rows, d_out]."""

    def __init__(self, arrays: dict):
        self.arrays = arrays

    def __call__(self, weights: Tensor) -> Tensor:
        """The scores that these weights give, summed as the paper's rule sums them."""
        return SCORE({"weights": weights, **self.arrays})


def choose(record: Any, options: Any, rule: Rule = SELECT) -> tuple[Tensor, Tensor]:
    """Latents to augment and to ablate, from the scores of a record: int64 [rows, k] each."""
    allowed, total = options["allowed"], record.scores
    given = {
        "scores": total, "k_diff": options["k_diff"], "mode": options["mode"], "allowed": allowed,
        "counts": record.counts, "lengths": record.lengths,
    }  # fmt: skip
    if not rule.foreign:
        return rule(given)
    if allowed is not None:
        allowed = given["allowed"] = allowed.to(total.device)
        if "allowed" not in rule.wants:
            given["scores"] = total.masked_fill(~allowed, 0.0)
    chosen = rule.on(total.device)(given)
    if not isinstance(chosen, tuple) or len(chosen) != 2:
        raise refused(rule, "returned no pair of latents to augment and latents to ablate")
    augment = checked_latents(rule, chosen[0], total, allowed)
    ablate = checked_latents(rule, chosen[1], total, allowed)
    twice = planned_twice(augment, ablate)
    if twice is not None:
        raise refused(rule, f"planned latent {twice} twice for one prompt, and each moves once")
    return augment, ablate


class Decode:
    """What a change of the planned latents adds to the residual stream.

    Attributes:
        rows: [rows, k, d_model], the decoder's rows of the planned latents.
        scale: [rows, positions, 1] of a decoded change, or None.
    """

    def __init__(self, rows: Tensor, scale: Any):
        self.rows = rows
        self.scale = scale

    def __call__(self, change: Tensor) -> Tensor:
        """[rows, positions, k] -> [rows, positions, d_model]."""
        decoded = torch.bmm(change, self.rows)
        return decoded if self.scale is None else decoded * self.scale


def moved(rule: Rule, given: dict[str, Any], first: bool) -> tuple[Tensor, Any]:
    """Planned latents after the edit [rows, positions, k], and the stream's change or None.

    Without a change of the stream's own, the change of the latents is decoded. first: the run's
    first pass, whose result is looked at; later ones would make a GPU wait.
    """
    if not rule.foreign:
        return rule(given), None
    after: Any = rule(given)
    before, change = given["latents"], None
    if isinstance(after, tuple):
        after, change = after[0], after[1] if len(after) == 2 else after
    if first:
        checked(rule, after, before.shape, before.dtype)
        if change is not None:
            checked(rule, change, given["hidden"].shape)
    # A column that only pads a shorter plan stands for no latent.
    return torch.where(given["signs"] != 0, after, before), change


def checked(rule: Rule, value: Any, shape: Any, dtype: Any = None) -> Tensor:
    """A result of a foreign rule, or a refusal where it is of another shape or not finite."""
    if not isinstance(value, Tensor) or value.shape != torch.Size(shape):
        found = list(value.shape) if isinstance(value, Tensor) else type(value).__name__
        raise refused(rule, f"returned {found}, and must return a tensor of shape {list(shape)}")
    if rule.kind in ("gate", "score"):
        dtype = torch.float64
    if dtype is not None and value.dtype != dtype:
        raise refused(rule, f"returned {value.dtype}, and must return {dtype}")
    if not bool(torch.isfinite(value).all()):
        row = int(torch.nonzero(~torch.isfinite(value))[0, 0])
        raise refused(
            rule,
            f"returned NaN or infinity for row {row}, by which nothing can be steered; guard its "
            "divisions, roots and logarithms",
        )
    return value


def checked_latents(rule: Rule, latents: Any, total: Tensor, allowed: Any) -> Tensor:
    """Planned latents int64 [rows, k] without those that are barred, or a refusal."""
    rows, d_out = total.shape
    if (
        not isinstance(latents, Tensor)
        or latents.dtype != torch.int64
        or latents.dim() != 2
        or len(latents) != rows
    ):
        found = (
            f"{latents.dtype} of shape {list(latents.shape)}"
            if isinstance(latents, Tensor) else type(latents).__name__
        )  # fmt: skip
        raise refused(rule, f"returned {found}, and must return int64 latents [{rows}, k]")
    if latents.numel():
        outside = latents[(latents < -1) | (latents >= d_out)]
        if len(outside):
            raise refused(
                rule,
                f"planned latent {int(outside[0])}, and the output SAE has latents 0 to "
                f"{d_out - 1} (-1 pads a row)",
            )
        if allowed is not None:
            barred = (latents >= 0) & ~allowed[latents.clamp(min=0)]
            latents = torch.where(barred, -1, latents)
    return latents


def planned_twice(augment: Tensor, ablate: Tensor) -> Any:
    """A latent that stands twice in one row's plan, as an int, or None.

    >>> planned_twice(torch.tensor([[3, 5]]), torch.tensor([[5, -1]]))
    5
    """
    order = torch.cat([augment, ablate], 1).sort(1).values
    again = order[:, 1:][(order[:, 1:] == order[:, :-1]) & (order[:, 1:] >= 0)]
    return int(again[0]) if len(again) else None


def refused(rule: Rule, text: str) -> Exception:
    """What is raised where a foreign rule cannot be used: an `ExtensionError`."""
    return refuse(ExtensionRefusal, f"the {rule.kind} {rule.name} {text}")
