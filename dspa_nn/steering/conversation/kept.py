"""What is kept of a conversation from turn to turn: plain keys and values, and active latents.

A steered run leaves keys and values above the output layer that are not those of plain text, from
the last prompt token on. So the tokens before it are run without steering, and after the answer the
cache goes back to them. The next turn's prompt holds the answer as text, and runs it again.
"""

import inspect
from typing import Any, NamedTuple, cast

import torch
from jaxtyping import Bool, Int, Int64
from torch import Tensor

from dspa_nn.counts import shares_prompts
from dspa_nn.graph.active import active_pairs
from dspa_nn.graph.blocks import hidden_states
from dspa_nn.graph.encode import Encoder
from dspa_nn.imports import late

# With these, the keys of earlier tokens depend on how long the whole text is.
_LENGTH_DEPENDENT = ("dynamic", "longrope")


def why_not_kept(model: Any) -> str | None:
    """Why a model's cache cannot be kept from turn to turn, or None where it can.

    >>> why_not_kept(hf_model) is None
    True
    """
    name = type(model).__name__
    if not shares_prompts(model):
        return f"{name} keeps states beside keys and values, which cannot go back to plain text"
    text = model.config.get_text_config()
    if _rope_types(getattr(text, "rope_parameters", None)) & set(_LENGTH_DEPENDENT):
        return f"the position embeddings of {name} change with the length of the whole text"
    return None


def _rope_types(parameters: Any) -> set[str]:
    """Types of position embeddings in a config, which may be one for each kind of layer."""
    if not isinstance(parameters, dict):
        return set()
    known = cast(dict[str, Any], parameters)
    return {str(known.get("rope_type"))}.union(*map(_rope_types, known.values()))


class Mark(NamedTuple):
    """Where a `KeptPrompt` was: its tokens, and the keys and values of its sliding windows."""

    tokens: int
    windows: list[dict[str, Any] | None]


class KeptPrompt:
    """The tokens that a model has read unsteered: its cache, and which input latents are active.

    >>> kept = KeptPrompt(hf_model)
    >>> kept.read(hf_model, dspa.paths[0], dspa.encoders[0], prompt.ids)
    >>> kept.tokens == len(prompt.ids), kept.shared(prompt.ids[:5])
    (True, 5)

    Attributes:
        cache: of transformers' dynamic kind, one row.
        ids: int64 [tokens], what it holds.
    """

    def __init__(self, model: Any) -> None:
        self.cache: Any = late("transformers").DynamicCache(config=model.config)
        self.ids: Int64[Tensor, " tokens"] = torch.zeros(0, dtype=torch.int64)
        # Active pairs: tokens in ascending order, and a latent of each.
        self._token: Int64[Tensor, " active"] = torch.zeros(0, dtype=torch.int64)
        self._latent: Int64[Tensor, " active"] = torch.zeros(0, dtype=torch.int64)
        self._windows: list[dict[str, Any] | None] = self._states_of_windows()

    @property
    def tokens(self) -> int:
        """How many tokens are kept."""
        return len(self.ids)

    def shared(self, ids: Int64[Tensor, " _"]) -> int:
        """How many tokens another prompt begins with that are kept."""
        most = min(self.tokens, len(ids))
        return int((self.ids[:most] == ids[:most]).long().cumprod(0).sum())

    def rewind(self, tokens: int) -> bool:
        """Go back to the first so many tokens, also after a run that was stopped anywhere.

        Returns False where sliding windows have let go of tokens that are needed for it; then
        nothing that is kept is of use any more.
        """
        for layer, state in zip(self.cache.layers, self._windows, strict=True):
            if state is None:
                _cut(layer, tokens)
                continue
            # A window has moved on since then: its keys and values as they were.
            cast(dict[str, Any], vars(layer)).update(state)
            if tokens < self.tokens:
                if layer.cumulative_length > _length(layer):
                    return False
                _cut(layer, tokens)
                layer.cumulative_length = tokens
        self.ids = self.ids[:tokens]
        kept = self._token < tokens
        self._token, self._latent = self._token[kept], self._latent[kept]
        self._windows = self._states_of_windows()
        return True

    def mark(self) -> Mark:
        """Where this is now, for `back_to`."""
        return Mark(self.tokens, self._windows)

    def back_to(self, mark: Mark) -> None:
        """Go back to where this was, also where windows have moved on since then."""
        self.ids, self._windows = self.ids[: mark.tokens], mark.windows
        self.rewind(mark.tokens)

    def read(self, model: Any, path: str, encoder: Encoder, ids: Int64[Tensor, " tokens"]) -> None:
        """Run the model, unsteered, on the tokens that come after those that are kept.

        Args:
            model: a Hugging Face model.
            path: of its input block. encoder: the input SAE's.
            ids: the kept tokens and those after them.
        """
        first, before = self.tokens, self.mark()
        if first == len(ids):
            return
        seen: list[Tensor] = []

        def note(_: Any, __: Any, output: Any) -> None:
            seen.append(hidden_states(output))

        hook = model.get_submodule(path).register_forward_hook(note)
        new = ids[first:].unsqueeze(0).to(model.device)
        few = "logits_to_keep" in inspect.signature(model.forward).parameters
        call: dict[str, Any] = {"logits_to_keep": 1} if few else {}
        try:
            with torch.no_grad():
                model(
                    input_ids=new,
                    attention_mask=new.new_ones(1, len(ids)),
                    past_key_values=self.cache,
                    use_cache=True,
                    **call,
                )
            token, latent = active_pairs(encoder, seen[0][0])
        except BaseException:
            self.back_to(before)
            raise
        finally:
            hook.remove()
        self.ids = ids.clone()
        self._token = torch.cat([self._token, token.cpu() + first])
        self._latent = torch.cat([self._latent, latent.cpu()])
        self._windows = self._states_of_windows()

    def counts(self, counted: Bool[Tensor, " tokens"], width: int) -> Int[Tensor, "one d_in"]:
        """Counted tokens on which each of `width` latents is active."""
        latents = self._latent[counted[self._token]]
        return torch.bincount(latents, minlength=width).to(torch.int32).unsqueeze(0)

    def _states_of_windows(self) -> list[dict[str, Any] | None]:
        """What each sliding window holds now; None for the other layers, which are cut instead.

        Updates put new tensors in place of these, so that nothing is copied.
        """
        return [
            dict(cast(dict[str, Any], vars(layer))) if getattr(layer, "is_sliding", False) else None
            for layer in self.cache.layers
        ]


def _cut(layer: Any, tokens: int) -> None:
    """Keep the first tokens of a layer, of one row: beams repeat it."""
    if _length(layer):
        layer.keys = layer.keys[:1, :, :tokens]
        layer.values = layer.values[:1, :, :tokens]


def _length(layer: Any) -> int:
    """Tokens whose keys a layer of a cache holds."""
    keys = getattr(layer, "keys", None)
    return int(keys.shape[-2]) if torch.is_tensor(keys) and keys.numel() else 0
