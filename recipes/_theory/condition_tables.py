"""Tables."""

from typing import Any

tables: Any = None
