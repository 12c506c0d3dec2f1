"""Neuronpedia: the page of a latent, for SAEs that have one, and explanations that it exports."""

import gzip
import json
import os
from collections.abc import Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import quote

from dspa_nn.errors import FileError, SAEError
from dspa_nn.files import as_path
from dspa_nn.imports import untyped
from dspa_nn.saes import LatentMeaning, split_release

_SITE = "https://www.neuronpedia.org"


def neuronpedia_id(sae_id: str) -> str | None:
    """Under which "model/source" Neuronpedia keeps an SAE, or None where it has no page of it.

    Example:
        >>> neuronpedia_id("gemma-scope-2b-pt-res-canonical/layer_20/width_16k/canonical")
        'gemma-2-2b/20-gemmascope-res-16k'
        >>> neuronpedia_id("blocks.24.hook_resid_post") is None
        True

    sae_id: "release/sae_id", as provenance holds it. SAELens' directory says which have one.
    """
    if "/" not in sae_id:
        return None
    try:
        release, name = split_release(sae_id)
    except SAEError:
        return None
    directory: Any = untyped("sae_lens.loading.pretrained_saes_directory")
    known: Any = directory.get_pretrained_saes_directory().get(release)
    pages: Any = None if known is None else known.neuronpedia_id
    return pages.get(name) if pages else None


def neuronpedia_page(sae_id: str, latent: int) -> str | None:
    """The address of a latent's page on Neuronpedia; nothing is fetched.

    Example:
        >>> sae_id = "gemma-scope-2b-pt-res-canonical/layer_20/width_16k/canonical"
        >>> neuronpedia_page(sae_id, 3)
        'https://www.neuronpedia.org/gemma-2-2b/20-gemmascope-res-16k/3'
    """
    known = neuronpedia_id(sae_id)
    return f"{_SITE}/{quote(known)}/{latent}" if known else None


def read_neuronpedia(
    path: str | os.PathLike[str], *, sae_id: str | None = None
) -> Mapping[int, LatentMeaning]:
    """Read explanations that Neuronpedia exports: a JSON list, or JSON Lines, gzipped or not.

    Example:
        >>> import json, pathlib
        >>> line = {"modelId": "gpt2-small", "layer": "6-res-jb", "index": "3"}
        >>> text = json.dumps(line | {"description": "sun"})
        >>> _ = pathlib.Path("explained.jsonl").write_text(text)
        >>> read_neuronpedia("explained.jsonl")[3].explanation
        'sun'

    A latent that is explained more than once keeps its first explanation, empty ones aside.

    Args:
        path: what its API (`/api/explanation/export`) or its bulk exports gave.
        sae_id: "release/sae_id"; given, an export of another SAE is refused.

    Raises:
        FileError: a file that is no such export, one of another SAE, or one that explains nothing.
    """
    found: dict[int, LatentMeaning] = {}
    try:
        for line in _lines(path):
            latent, source = _index(path, line["index"]), f"{line['modelId']}/{line['layer']}"
            _check_source(path, source, sae_id)
            told = str(line["description"] or "").strip() or None
            meaning = LatentMeaning(
                explanation=told,
                source=_said_by(line) if told else None,
                link=f"{_SITE}/{quote(source)}/{latent}",
            )
            if latent not in found or found[latent].explanation is None:
                found[latent] = meaning
    except (OSError, EOFError, ValueError, KeyError, TypeError) as error:
        if isinstance(error, FileError):
            raise
        raise FileError(
            f"{path} is no export of Neuronpedia's ({type(error).__name__}: {error}); expected "
            "objects with modelId, layer, index and description, as a JSON list or one to a line"
        ) from error
    if not any(meaning.explanation for meaning in found.values()):
        raise FileError(
            f"{path} explains none of its {len(found)} latents; export an SAE that has "
            "explanations on Neuronpedia, or have a judge explain them (audit.explain)"
        )
    return found


def explained(
    meanings: Mapping[int, LatentMeaning], explanations: Mapping[int, LatentMeaning]
) -> dict[int, LatentMeaning]:
    """Meanings with the explanations, categories and links of others added.

    Example:
        >>> own = {3: LatentMeaning(promotes=("sun",))}
        >>> explained(own, {3: LatentMeaning(explanation="light")})[3].promotes
        ('sun',)
    """
    merged = dict(meanings)
    for latent, other in explanations.items():
        known = merged.get(latent, LatentMeaning())
        said = other if other.explanation else known
        merged[latent] = replace(
            known,
            promotes=known.promotes or other.promotes,
            fires_on=known.fires_on or other.fires_on,
            snippets=known.snippets or other.snippets,
            explanation=said.explanation,
            category=other.category or known.category,
            reliable=said.reliable,
            evidence=said.evidence,
            source=said.source,
            note=said.note,
            link=other.link or known.link,
        )
    return merged


def _index(path: str | os.PathLike[str], value: Any) -> int:
    """A latent's number, which exports write as text or as a whole number."""
    if type(value) not in (int, str) or not str(value).isdecimal():
        raise FileError(
            f"{path} is no export of Neuronpedia's (it has the index {value!r}); expected numbers "
            "of latents, whole and from 0 on"
        )
    return int(value)


def _said_by(line: Any) -> str:
    """Which model wrote an explanation, where the export names it."""
    model = line.get("explanationModelName")
    return f"{model}, on Neuronpedia" if model else "Neuronpedia"


def _lines(path: str | os.PathLike[str]) -> list[Any]:
    data = as_path(path).read_bytes()
    if data[:2] == b"\x1f\x8b":
        data = gzip.decompress(data)
    text = data.decode("utf-8")
    if text.lstrip().startswith("["):
        return json.loads(text)
    return [json.loads(line) for line in text.splitlines() if line.strip()]


def _check_source(path: str | os.PathLike[str], source: str, sae_id: str | None) -> None:
    expected = None if sae_id is None else neuronpedia_id(sae_id)
    if sae_id is not None and source != expected:
        raise FileError(
            f"{path} holds explanations of {source}, and the SAE {sae_id} is "
            f"{expected or 'not on Neuronpedia'}; export those of the same SAE"
        )
