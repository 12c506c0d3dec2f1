"""What Inspect's entry point loads: the name of the provider, whose class comes when it is used."""

from contextlib import suppress
from typing import Any

from dspa_nn.imports import untyped


def dspa() -> Any:
    """The class of the provider `dspa`.

    Example:
        >>> dspa()  # doctest: +SKIP
    """
    from dspa_nn.harness.inspect_model import inspect_provider

    return inspect_provider()


with suppress(ImportError):  # without Inspect there is nothing to make it known to
    untyped("inspect_ai.model").modelapi(name="dspa")(dspa)
