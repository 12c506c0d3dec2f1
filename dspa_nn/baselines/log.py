"""VectorLog: how far a dense vector moved the residual stream, and which prompts it left alone."""

from collections.abc import Iterator
from typing import Any

from jaxtyping import Bool, Float64
from torch import Tensor

from dspa_nn.graph.record import Record
from dspa_nn.graph.vectors import ARRIVES
from dspa_nn.shipping import Reduced, reduce_log
from dspa_nn.steering import Edit, EditLog, warn_beforehand, warn_of


class VectorLog(EditLog):
    """The record of a run in which a vector was added, read as an `EditLog`.

    Example:
        >>> with vector_method.steering([prompt]) as log:
        ...     ids = hf_model.generate(prompt.ids[None], max_new_tokens=3)
        >>> log.moved, log.total
        (3, 0)

    No latent is edited, so it lists no edits and `total` is 0; `norms`, `shares` and `tokens` tell
    of the change as they do for DSPA. It is true where any token was moved.
    """

    @property
    def options(self) -> dict[str, Any]:
        """The settings that were in force."""
        return {name: self._record.options[name] for name in ("scale", "positions")}

    @property
    def rows(self) -> int:
        """Rows of the run's batch; 0 until the model has run past the steered layer."""
        return len(self._record.mask) if self._record.steps else 0

    @property
    def similarity(self) -> Float64[Tensor, " rows"] | None:
        """Of each prompt to the condition, or None where every prompt is steered."""
        return self._attribute("similarity")

    @property
    def opened(self) -> Bool[Tensor, " rows"] | None:
        """Which prompts are steered; None until that is known."""
        return self._attribute("opened")

    def _attribute(self, name: str) -> Any:
        return getattr(self._record, name, None)

    @property
    def moved(self) -> int:
        """Steered tokens, over all rows, whose hidden state was changed."""
        return sum(int(((one.norm > 0) & one.steered).sum()) for one in self.passes())

    def __iter__(self) -> Iterator[Edit]:
        return iter(())

    def __bool__(self) -> bool:
        return self.moved > 0

    def reason(self) -> str | None:
        """Say why nothing was moved, in one sentence, or return None where something was."""
        if not self._record.steps:
            return "the run ended before the steered layer was reached"
        if self:
            return None
        opened = self.opened
        if opened is not None and not bool(opened.any()):
            return "the condition holds for none of the prompts"
        return "the vector times its scale is 0, so every token stays as it is"

    def as_shipped(self) -> Reduced:
        """Return what is pickled in its place for NDIF."""
        return reduce_log(self, self._record, home=ARRIVES)

    def __str__(self) -> str:
        if not self._record.steps:
            return "VectorLog: the model has not run yet"
        settings = ", ".join(f"{name} {value}" for name, value in self.options.items())
        lines = [f"VectorLog: {self.moved} of {self.tokens} tokens of {self.rows} row(s) moved "
                 f"({settings})"]  # fmt: skip
        opened = self.opened
        if self.similarity is not None and opened is not None:
            lines.append(f"  the condition holds for {int(opened.sum())} of {self.rows} prompts")
        if self:
            shares = self.shares()
            lines.append(
                f"  moved by {float(shares.mean()):.1%} of the residual stream's norm on average, "
                f"at most {float(shares.max()):.1%}"
            )
        else:
            lines.append(f"  nothing was moved: {self.reason()}")
        return "\n".join(lines)

    __repr__ = __str__


def received(state: dict[str, Any]) -> VectorLog:
    """Build the log of a run that took place on NDIF, and warn as a local run would have."""
    record = Record(state["options"])
    vars(record).update(state)
    log = VectorLog(record)
    warn_beforehand(record)
    warn_of(log, record)
    return log
