"""Lines of a text file, each with its number, for files with one record a line."""

import os

from dspa_nn.errors import DSPAError
from dspa_nn.files.paths import as_path


def numbered_lines(
    path: str | os.PathLike[str], wanted: str, error: type[DSPAError]
) -> list[tuple[str, str]]:
    """The lines that hold anything: where each stands, in words, and its text.

    Example:
        >>> _ = as_path("rows.jsonl").write_text('{"a": 1}')
        >>> numbered_lines("rows.jsonl", "JSON Lines", DSPAError)
        [('rows.jsonl, line 1', '{"a": 1}')]

    They are parted at line feeds alone: other ends of lines may stand inside JSON's strings.

    wanted: what is to be given, in words. error: what is raised where the file cannot be read.
    """
    file = as_path(path)
    try:
        lines = file.read_text(encoding="utf-8").split("\n")
    except (OSError, ValueError) as caught:
        reason = getattr(caught, "strerror", None) or str(caught)
        raise error(f"{file.name} cannot be read ({reason}); give {wanted}") from None
    return [(f"{file.name}, line {n}", line) for n, line in enumerate(lines, 1) if line.strip()]
