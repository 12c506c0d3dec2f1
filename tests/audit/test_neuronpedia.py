"""Neuronpedia's pages and exports.

The samples have the fields of its exports (a row of its table of explanations, scores and votes
included); their texts are written by hand, since none of its answers may be fetched here.
"""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from dspa_nn import FileError
from dspa_nn.audit import explained, neuronpedia_page, read_neuronpedia
from dspa_nn.saes import LatentMeaning

RELEASE = "gemma-scope-2b-pt-res-canonical/layer_20/width_16k/canonical"
SOURCE = {"modelId": "gemma-2-2b", "layer": "20-gemmascope-res-16k"}


def row(index: str | int, description: str | None, **changes: Any) -> dict[str, Any]:
    return {
        "id": f"c{index}", **SOURCE, "index": index, "description": description,
        "authorId": "a1", "triggeredByUserId": "u1", "notes": None,
        "scoreV1": 0, "scoreV2": None, "umap_x": 0.0, "umap_y": 0.0, "umap_cluster": 0,
        "umap_log_feature_sparsity": 0, "typeName": "oai_token-act-pair",
        "explanationModelName": "gpt-4o-mini", "createdAt": "2024-10-31T01:02:03.004Z",
        "updatedAt": "2024-10-31T01:02:03.004Z",
    } | changes  # fmt: skip


SAMPLE = [
    row("7", " words of thanks "),
    row("7", "another", explanationModelName=None, typeName=None),
    row("8", ""),
    row(9, ""),
    row("9", "\u202e<script>alert(1)</script>", explanationModelName=None),
]


@pytest.mark.parametrize("layout", ["list", "lines", "gzip"])
def test_an_export_is_read_in_every_layout(layout: str, tmp_path: Path) -> None:
    path = tmp_path / "export"
    lines = "\n".join(map(json.dumps, SAMPLE))
    text = json.dumps(SAMPLE) if layout == "list" else lines
    path.write_bytes(gzip.compress(text.encode()) if layout == "gzip" else text.encode())
    found = read_neuronpedia(path, sae_id=RELEASE)
    assert found[7].explanation == "words of thanks"
    assert found[7].link == "https://www.neuronpedia.org/gemma-2-2b/20-gemmascope-res-16k/7"
    assert found[7].source == "gpt-4o-mini, on Neuronpedia"
    assert (found[8].explanation, found[8].source) == (None, None)
    assert found[9].explanation == "\u202e<script>alert(1)</script>"
    assert found[9].source == "Neuronpedia"
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


@pytest.mark.parametrize("index", ["-3", "x", "3.0", "", -3, 3.7, True, None])
def test_a_latent_is_a_whole_number(index: Any, tmp_path: Path) -> None:
    path = tmp_path / "export"
    path.write_text(json.dumps([row("8", "sun") | {"index": index}]))
    with pytest.raises(FileError, match=r"no export of Neuronpedia.s \(it has the index"):
        read_neuronpedia(path)


@pytest.mark.parametrize("rows", [[], [row("8", "")], [row("8", None)]])
def test_an_sae_without_explanations_is_refused(rows: list[Any], tmp_path: Path) -> None:
    path = tmp_path / "export"
    path.write_text(json.dumps(rows))
    told = f"explains none of its {len(rows)} latents; export an SAE that has explanations"
    with pytest.raises(FileError, match=told):
        read_neuronpedia(path)


def test_an_export_of_another_sae_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "export"
    path.write_text(json.dumps(SAMPLE))
    other = RELEASE.replace("layer_20", "layer_7")
    with pytest.raises(FileError, match="holds explanations of gemma-2-2b/20-gemmascope-res-16k"):
        read_neuronpedia(path, sae_id=other)
    with pytest.raises(FileError, match=r"the SAE blocks\.24\.hook_resid_post is not on Neuron"):
        read_neuronpedia(path, sae_id="blocks.24.hook_resid_post")


def test_explanations_are_added_to_what_is_known() -> None:
    own = {7: LatentMeaning(promotes=("thanks",), explanation="old")}
    merged = explained(own, {7: LatentMeaning(explanation="new"), 8: LatentMeaning(category="x")})
    assert (merged[7].promotes, merged[7].words()) == (("thanks",), "new")
    assert merged[8].category == "x"
