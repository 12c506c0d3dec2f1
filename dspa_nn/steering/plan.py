"""Plan: what would be steered for one prompt, as a person reads it."""

from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float64
from torch import Tensor

from dspa_nn.graph.portable import PortablePlan
from dspa_nn.graph.record import Record
from dspa_nn.saes import told_in_words
from dspa_nn.shipping import Reduced, Shipped, reduce_plan
from dspa_nn.steering.notebook import NOBODY_VOTES, plan_html

if TYPE_CHECKING:
    import pandas

# Latents of each direction that a print says in words.
_IN_WORDS = 5
_PLANNED = ("counts", "lengths", "weights", "scores", "augment", "ablate")


class Plan(Shipped):
    """What would be steered for one prompt.

    Example:
        >>> plan = dspa.plan(map, "Tell me about volcanoes.")
        >>> plan.ablate
        [...]
        >>> with dspa.model.generate("Tell me about volcanoes.", max_new_tokens=4):
        ...     edits = dspa.apply(plan)

    Attributes:
        made: the plan as tensors, with the prompt's ids and the settings in force, which is what
            a run steers by.
    """

    def __init__(self, made: PortablePlan) -> None:
        self.made = made

    @property
    def prompt_latents(self) -> list[tuple[int, int, float]]:
        """`(input latent, counted tokens on which it is active, weight of its vote)`.

        Every latent that votes, strongest first. Of a sum of maps, every latent that votes in any,
        with its weights there times the maps' coefficients, added up. What scores every prompt
        alike, as a persona does, has its scores in the row of latent 0, which then stands here with
        the weight of that map, whether it is active or not.
        """
        weights, counts = self.made.weights, self.made.counts
        votes = torch.nonzero(weights.reshape(-1, len(counts)).any(0)).squeeze(-1)
        if weights.dim() > 1:
            weights = torch.tensor(self.coefficients, dtype=weights.dtype) @ weights
        order = torch.sort(counts[votes], descending=True, stable=True).indices
        return [(int(i), int(counts[i]), float(weights[i])) for i in votes[order]]

    @property
    def augment(self) -> list[tuple[int, float]]:
        """`(output latent, score)` of those raised where they are active, strongest first."""
        return [(int(j), float(self.scores[j])) for j in self.made.augment if j >= 0]

    @property
    def ablate(self) -> list[tuple[int, float]]:
        """The same of those turned down."""
        return [(int(j), float(self.scores[j])) for j in self.made.ablate if j >= 0]

    @property
    def counted_tokens(self) -> int:
        """Prompt tokens that were counted."""
        return int(self.made.lengths)

    @property
    def scores(self) -> Float64[Tensor, " d_out"]:
        """s(x) before any selection (docs/method.md 4.2)."""
        return self.made.scores

    @property
    def settings(self) -> dict[str, Any]:
        """The settings in force, those of a run that could not change it among them."""
        return vars(self.made)["options"]

    @property
    def origin(self) -> dict[str, Any]:
        """What identifies the map's model and SAEs, as in its provenance."""
        return self.settings["origin"]

    @property
    def coefficients(self) -> list[float]:
        """What each map of a sum was multiplied by; of a map alone, 1."""
        if self.made.parts is None:
            return [1.0]
        terms: Any = self.origin["sum"]
        return [float(term["coefficient"]) for term in terms]

    @property
    def alike(self) -> list[bool]:
        """Whether each map of a sum (or the map alone) scores every prompt alike, as personas do.

        Where it does, no input latent has a say.
        """
        return self.settings.get("alike") or [False] * len(self.coefficients)

    @property
    def contributions(self) -> dict[int, list[float]]:
        """What each map of a sum adds to the score of each planned latent, coefficients included.

        The latents are those of `latents`, the maps those of the sum's `terms`, in their order. A
        map alone adds the whole score.
        """
        parts = self.made.parts
        if parts is None:
            return {latent: [score] for latent, score in [*self.augment, *self.ablate]}
        return dict(zip(self.latents, parts.T.tolist(), strict=True))

    def to_pandas(self) -> "pandas.DataFrame":
        """Return one line per planned output latent: its number, direction and score.

        Example:
            >>> plan = dspa.plan(map, "Tell me about volcanoes.")
            >>> plan.to_pandas().columns.tolist()
            ['latent', 'direction', 'score']

        Augmented ones come first, each direction strongest first, as in `latents`. For a sum of
        maps, the columns "map 1", "map 2" and so on hold their `contributions`.
        """
        import pandas

        lines = [(latent, "augment", score) for latent, score in self.augment]
        lines += [(latent, "ablate", score) for latent, score in self.ablate]
        frame = pandas.DataFrame(lines, columns=["latent", "direction", "score"])
        if self.made.parts is not None:
            for number, values in enumerate(self.made.parts.tolist(), 1):
                frame[f"map {number}"] = values
        return frame

    def portable(self) -> PortablePlan:
        """Return what travels in this plan's place."""
        return self.made

    def as_shipped(self) -> Reduced:
        """Return what is pickled in its place for NDIF."""
        return reduce_plan(self)

    @property
    def latents(self) -> list[int]:
        """Output latents that would be edited, augmented ones first."""
        return [latent for latent, _ in [*self.augment, *self.ablate]]

    def __str__(self) -> str:
        votes = self._votes()
        lines = [f"Plan from {self.counted_tokens} prompt tokens", votes]
        for name, chosen in (("augment", self.augment), ("ablate", self.ablate)):
            if chosen:
                text = ", ".join(f"{latent} ({score:+.3f})" for latent, score in chosen)
                lines.append(f"  {name} output latents (score): {text}")
                latents = [latent for latent, _ in chosen]
                lines += self._told_by_map(latents)
                words = told_in_words(self.origin.get("output_sae_sha256"), latents[:_IN_WORDS])
                lines += [] if words is None else [f"    in words: {words}"]
        if not self.latents:
            lines.append("  nothing would be steered")
        return "\n".join(lines)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return plan_html(self)

    def _votes(self) -> str:
        """The line on who votes; maps that score every prompt alike have no voters."""
        alike = self.alike
        if all(alike):
            return f"  {NOBODY_VOTES}"
        voting = self.made.weights.reshape(len(alike), -1)[[not one for one in alike]].any(0)
        voters = [(latent, count) for latent, count, _ in self.prompt_latents if voting[latent]]
        shown = ", ".join(f"{latent} ({count})" for latent, count in voters[:8]) or "none"
        more = f", and {len(voters) - 8} more" if len(voters) > 8 else ""
        same = [f"map {number}" for number, one in enumerate(alike, 1) if one]
        return f"  votes of {len(voters)} input latents (active tokens): {shown}{more}" + (
            f"; {' and '.join(same)}: the same for every prompt" if same else ""
        )

    def _told_by_map(self, latents: list[int]) -> list[str]:
        """A line for each map of a sum: what it adds to the scores of these latents."""
        if self.made.parts is None:
            return []
        contributions = self.contributions
        return [
            f"    of which {coefficient:+g} x map {number + 1}: "
            + ", ".join(f"{contributions[latent][number]:+.3f}" for latent in latents)
            for number, coefficient in enumerate(self.coefficients)
        ]


def plan_of(record: Record, row: int) -> Plan:
    """Take one row's plan from a record."""
    ids = record.ids[row, : record.mask.shape[1]][record.mask[row]]
    planned = {name: getattr(record, name)[row].detach().cpu().clone() for name in _PLANNED}
    own = record.options if record.own is None else record.own[row]
    options = {name: value for name, value in own.items() if name != "allowed"}
    parts = None if record.parts is None else record.parts[row]
    parts = None if parts is None else parts.detach().cpu().clone()
    prompt = ids[: int(record.prompt_length[row])].cpu()
    return Plan(PortablePlan(prompt, **planned, options=options, parts=parts))
