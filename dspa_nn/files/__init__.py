"""Files on disk: arrays with their description, written whole or not at all."""

from dspa_nn.files.assets import ASSETS
from dspa_nn.files.atomic import require_file, require_folder, write_atomically
from dspa_nn.files.hub import hub_answers, hub_patience, on_disk, without_waiting
from dspa_nn.files.lines import numbered_lines
from dspa_nn.files.locks import held
from dspa_nn.files.pairs import read_pair, sha256_of_file, sha256_of_json, write_pair
from dspa_nn.files.parts import Parts
from dspa_nn.files.paths import as_path, cache_dir

__all__ = [
    "ASSETS",
    "Parts",
    "as_path",
    "cache_dir",
    "held",
    "hub_answers",
    "hub_patience",
    "numbered_lines",
    "on_disk",
    "read_pair",
    "require_file",
    "require_folder",
    "sha256_of_file",
    "sha256_of_json",
    "without_waiting",
    "write_atomically",
    "write_pair",
]
