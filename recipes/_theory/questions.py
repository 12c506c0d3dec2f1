"""Tables."""

from typing import Any

Judged: Any = None
tables: Any = None
