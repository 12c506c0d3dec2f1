"""A counting pass from the keywords of `count`: which plan the batches, and which run them."""

from collections.abc import Iterable, Mapping
from typing import Any

from dspa_nn.counts import CountedModel, CountRun, kept_date
from dspa_nn.steering.options import PLANNED


def planned_run(
    model: CountedModel, triples: Iterable[Any], options: Mapping[str, Any]
) -> tuple[CountRun, dict[str, Any]]:
    """The planned run over a source, and the keywords that are left for `CountRun.count`.

    >>> run, left = planned_run(dspa, triples, {"token_budget": 512, "progress": False})
    >>> left, len(run.count(**left)) == len(triples)
    ({'progress': False}, True)

    A run that goes on from a checkpoint renders dates as they were when it began.
    """
    planning = {name: value for name, value in options.items() if name in PLANNED}
    left = {name: value for name, value in options.items() if name not in PLANNED}
    run = CountRun(model, triples, **planning, rendered_on=kept_date(options.get("checkpoint")))
    return run, left
