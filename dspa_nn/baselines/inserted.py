"""Calls of a model whose rows have tokens put in, and whose results have not."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from jaxtyping import Int64
from torch import Tensor

from dspa_nn.errors import SteeringError
from dspa_nn.graph.calls import check_settings, setting_of
from dspa_nn.prompts import Rendered


def place_of(prompt: Rendered) -> int:
    """Where an instruction goes: the first content token, else behind BOS.

    >>> place_of(dspa.render("sun"))
    0
    """
    content: Any = torch.nonzero(prompt.content)
    first = int(content[0]) if len(content) else 0
    return max(first, int(prompt.has_bos))


class Inserted:
    """Calls of a model in which every row has tokens put in, and what comes back has not.

    Args:
        module: the Hugging Face model. prompts: one for each row. own: the tokens to put in.
        positions: whether its forward takes `position_ids`.
    """

    def __init__(
        self,
        module: Any,
        prompts: list[Rendered],
        own: Int64[Tensor, " own"],
        positions: bool,
    ) -> None:
        self.module, self.prompts, self.own, self.positions = module, prompts, own, positions
        self.places = [place_of(prompt) for prompt in prompts]
        self.generating = False
        kind: Any = module.__class__
        # The model's `generate`; whoever puts another in its place before is called in its stead.
        self.go_on: Callable[..., Any] = partial(kind.generate, module)
        self.called: tuple[Int64[Tensor, " rows"], int] | None = None

    def rows(
        self, ids: Int64[Tensor, "rows tokens"], mask: Int64[Tensor, "rows tokens"]
    ) -> tuple[dict[str, Tensor], Int64[Tensor, " rows"]]:
        """The batch with the tokens put in, and where in each row."""
        if len(ids) != len(self.prompts):
            raise SteeringError(
                f"the model was called with {len(ids)} rows for {len(self.prompts)} prompts; give "
                "one a row"
            )
        starts = [int(row.argmax()) for row in mask.long()]
        for number, (prompt, start) in enumerate(zip(self.prompts, starts, strict=True)):
            seen = ids[number, start : start + prompt.prompt_length].cpu()
            if not torch.equal(seen, prompt.prompt_ids):
                raise SteeringError(
                    f"row {number} does not hold the tokens of its prompt; pass prompt.ids to the "
                    "model and the same prompt to steering"
                )
        own, ones = self.own.to(ids.device), torch.ones_like(self.own).to(ids.device)
        at = [start + place for start, place in zip(starts, self.places, strict=True)]
        put = [
            torch.stack(
                [torch.cat([row[:i], new, row[i:]]) for row, i in zip(rows, at, strict=True)]
            )
            for rows, new in ((ids, own), (mask.to(ids.dtype), ones))
        ]
        return {"input_ids": put[0], "attention_mask": put[1]}, torch.tensor(at)

    def before(self, _: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """A single forward begins: put the tokens in."""
        if self.generating:
            return None
        ids = args[0] if args else kwargs.get("input_ids")
        if ids is None:
            raise SteeringError("the model was called without token ids; pass input_ids")
        check_settings(dict[str, Any]().get, kwargs.get("past_key_values"), False)
        mask = kwargs.get("attention_mask")
        inputs, at = self.rows(ids, torch.ones_like(ids) if mask is None else mask)
        self.called = at, ids.shape[1]
        kwargs = {**kwargs, **inputs}
        kwargs.pop("position_ids", None)
        if self.positions:
            counted = inputs["attention_mask"].cumsum(-1) - 1
            kwargs["position_ids"] = counted.clamp(min=0)
        if kwargs.get("logits_to_keep"):
            kwargs["logits_to_keep"] += len(self.own)
        return (), kwargs

    def after(self, _: Any, __: Any, kwargs: dict[str, Any], output: Any) -> Any:
        """It is over: leave out the logits of what was put in."""
        if self.generating or self.called is None:
            return None
        (at, width), self.called = self.called, None
        logits = output.logits
        kept = logits.shape[1] - len(self.own)
        place = torch.arange(width - kept, width)
        # A position behind the insertion lies so much further on; `kept` counts from the right.
        index = place + len(self.own) * (place >= at.unsqueeze(-1)) - (width - kept)
        index = index.to(logits.device).unsqueeze(-1).expand(-1, -1, logits.shape[-1])
        output.logits = logits.gather(1, index)
        return output

    def generate(self, *args: Any, **kwargs: Any) -> Any:
        """`generate` with the tokens put in, and sequences that begin as the rows given did."""
        ids = args[0] if args else kwargs.pop("input_ids", kwargs.pop("inputs", None))
        if ids is None:
            raise SteeringError(
                "generate was called without token ids; pass input_ids, so that the prompt's "
                "tokens can be told apart"
            )
        config = self.module.generation_config

        def setting(key: str) -> Any:
            return setting_of(key, kwargs, config)

        check_settings(setting, kwargs.get("past_key_values"), True)
        mask = kwargs.pop("attention_mask", None)
        inputs, _ = self.rows(ids, torch.ones_like(ids) if mask is None else mask)
        self.generating = True
        try:
            result = self.go_on(*args[1:], **{**kwargs, **inputs})
        finally:
            self.generating = False
        whole = getattr(result, "sequences", result)
        given = ids.repeat_interleave(len(whole) // len(ids), 0)
        said = torch.cat([given, whole[:, ids.shape[1] + len(self.own) :]], 1)
        if whole is result:
            return said
        result.sequences = said
        return result
