# The names that transformers exports, untyped. Its own `__init__.py` imports every model under
# TYPE_CHECKING, so that pyright would read 2,700 files more, a quarter of its time, for few types.
# Modules of transformers (`transformers.cache_utils`) are read as they are.
from typing import Any

def __getattr__(name: str) -> Any: ...
