"""Scores of prompts under a map, with the checks of what a map is asked with.

The arithmetic is `graph.select`, for maps and for steering alike.
"""

import reprlib
from typing import Any, Protocol, TypeAlias, TypeVar, runtime_checkable

import torch
from torch import Tensor

from dspa_nn.checks import check_choice, check_positive_int
from dspa_nn.errors import MapError
from dspa_nn.graph.select import prompt_weights, scores
from dspa_nn.graph.settings import ALWAYS, DEFAULTS, PROMPT_RULES
from dspa_nn.maps.options import MapGate
from dspa_nn.maps.rows import Array, MapRows
from dspa_nn.shapes import PromptWeights, Scores


@runtime_checkable
class Densifiable(Protocol):
    """Sparse rows of any kind, such as scipy's."""

    def toarray(self) -> Any:
        """As a dense array."""
        ...


PromptCounts: TypeAlias = Array | Densifiable
_T = TypeVar("_T")


class ScoringRows(MapRows):
    """The rows of a map with what the prompt rules need: thresholds, gates and tuned defaults."""

    tau: Tensor | None
    gate_mean: Tensor | None
    gate: MapGate
    defaults: dict[str, Any]

    def weights(
        self,
        prompt_counts: PromptCounts,
        prompt_lengths: Array | None = None,
        *,
        prompt_rule: str | None = None,
        k_prompt: int | None = None,
    ) -> PromptWeights:
        """The weight w of each input latent of a prompt in s = A^T w (docs/method.md 4).

        >>> map = ConditionalDifferenceMap.from_dense(torch.ones(4, 2))
        >>> map.weights(torch.tensor([2, 5, 2, 0]), k_prompt=2)
        tensor([1., 1., 0., 0.], dtype=torch.float64)

        `prompt_counts` [.., d_in] are the counted tokens on which each latent fired,
        `prompt_lengths` [..] the counted tokens, both counted as the map was fitted
        (`prompt_tokens`). "density": 1 for the k_prompt latents of most counts, active ones only,
        ties to the lower index. "gated": 1 where rho >= tau (and rho > 0 if the map's gate is
        "active"). "centred": that less `gate_mean`. A prompt in which no token counts gets zeros.
        """
        rule = self._setting("prompt_rule", prompt_rule, DEFAULTS["prompt_rule"])
        k = self._setting("k_prompt", k_prompt, DEFAULTS["k_prompt"])
        check_rule(rule, k)
        counts = check_counts(prompt_counts, self.shape[0])
        if rule == "density" or self.gate == ALWAYS:
            return prompt_weights(counts, None, rule, k, None, None, self.gate)
        lengths = check_lengths(prompt_lengths, counts, rule)
        if self.tau is None or (rule == "centred" and self.gate_mean is None):
            missing = "tau" if self.tau is None else "mean of the gates"
            raise MapError(
                f"prompt_rule={rule!r} needs the map's {missing}, which this map does not hold; "
                "fit the map from counts, or use prompt_rule='density'."
            )
        return prompt_weights(counts, lengths, rule, k, self.tau, self.gate_mean, self.gate)

    def score(
        self,
        prompt_counts: PromptCounts,
        prompt_lengths: Array | None = None,
        *,
        prompt_rule: str | None = None,
        k_prompt: int | None = None,
    ) -> Scores:
        """s(x) = A^T w before any selection, float64 [.., d_out] (docs/method.md 4.2).

        >>> map = ConditionalDifferenceMap.from_dense(torch.tensor([[0.0, 0.5], [0.25, -0.25]]))
        >>> map.score(torch.tensor([[1, 3], [0, 3]]))
        tensor([[ 0.2500,  0.2500],
                [ 0.2500, -0.2500]], dtype=torch.float64)

        Arguments as in `weights`. Summed in float64 from the stored float32 entries, rows in
        ascending order. Raises `MapError` for a wrong width, or a rule without what it needs.
        """
        weights = self.weights(
            prompt_counts, prompt_lengths, prompt_rule=prompt_rule, k_prompt=k_prompt
        )
        arrays = (self.rows, self.indptr, self.columns, self.values)
        flat = scores(weights.reshape(-1, self.shape[0]), *arrays, self.shape[1])
        return flat.reshape(*weights.shape[:-1], self.shape[1])

    def _setting(self, name: str, given: _T | None, otherwise: _T) -> _T:
        """What was given, else the map's tuned value, else the default."""
        if given is not None:
            return given
        tuned = self.defaults.get(name)
        return otherwise if tuned is None else tuned


def as_tensor(name: str, value: Any, dtype: torch.dtype | None = None) -> Tensor:
    """Numbers as a tensor on the CPU; `MapError` where they are none."""
    try:
        return torch.as_tensor(value, dtype=dtype).detach().cpu()
    except (TypeError, ValueError, OverflowError, RuntimeError):
        raise MapError(
            f"{name} is {reprlib.repr(value)}; expected an array or a tensor of numbers."
        ) from None


def check_counts(counts: PromptCounts, d_in: int) -> Tensor:
    """Prompt counts [.., d_in] as a tensor on the CPU; `MapError` for any other shape or sign."""
    dense = counts.toarray() if isinstance(counts, Densifiable) else counts
    table = as_tensor("prompt_counts", dense)
    if table.ndim < 1 or table.shape[-1] != d_in:
        raise MapError(
            f"prompt_counts has shape {tuple(table.shape)}; expected [.., {d_in}], one count for "
            "each input latent."
        )
    if not bool((table >= 0).all()):
        found = "a negative number" if bool((table < 0).any()) else "NaN"
        raise MapError(f"prompt_counts holds {found}; expected counts of tokens.")
    return table


def check_lengths(lengths: Array | None, counts: Tensor, rule: str) -> Tensor:
    """Prompt lengths [..] that fit the counts [.., d_in]; `MapError` if they are None or do not."""
    if lengths is None:
        raise MapError(
            f"prompt_rule={rule!r} needs densities and prompt_lengths is None; pass the number "
            "of counted tokens of each prompt."
        )
    table = as_tensor("prompt_lengths", lengths)
    if tuple(table.shape) != tuple(counts.shape[:-1]):
        raise MapError(
            f"prompt_lengths has shape {tuple(table.shape)}; expected "
            f"{tuple(counts.shape[:-1])}, one length for each prompt."
        )
    if not bool((counts <= table[..., None]).all()):
        raise MapError(
            "prompt_counts holds a count above its prompt's length; count both over the same "
            "tokens."
        )
    return table


def check_rule(rule: object, k_prompt: object) -> None:
    """Refuse an unknown rule, or a k_prompt that is no positive whole number (`MapError`)."""
    check_choice("prompt_rule", rule, PROMPT_RULES, MapError)
    check_positive_int("k_prompt", k_prompt, MapError)
