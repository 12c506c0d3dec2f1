"""Neuronpedia's pages and exports; the samples are written by hand in its layout."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from dspa_nn import FileError
from dspa_nn.audit import explained, neuronpedia_page, read_neuronpedia
from dspa_nn.saes import LatentMeaning

RELEASE = "gemma-scope-2b-pt-res-canonical/layer_20/width_16k/canonical"
SAMPLE: list[dict[str, Any]] = [
    {"modelId": "gemma-2-2b", "layer": "20-gemmascope-res-16k", "index": "7",
     "description": " words of thanks ", "explanationModelName": "gpt-4o-mini",
     "typeName": "oai_token-act-pair"},
    {"modelId": "gemma-2-2b", "layer": "20-gemmascope-res-16k", "index": "7",
     "description": "another", "explanationModelName": None, "typeName": None},
    {"modelId": "gemma-2-2b", "layer": "20-gemmascope-res-16k", "index": "8", "description": ""},
]  # fmt: skip


@pytest.mark.parametrize("layout", ["list", "lines", "gzip"])
def test_an_export_is_read_in_every_layout(layout: str, tmp_path: Path) -> None:
    path = tmp_path / "export"
    lines = "\n".join(map(json.dumps, SAMPLE))
    text = json.dumps(SAMPLE) if layout == "list" else lines
    path.write_bytes(gzip.compress(text.encode()) if layout == "gzip" else text.encode())
    found = read_neuronpedia(path, sae_id=RELEASE)
    assert found[7].explanation == "words of thanks"
    assert found[7].link == "https://www.neuronpedia.org/gemma-2-2b/20-gemmascope-res-16k/7"
    assert found[8].explanation is None
    assert found[7].link == neuronpedia_page(RELEASE, 7)


def test_pages_are_known_of_published_saes_alone() -> None:
    assert neuronpedia_page("blocks.24.hook_resid_post", 7) is None
    assert neuronpedia_page("owner/repository/sae", 7) is None


@pytest.mark.parametrize("text", ["[1, 2]", "no json", '{"index": "x"}', "\ud800"])
def test_other_files_are_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "export"
    path.write_text(text, errors="surrogatepass")
    with pytest.raises(FileError, match="is no export of Neuronpedia's"):
        read_neuronpedia(path)


def test_an_export_of_another_sae_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "export"
    path.write_text(json.dumps(SAMPLE))
    other = RELEASE.replace("20", "12", 1).replace("layer_20", "layer_12")
    with pytest.raises(FileError, match="holds explanations of gemma-2-2b/20-gemmascope-res-16k"):
        read_neuronpedia(path, sae_id="gemma-scope-2b-pt-res-canonical/layer_7/width_16k/canonical")
    assert other


def test_explanations_are_added_to_what_is_known() -> None:
    own = {7: LatentMeaning(promotes=("thanks",), explanation="old")}
    merged = explained(own, {7: LatentMeaning(explanation="new"), 8: LatentMeaning(category="x")})
    assert (merged[7].promotes, merged[7].words()) == (("thanks",), "new")
    assert merged[8].category == "x"
