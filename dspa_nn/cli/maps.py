"""What a command's MAP is: the folder or hub id of a map, or the JSON file of a persona."""

from dspa_nn.files import as_path
from dspa_nn.maps import ConditionalDifferenceMap


def read_map(named: str) -> ConditionalDifferenceMap:
    """Read a map, or a persona where a JSON file is named.

    Example:
        >>> map.save("my_map")
        >>> read_map("my_map").shape == map.shape
        True

    Raises:
        FileError: what is missing, damaged, or of another kind.
    """
    if named.endswith(".json") and not as_path(named).is_dir():
        from dspa_nn.personas import Persona

        return Persona.load(named)
    return ConditionalDifferenceMap.load(named)
