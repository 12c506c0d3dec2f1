"""What an edit log says of itself in sentences."""

from collections.abc import Iterable, Mapping
from typing import Any, Protocol, cast, runtime_checkable

from jaxtyping import Float64
from torch import Tensor

from dspa_nn.graph.record import Record, of_rows
from dspa_nn.saes import told_in_words
from dspa_nn.steering.edits import SteeredPass

NOT_RUN = "EditLog: the model has not run yet"
# Latents that a print lists, and those of them that it says in words.
_LISTED, _IN_WORDS = 10, 5


@runtime_checkable
class Tellable(Protocol):
    """An edit log, as far as it is put in words here."""

    @property
    def options(self) -> dict[str, Any]:
        """The settings that were in force."""
        ...

    @property
    def origin(self) -> Mapping[str, Any]:
        """What identifies the model and the SAEs."""
        ...

    @property
    def rows(self) -> int:
        """Rows of the batch."""
        ...

    @property
    def tokens(self) -> int:
        """Steered tokens."""
        ...

    @property
    def total(self) -> int:
        """Number of edits."""
        ...

    def by_latent(self) -> dict[int, int]:
        """How often each latent was edited."""
        ...

    def shares(self) -> Float64[Tensor, " tokens"]:
        """How far each steered token was moved."""
        ...

    def reason(self) -> str | None:
        """Why nothing was edited."""
        ...


def printed(log: Tellable) -> str:
    """The log as it prints itself, a few lines."""
    tokens, total = log.tokens, log.total
    settings = ", ".join(f"{name} {told(value)}" for name, value in log.options.items())
    lines = [f"EditLog: {total} edits on {tokens} tokens of {log.rows} row(s) ({settings})"]
    if not total:
        return "\n".join([*lines, f"  nothing was edited: {log.reason()}"])
    often = log.by_latent()
    listed = ", ".join(f"{latent} ({times})" for latent, times in list(often.items())[:_LISTED])
    lines.append(f"  most edited output latents (times): {listed}")
    words = told_in_words(log.origin.get("output_sae_sha256"), list(often)[:_IN_WORDS])
    if words is not None:
        lines.append(f"  in words: {words}")
    shares = log.shares()
    lines.append(f"  {total / tokens:.2f} edits per token")
    lines.append(
        f"  moved by {float(shares.mean()):.1%} of the residual stream's norm on average, "
        f"at most {float(shares.max()):.1%}"
    )
    return "\n".join(lines)


def told(setting: object) -> str:
    """A setting as a log prints it; the maps of a sum may each have another.

    Example:
        >>> told(0.2), told(("density", "centred"))
        ('0.2', 'density/centred')
    """
    if not isinstance(setting, tuple):
        return str(setting)
    return "/".join(map(str, cast(tuple[object, ...], setting)))


def passes_missed(record: Record, seen: int) -> str | None:
    """Say that passes went unsteered; seen: those that the output layer took part in."""
    made: Any = record.made
    if made is None or made == seen or (record.beams and seen > made):
        return None
    if seen < made:
        return (
            f"the steered layers were seen in {seen} of the {made} passes of this run, and the "
            "others went unsteered; compiled code and replaced layers pass hooks by, so steer "
            "the model as it was loaded, without torch.compile"
        )
    return (
        f"the steered layers were passed {seen} times for {made} new tokens, and every pass "
        "was steered as one of the run's; do not call the model inside a logits processor or "
        "a stopping criterion of the run"
    )


def why_nothing(record: Record, passes: Iterable[SteeredPass]) -> str:
    """Say why nothing was edited in a run in which nothing was."""
    if record.augment is None:
        return "the run ended before the input layer was reached, so nothing was planned"
    if not int(record.lengths.sum()):
        return "no prompt token counts (the prompt is empty or BOS alone), so nothing is planned"
    if not any(of_rows(record, "alpha")):
        return "alpha is 0, so every edit leaves its latent as it is"
    if not int((record.counts > 0).sum()):
        return (
            "no input latent is active on the prompt; check that the input SAE belongs to "
            "this layer and model"
        )
    sums = [own.get("sum") or [{"coefficient": 1}] for own in of_rows(record, "origin")]
    if not any(term["coefficient"] for terms in sums for term in terms):
        return "every map of this sum has the coefficient 0; give one of them another"
    if not bool((record.scores != 0).any()):
        return "no active prompt latent has an entry in the map; fit on more triples"
    if not record.augment.numel() and not record.ablate.numel():
        modes = " and ".join(sorted({f"mode={mode!r}" for mode in of_rows(record, "mode")}))
        return f"no output latent has a score that {modes} could act on"
    if not any(bool((one.strongest > 0).any()) for one in passes):
        return (
            "no output latent at all is active on the steered tokens; check that the output "
            "SAE belongs to this layer and model"
        )
    return "none of the planned latents was active on a steered token"
