"""Single cells of tables: what pandas, numpy, CSV and Parquet make of a text or of messages."""

import ast
import json
from collections.abc import Mapping, Sequence
from typing import Any, cast


def as_cell(value: Any) -> Any:
    """A cell as JSON would hold it: arrays become lists, numpy's scalars Python's, NaN None.

    >>> import numpy as np
    >>> as_cell(np.array([{"role": "user", "content": "Hello"}], dtype=object))
    [{'role': 'user', 'content': 'Hello'}]
    >>> as_cell(float("nan")) is None
    True
    """
    if isinstance(value, str):
        return str(value)  # numpy's strings are of a class of their own
    if isinstance(value, Mapping):
        cells = cast(Mapping[Any, Any], value)
        return {key: as_cell(cells[key]) for key in cells}
    if isinstance(value, float):
        return None if value != value else value
    if type(value).__name__ in ("NAType", "NaTType"):  # pandas, which need not be loaded
        return None
    array: Any = value
    if hasattr(array, "tolist"):
        value = array.tolist()
    if isinstance(value, (list, tuple)):
        return [as_cell(item) for item in cast(Sequence[Any], value)]
    return value


def read_text_cell(text: str) -> Any:
    """A cell of a CSV file: chat messages where it holds them, as JSON or as Python writes.

    >>> read_text_cell('[{"role": "user", "content": "Hello"}]')
    [{'role': 'user', 'content': 'Hello'}]
    >>> read_text_cell("[1] is a citation.")
    '[1] is a citation.'
    """
    if not text.lstrip().startswith("[{"):
        return text
    for read in (json.loads, ast.literal_eval):
        try:
            value: Any = read(text)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
        items = cast(list[Any], value) if isinstance(value, list) else []
        if items and all(isinstance(item, Mapping) and "role" in item for item in items):
            return items
    return text
