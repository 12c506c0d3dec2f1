"""The card of a repository on the hub: origin, settings, what was measured, licences."""

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypedDict

from dspa_nn.errors import FileError
from dspa_nn.files import as_path
from dspa_nn.imports import untyped

# A card with this line was written here, and may be replaced by a newer one.
MARKER = "<!-- written by dspa-nn: push_to_hub replaces this card -->"
UNSAID = "not said by whoever published this"
_NO_RECEIPT = "what came as the receipt is not what dspa evaluate writes; give its receipt.json"
_TEMPLATE = Path(__file__).with_name("card.md")
_HOLDS = {True: "yes", False: "no", None: "open"}

# What of a provenance a reader of a card wants to see, and what it is called there.
ORIGIN = {
    "model_id": "model",
    "model_revision": "revision",
    "adapters": "adapters",
    "input_layer": "input layer",
    "output_layer": "output layer",
    "input_sae": "input SAE",
    "output_sae": "output SAE",
    "input_sae_sha256": "input SAE, SHA-256",
    "output_sae_sha256": "output SAE, SHA-256",
    "dtype": "dtype",
    "prompts": "prompts",
    "data_sha256": "triples, SHA-256",
    "template_sha256": "chat template, SHA-256",
    "package_version": "dspa-nn",
}


@dataclass(frozen=True)
class CardFacts:
    """What a thing says of itself, for its card.

    >>> CardFacts("map", "A map.", "print(1)", {"model_id": "gpt2"}, {"k_diff": 16}).kind
    'map'

    Attributes:
        kind: in a word, such as "map"; a tag of the repository.
        what: one or two sentences.
        use: lines of Python that read it; {repo_id} stands for the repository.
        origin: its provenance.
        settings: how it was made, and its sizes.
        tags: more tags.
    """

    kind: str
    what: str
    use: str
    origin: Mapping[str, Any]
    settings: Mapping[str, Any]
    tags: tuple[str, ...] = field(default=())


class CardOptions(TypedDict, total=False):
    """What whoever publishes a thing says of it.

    Attributes:
        name: heading of the card; the repository's name where it is left out.
        receipt: what `dspa evaluate` wrote of it (`receipt.json`, its folder, or its content).
        data: what it was fitted on: the id of a data set on the hub, or words.
        data_licence: of that data.
        licence: of what is published, as the hub names licences ("apache-2.0").
        notes: further Markdown.
    """

    name: str
    receipt: str | os.PathLike[str] | Mapping[str, Any]
    data: str
    data_licence: str
    licence: str
    notes: str


def card_of(facts: CardFacts, repo_id: str, said: CardOptions) -> Any:
    """The card, as huggingface_hub's `ModelCard`.

    >>> facts = CardFacts("map", "A map.", "load({repo_id!r})", {"model_id": "gpt2"}, {})
    >>> "load('me/warm')" in str(card_of(facts, "me/warm", {}))
    True

    Raises:
        FileError: a receipt that cannot be read, or that is of something else.
    """
    hub, about = untyped("huggingface_hub"), facts.origin
    data, licence = said.get("data"), said.get("licence")
    one_model = isinstance(about.get("model_id"), str)
    given: Any = said.get("receipt")
    receipt = None if given is None else _receipt(given, facts)
    metadata = {
        "library_name": "dspa-nn",
        "license": licence,
        "base_model": about["model_id"] if one_model and _is_hub_id(about["model_id"]) else None,
        "datasets": [data] if data and _is_hub_id(data) else None,
        "tags": [
            "dspa", f"dspa-{facts.kind}", "sparse-autoencoder", "steering", "nnsight",
            "arxiv:2603.21461", *facts.tags,
        ],
    }  # fmt: skip
    return hub.ModelCard.from_template(
        hub.ModelCardData(**{name: value for name, value in metadata.items() if value is not None}),
        template_path=str(_TEMPLATE),
        marker=MARKER,
        name=said.get("name") or repo_id.rpartition("/")[2],
        what=facts.what,
        use=facts.use.format(repo_id=repo_id),
        origin=[
            (label, _cell(about[key]))
            for key, label in ORIGIN.items()
            if about.get(key) is not None
        ],
        settings=[(label, _cell(value)) for label, value in facts.settings.items()],
        receipt=receipt,
        licence=licence or UNSAID,
        data=data,
        data_licence=said.get("data_licence") or UNSAID,
        notes=said.get("notes"),
    )


def _receipt(given: Any, facts: CardFacts) -> dict[str, Any]:
    """What a card shows of a receipt, which must be one of this very thing."""
    report: Any = given
    if not isinstance(given, Mapping):
        path = as_path(given)
        path = path / "receipt.json" if path.is_dir() else path
        try:
            report = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise FileError(
                f"{path} is no receipt that can be read ({type(error).__name__}); give the "
                "receipt.json that dspa evaluate wrote, or its folder"
            ) from None
    try:
        if report["schema"] != "dspa_nn.receipt":
            raise FileError(_NO_RECEIPT)
        fitted: dict[str, Any] = report["map"]["settings"]["fit"]
        known = {name: facts.settings.get(name) for name in fitted if name in facts.settings}
        differing = [name for name, value in known.items() if value != fitted[name]]
        theirs = report["map"]["provenance"]
        differing += [
            name
            for name in ("data_sha256", "input_sae_sha256", "output_sae_sha256")
            if facts.origin.get(name) != theirs.get(name)
        ]
        if report["map"]["settings"]["entries"] != facts.settings.get("entries"):
            differing.append("entries")
        steered = report["map"]["settings"]["steer"]
        found = {
            "in_short": report["in_short"],
            "n": report["data"]["triples"]["n"],
            "source": Path(str(report["data"]["triples"]["source"])).name,
            "written": report["written"],
            "version": report["versions"]["dspa-nn"],
            "steered": ", ".join(f"{name} {value}" for name, value in steered.items()),
            "verdicts": [
                (_HOLDS[verdict["holds"]], _cell(verdict["text"]))
                for verdict in report["verdicts"]
                if verdict["about"] == "the map"
            ],
        }
    except (KeyError, TypeError, AttributeError):
        raise FileError(_NO_RECEIPT) from None
    if differing:
        raise FileError(
            f"the receipt is of another map: {', '.join(differing)} differ; give the one that "
            "dspa evaluate wrote of this map"
        )
    return found


def _is_hub_id(text: str) -> bool:
    return re.fullmatch(r"[\w.-]+/[\w.-]+", text) is not None and not text.startswith(".")


def _cell(value: Any) -> str:
    """A value in a cell of a table."""
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    return " ".join(text.split()).replace("|", "\\|")
