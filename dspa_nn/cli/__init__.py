"""The command `dspa`, thin over the library: `app.py` holds it, and a module each command."""

__all__: list[str] = []
