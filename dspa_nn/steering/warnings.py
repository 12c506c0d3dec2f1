"""What a run warns of, before it and after it, here and on its way back from NDIF."""

from typing import Any

import torch

from dspa_nn.graph.record import Record, of_rows
from dspa_nn.progress import warn
from dspa_nn.steering.log import EditLog

# A mean move beyond which three answers of four fell apart: docs/method.md 4.4.
LARGEST_SHARE = 0.3


def warn_beforehand(record: Record) -> None:
    """Warn, in one sentence each, of what is known of a run before the model is run."""
    if record.markup is not None and bool(record.markup.any()):
        fitted = record.options.get("fitted", "map")
        warn(
            f"the {fitted} was fitted on the messages' own tokens, but this prompt holds template "
            "markup and every token of it was counted; pass prompt=dspa.render(messages)"
        )
    if record.empty:
        warn(
            f"nothing is planned for rows {record.empty}: their plans hold no output latent; plan "
            "with other settings, or run those prompts without steering"
        )
    if _idle(record):
        warn("nothing was steered: alpha is 0, so every edit leaves its latent as it is")
    if record.training:
        warn(
            "the model generates in training mode, in which dropout makes every run another; call "
            "model.eval() first"
        )
    if record.uncompiled:
        warn(
            "generate was asked to compile the model, and compiled code leaves edits out, so this "
            "run is not compiled; pass disable_compile=True, or leave out compile_config and "
            "cache_implementation"
        )


def remark_on_alpha(alpha: float | None) -> str | None:
    """What there is to be said of an alpha above 1, before a run; None of another.

    Example:
        >>> print(remark_on_alpha(0.5))
        None
        >>> remark_on_alpha(9.0)[:64]
        'alpha is 9: from 1 on an ablated latent falls to 0, so that more'
    """
    if alpha is None or alpha <= 1:
        return None
    return (
        f"alpha is {alpha:g}: from 1 on an ablated latent falls to 0, so that more changes "
        "nothing, and a latent that is raised gains more than the token's strongest has; values up "
        "to 1 are usual"
    )


def _idle(record: Record) -> bool:
    """Whether alpha is 0; a vector that is added has no alpha."""
    return "alpha" in record.options and not any(of_rows(record, "alpha"))


def warn_if_unsteered(record: Record) -> None:
    """Warn, in one sentence each, of a run that was not steered, or not throughout, or too far."""
    warn_of(EditLog(record), record)


def warn_of(log: EditLog, record: Record) -> None:
    """The same for a run whose log may be of another kind."""
    for remark in remarks(log, record):
        warn(remark)


def remarks(log: EditLog, record: Record) -> list[str]:
    """What there is to be said of a run that was not steered, or not throughout, or too far.

    Example:
        >>> with dspa.attach(hf_model, map, alpha=0.0) as edits:
        ...     ids = hf_model.generate(prompt.ids[None], max_new_tokens=4)
        >>> remarks(edits, edits._record)
        []
    """
    said: list[str] = []
    lengths: list[int] = [] if record.lengths is None else record.lengths.tolist()
    empty = [row for row, length in enumerate(lengths) if not length]
    if empty and len(empty) < log.rows:
        said.append(
            f"rows {empty} have no prompt token that counts, so nothing is planned for them"
        )
    reason, missed = log.reason(), log.missed()
    if missed is not None:
        said.append(missed)
    elif reason is not None and not _idle(record) and len(record.empty) < max(log.rows, 1):
        said.append(f"nothing was steered: {reason}")
    if not _anywhere_far(record):
        return said
    broken = _not_finite(record)
    if broken:
        said.append(
            f"the edit of rows {broken} became NaN or infinite after the first pass, so the tokens "
            "after that mean nothing; guard the divisions of an edit of your own, or run the model "
            "in float32"
        )
    far = [row for row, share in enumerate(log.shares_by_row()) if share > LARGEST_SHARE]
    if far:
        said.append(
            f"the residual stream of rows {far} was moved by more than {LARGEST_SHARE:.0%} of its "
            "norm on average, beyond which most answers of the embedded model fell apart; lower "
            "alpha, or k_diff"
        )
    return said


def _anywhere_far(record: Record) -> bool:
    """Whether any token was moved beyond the limit, or by NaN: told at once for all passes."""
    entries = [entry for entry in record.steps if entry is not None]
    if not entries:
        return False
    norms, streams = (
        torch.cat([entry[name].to(entry["norm"].device) for entry in entries], 1)
        for name in ("norm", "stream")
    )
    return not bool((norms <= LARGEST_SHARE * streams).all())


def _not_finite(record: Record) -> list[int]:
    """Rows that an edit moved by NaN or infinity."""
    found: set[int] = set()
    for entry in record.steps:
        if entry is not None:
            rows: Any = torch.nonzero(~entry["norm"].isfinite().all(-1)).flatten()
            found.update(rows.tolist())
    return sorted(found)


def received(state: dict[str, Any]) -> EditLog:
    """Build the log of a run that took place on NDIF, and warn as a local run would have."""
    record = Record(state["options"])
    vars(record).update(state)
    warn_beforehand(record)
    warn_if_unsteered(record)
    return EditLog(record)
