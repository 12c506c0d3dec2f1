"""Hooks for batches whose rows are steered by different maps and settings, or not at all."""

from collections.abc import Sequence
from typing import Any

import torch

from dspa_nn.errors import SteeringError
from dspa_nn.graph.calls import check_outside_blocks
from dspa_nn.graph.mixed import mixed_steerer
from dspa_nn.graph.record import Record, Steerer
from dspa_nn.maps import ConditionalDifferenceMap
from dspa_nn.prompts import Rendered
from dspa_nn.steering.attaching import hooked_module
from dspa_nn.steering.hooks import Hooks
from dspa_nn.steering.log import EditLog
from dspa_nn.steering.options import SteeringOptions, run_settings
from dspa_nn.steering.pair import ModelAndSAEs
from dspa_nn.steering.warnings import remarks

# What the settings of an unsteered row say.
IDLE: dict[str, Any] = {"alpha": 0, "origin": {}}


def row_steerer(
    dspa: ModelAndSAEs, map: ConditionalDifferenceMap, options: SteeringOptions
) -> Steerer:
    """What steers a row of `MixedRows` by a map and settings; any number of rows may share it.

    Example:
        >>> row_steerer(dspa, map, {"alpha": 0.5}).options["alpha"]
        0.5

    Raises:
        SteeringError: a keyword that `apply` does not take, or a setting out of range.
        MapError: a map of another model or SAE.
    """
    given, chosen = run_settings("row_steerer", options)
    return dspa.steerer(map, given, **chosen)


class MixedRows(Hooks, EditLog):
    """Steer each row of a batch by its own map and settings, in one run of the model.

    Example:
        >>> rows = [row_steerer(dspa, map, {"alpha": 0.5}), None]
        >>> inputs = {"input_ids": torch.stack([prompt.ids] * 2)}
        >>> inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
        >>> with MixedRows(dspa, rows, [prompt, prompt]) as edits:
        ...     ids = hf_model.generate(**inputs, max_new_tokens=4)
        >>> edits.by_row()[1]
        0

    It is the edit log of the run. A row's plan and edits are those of a run of that row alone, but
    for the rounding of floats that any batch brings with it. It warns of nothing: whoever asked
    for a row reads `reason`, `missed` and the row's edits.

    Args:
        dspa: the model and its two SAEs.
        rows: for each row what `row_steerer` returned, or None for an unsteered row.
        prompts: what `render` returned for each row.

    Raises:
        SteeringError: no row that is steered, or another number of rows than prompts; in a run,
            what `DSPA.attach` refuses.
    """

    def __init__(
        self, dspa: ModelAndSAEs, rows: Sequence[Steerer | None], prompts: Sequence[Rendered]
    ) -> None:
        check_outside_blocks("MixedRows")
        if len(rows) != len(prompts) or not any(row is not None for row in rows):
            steered = sum(row is not None for row in rows)
            raise SteeringError(
                f"MixedRows was given {len(rows)} rows, {steered} of them steered, and "
                f"{len(prompts)} prompts; give one prompt a row, and steer at least one row"
            )
        steerer = mixed_steerer(list(rows), IDLE)
        EditLog.__init__(self, Record(steerer.options), dspa.facts.tokenizer)
        Hooks.__init__(
            self,
            hooked_module(dspa.model),
            dspa.paths,
            steerer,
            dspa.prompt_batch,
            {"prompt": list(prompts)},
        )

    def __enter__(self) -> "MixedRows":
        self._hook()
        return self

    def log_of_row(self, row: int, made: Sequence[int]) -> EditLog:
        """The log of one row as if it had been run alone, of the tokens that it has made so far.

        Example:
            >>> inputs = {"input_ids": torch.stack([prompt.ids] * 2)}
            >>> inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
            >>> rows = [row_steerer(dspa, map, {"alpha": 0.5}), None]
            >>> with MixedRows(dspa, rows, [prompt, prompt]) as edits:
            ...     ids = hf_model.generate(**inputs, max_new_tokens=4)
            >>> edits.log_of_row(0, ids[0, -4:].tolist()).steps
            4

        It may be asked for while the run goes on.
        """
        return EditLog(record_of_row(self._record, row, made), self._tokenizer)

    def remarks(self, log: EditLog) -> list[str]:
        """What a run of a row alone would have warned of: no edit at all, or too strong ones.

        log: what `log_of_row` returned.
        """
        return remarks(log, log._record)

    def _log_of(self, record: Record) -> EditLog:
        return EditLog(record, self._tokenizer)

    def _began(self, record: Record) -> None:
        """Warn of nothing."""

    def _ended(self, record: Record) -> None:
        """Warn of nothing."""


def record_of_row(record: Record, row: int, made: Sequence[int]) -> Record:
    """One row of a run's record, without padding, up to the tokens that the row has made.

    Example:
        >>> with dspa.attach(hf_model, map) as edits:
        ...     ids = hf_model.generate(prompt.ids[None], max_new_tokens=4)
        >>> len(record_of_row(edits._record, 0, ids[0, -4:].tolist()).steps)
        4
    """
    own = Record(record.options if record.own is None else record.own[row])
    real = record.mask[row]
    skipped = int((~real).sum())
    prompt = record.ids[row, : len(real)][real]
    own.ids = torch.cat([prompt, torch.tensor(list(made)).to(prompt)])[None]
    own.mask = torch.ones_like(prompt, dtype=torch.bool)[None]
    own.generating, own.made = record.generating, len(made)
    for name in ("prompt_length", "counts", "lengths", "scores", "augment", "ablate", "weights"):
        setattr(own, name, getattr(record, name)[row][None])
    parts = None if record.parts is None else record.parts[row]
    own.parts = None if parts is None else [parts]
    for step, entry in enumerate(record.steps[: len(made)]):
        kept: Any = None
        if entry is not None:
            # The first pass holds the prompt, whose padding on the left is left out.
            cut = 0 if step else max(skipped - entry["start"], 0)
            kept = {
                name: value[row, cut:][None] for name, value in entry.items() if name != "start"
            }
            kept["start"] = entry["start"] if step else max(entry["start"] - skipped, 0)
        own.steps.append(kept)
    return own
