"""Files on disk: arrays with their description, written whole or not at all."""

from dspa_nn.files.assets import ASSETS
from dspa_nn.files.atomic import write_atomically
from dspa_nn.files.hub import on_disk
from dspa_nn.files.pairs import read_pair, sha256_of_file, sha256_of_json, write_pair
from dspa_nn.files.paths import as_path

__all__ = [
    "ASSETS",
    "as_path",
    "on_disk",
    "read_pair",
    "sha256_of_file",
    "sha256_of_json",
    "write_atomically",
    "write_pair",
]
