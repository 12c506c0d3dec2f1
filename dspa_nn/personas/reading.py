"""A map or a persona by its path: for whatever takes the one where it takes the other."""

from dspa_nn.files import as_path
from dspa_nn.maps import ConditionalDifferenceMap
from dspa_nn.personas.persona import Persona


def read_map(named: str) -> ConditionalDifferenceMap:
    """Read a map by its folder or hub id, or a persona where a JSON file is named.

    Example:
        >>> map.save("my_map")
        >>> read_map("my_map").shape == map.shape
        True

    Raises:
        FileError: what is missing, damaged, or of another kind.
    """
    if named.endswith(".json") and not as_path(named).is_dir():
        return Persona.load(named)
    return ConditionalDifferenceMap.load(named)
