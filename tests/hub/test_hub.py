"""Publishing and reading back, against a stand-in of the hub on loopback; cards; what a file is."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import huggingface_hub
import numpy as np
import pytest
import torch

from dspa_nn import ActivationCounts, ConditionalDifferenceMap
from dspa_nn.counts import CountRows
from dspa_nn.errors import DSPAError, FileError
from dspa_nn.hub import card_of, identify
from dspa_nn.personas import Persona
from tests import eval_zoo
from tests.hub_zoo import TOKEN, Hub, hub

# huggingface_hub 2.4 hands a file to httpx in a way that is to go.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")

ORIGIN = {
    "model_id": "tiny/llama", "input_layer": 1, "output_layer": 2, "input_sae": "early",
    "input_sae_sha256": "a" * 64, "output_sae_sha256": "b" * 64, "data_sha256": "c" * 64,
}  # fmt: skip


def a_map(value: float = 0.5) -> ConditionalDifferenceMap:
    return ConditionalDifferenceMap.from_dense(
        [[0.0, value], [-0.25, 0.0]], tau=[0.5, 0.25], provenance=ORIGIN, percentile=50.0,
        k_diff=4, n_triples=20, defaults={"alpha": 0.5},
    )  # fmt: skip


def some_counts() -> ActivationCounts:
    rows = CountRows([0, 1], [[2, 0]] * 2, [[0, 0]] * 2, [[3, 0]] * 2, [[0, 1]] * 2,
                     [2] * 2, [0] * 2, [4] * 2, [2] * 2)  # fmt: skip
    return ActivationCounts.from_rows([rows], d_in=2, d_out=2, provenance=ORIGIN)


def a_receipt(map: ConditionalDifferenceMap, **changes: Any) -> dict[str, Any]:
    fit = {name: value for name, value in map.fitted.items() if name != "threshold"}
    verdict = {"about": "the map", "holds": False, "text": "The preferred text | falls: -0.088."}
    return {
        "schema": "dspa_nn.receipt", "version": 1, "name": "warm",
        "in_short": "On 52 held-out prompts the margin rises (+0.138).",
        "verdicts": [verdict, verdict | {"about": "instruction", "text": "not of the map"}],
        "map": {
            "settings": {"fit": fit, "steer": {"alpha": 0.4}, "entries": len(map.values)},
            "provenance": dict(map.provenance),
        },
        "model": {"model_id": "tiny/llama"},
        "data": {"triples": {"source": "/home/somebody/test.jsonl", "n": 52}},
        "versions": {"dspa-nn": "0.1.0"}, "written": "2026-11-26 09:11 UTC", **changes,
    }  # fmt: skip


@pytest.fixture
def there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    constants = huggingface_hub.constants
    with hub() as stand_in:
        monkeypatch.setattr(constants, "ENDPOINT", stand_in.url)
        template = stand_in.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)  # the stand-in has Git LFS alone
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr("dspa_nn.files.hub.getproxies", dict)
        yield stand_in


@pytest.mark.slow
def test_a_map_comes_back_as_it_went_and_the_token_is_written_nowhere(
    there: Hub, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    map = a_map()
    receipt = tmp_path / "receipt"
    receipt.mkdir()
    (receipt / "receipt.json").write_text(json.dumps(a_receipt(map)))
    said: Any = {"data": "my/triples", "data_licence": "CC BY 4.0", "licence": "cc-by-4.0"}
    where = map.push_to_hub("me/warm", receipt=receipt, token=TOKEN, **said)
    assert where.startswith(f"{there.url}/me/warm/commit/")
    back = ConditionalDifferenceMap.from_hub("me/warm", token=TOKEN)
    assert torch.equal(back.to_dense(), map.to_dense())
    assert back.provenance == map.provenance
    assert torch.equal(ConditionalDifferenceMap.load("me/warm").to_dense(), map.to_dense())
    files = there.repositories["me/warm"].files
    map.save(tmp_path / "here")
    saved = {path.name: path.read_bytes() for path in (tmp_path / "here").iterdir()}
    assert {name: files[name] for name in saved} == saved
    card = files["README.md"].decode()
    for part in (
        "license: cc-by-4.0", "base_model: tiny/llama", "- my/triples", "- dspa-map",
        'ConditionalDifferenceMap.from_hub("me/warm")', "# warm\n", "| output layer | 2 |",
        "| k_diff | 4 |", "On 52 held-out prompts the margin rises (+0.138).",
        "| no | The preferred text \\| falls: -0.088. |", "`test.jsonl`", "steered with alpha 0.4",
        "(my/triples): CC BY 4.0.",
    ):  # fmt: skip
        assert part in card, part
    assert "not of the map" not in card
    assert "somebody" not in card
    huggingface_hub.ModelCard(card)  # its metadata are read by the hub's own client
    # The same map, other entries: the older arrays are gone in the same commit.
    a_map(0.75).push_to_hub("me/warm", token=TOKEN)
    newer = there.repositories["me/warm"]
    assert len(newer.commits) == 3
    (tensors,) = (name for name in newer.files if name.startswith("map-"))
    assert sorted(newer.files) == ["README.md", tensors, "map.json"]
    assert ConditionalDifferenceMap.from_hub("me/warm").to_dense()[0, 1] == 0.75
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(written) > 6
    assert not [path for path in written if TOKEN.encode() in path.read_bytes()]
    assert not [name for name, content in newer.files.items() if TOKEN.encode() in content]
    told = capfd.readouterr()
    assert TOKEN not in told.out + told.err + repr(map) + repr(back)


@pytest.mark.slow
def test_a_private_sum_and_counts_come_back(there: Hub) -> None:
    both = a_map() + 0.5 * a_map(0.75)
    both.push_to_hub("me/sum", private=True, token=TOKEN)
    assert there.repositories["me/sum"].private
    with pytest.raises(FileError, match="me/sum cannot be had: "):
        ConditionalDifferenceMap.from_hub("me/sum", token="hf_another")
    back = ConditionalDifferenceMap.from_hub("me/sum", token=TOKEN)
    assert torch.equal(back.score([1, 1], [4]), both.score([1, 1], [4]))
    counts = some_counts()
    counts.push_to_hub("me/counts", token=TOKEN)
    read = ActivationCounts.from_hub("me/counts")
    assert np.array_equal(read.chosen.toarray(), counts.chosen.toarray())
    assert "Maps of any subset" in there.repositories["me/counts"].files["README.md"].decode()


def test_a_persona_comes_back(there: Hub) -> None:
    effects = eval_zoo.effects()
    persona = Persona({effects.axes[0]: 1.0}, effects)
    persona.push_to_hub("me/short", token=TOKEN)
    files = there.repositories["me/short"].files
    assert sorted(files) == ["README.md", "persona.json"]
    assert "- dspa-persona" in files["README.md"].decode()
    back = Persona.from_hub("me/short")
    assert back.axis_weights == persona.axis_weights
    assert torch.equal(back.values, persona.values)
    (found,) = identify("me/short")
    assert (found.kind, found.facts["weights"]) == ("persona", persona.axis_weights)


def test_a_card_written_by_hand_stays(there: Hub, capfd: pytest.CaptureFixture[str]) -> None:
    a_map().push_to_hub("me/warm", token=TOKEN)
    there.repositories["me/warm"].files["README.md"] = b"# Mine\n"
    a_map(0.75).push_to_hub("me/warm", token=TOKEN)
    assert there.repositories["me/warm"].files["README.md"] == b"# Mine\n"
    assert "me/warm has a card that was written by hand: it stays" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("repo_id", "token", "sentence"),
    [
        ("me/warm", "hf_wrong", r"me/warm cannot be published: the hub refuses it \(401\); log in"),
        ("me/warm/more", TOKEN, "me/warm/more cannot be published: this is no id of a repository"),
        ("warm", TOKEN, "warm cannot be published: this is no id of a repository; write owner/"),
        ("me/warm", " ", "the token of the hub is empty, or holds blanks"),
        ("me/warm", f"{TOKEN}\n{TOKEN}", "the token of the hub is empty, or holds blanks"),
    ],
)
def test_what_the_hub_refuses_is_one_sentence_without_the_token(
    there: Hub, repo_id: str, token: str, sentence: str
) -> None:
    with pytest.raises(FileError, match=sentence) as raised:
        a_map().push_to_hub(repo_id, token=token)
    assert "hf_" not in str(raised.value)
    assert not there.repositories


def test_a_token_read_from_a_file_is_taken_without_its_line_break(there: Hub) -> None:
    a_map().push_to_hub("me/warm", private=True, token=f"{TOKEN}\n")
    assert len(ConditionalDifferenceMap.from_hub("me/warm", token=f"{TOKEN}\n").values) == 2


def test_an_older_revision_comes_back_and_one_that_is_not_there_is_told(there: Hub) -> None:
    a_map().push_to_hub("me/warm", token=TOKEN)
    older = there.repositories["me/warm"].sha
    a_map(0.75).push_to_hub("me/warm", token=TOKEN)
    assert ConditionalDifferenceMap.from_hub("me/warm", revision=older).to_dense()[0, 1] == 0.5
    assert ConditionalDifferenceMap.from_hub("me/warm").to_dense()[0, 1] == 0.75
    with pytest.raises(FileError, match="me/warm cannot be had: it has no such revision"):
        ConditionalDifferenceMap.from_hub("me/warm", revision="draft")
    with pytest.raises(FileError, match="me/warm cannot be published: it has no such revision"):
        a_map().push_to_hub("me/warm", revision="draft", token=TOKEN)


@pytest.mark.slow
def test_a_repository_of_another_kind_stays_as_it_is(there: Hub) -> None:
    effects = eval_zoo.effects()
    things = {
        "a map (map.json)": a_map(),
        "counts (counts.json)": some_counts(),
        "a persona (persona.json)": Persona({effects.axes[0]: 1.0}, effects),
    }
    for number, (held, thing) in enumerate(things.items()):
        name = f"me/thing{number}"
        thing.push_to_hub(name, token=TOKEN)
        before = there.repositories[name].files
        for other in things.values():
            if other is thing:
                continue
            sentence = re.escape(f"{name} holds {held}, and a repository holds one kind of thing")
            with pytest.raises(FileError, match=f"^{sentence}, so nothing was sent; choose"):
                other.push_to_hub(name, token=TOKEN)
        assert there.repositories[name].files == before
    # Files of others are no matter, and a sum replaces a map.
    there.repositories["me/thing0"].files["config.json"] = b"{}"
    (a_map() + a_map(0.75)).push_to_hub("me/thing0", token=TOKEN)
    (tensors,) = (name for name in there.repositories["me/thing0"].files if name[:4] == "map-")
    assert sorted(there.repositories["me/thing0"].files) == [
        "README.md", "config.json", tensors, "map.json",
    ]  # fmt: skip


def test_what_is_to_be_private_is_not_sent_to_a_public_repository(there: Hub) -> None:
    a_map().push_to_hub("me/warm", token=TOKEN)
    with pytest.raises(FileError, match="me/warm is there already, and public, so nothing was"):
        a_map(0.75).push_to_hub("me/warm", private=True, token=TOKEN)
    assert len(there.repositories["me/warm"].commits) == 2


def test_a_card_says_what_it_was_told_or_the_call_is_refused(there: Hub) -> None:
    misspelt: Any = {"license": "mit"}
    with pytest.raises(DSPAError, match=r"takes no license \(did you mean 'licence'\?\); it takes"):
        a_map().push_to_hub("me/warm", token=TOKEN, **misspelt)
    assert not there.repositories
    with pytest.raises(FileError, match=r"its card says of it: - \"license\" must be.*'cc-by-4.0'"):
        a_map().push_to_hub("me/warm", token=TOKEN, licence="CC BY 4.0")
    assert not there.repositories["me/warm"].files


def test_another_kind_of_thing_is_told(there: Hub) -> None:
    some_counts().push_to_hub("me/counts", token=TOKEN)
    for read in (ConditionalDifferenceMap.from_hub, ConditionalDifferenceMap.load):
        with pytest.raises(FileError, match=r"me/counts .*holds no map\.json.*`dspa inspect me/co"):
            read("me/counts")
    with pytest.raises(FileError, match=r"holds no persona\.json, and so no Persona"):
        Persona.from_hub("me/counts")


def test_what_is_not_there_is_told(there: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(FileError, match="no file or folder maps/x here, and maps/x cannot be had"):
        identify("maps/x")
    with pytest.raises(FileError, match="nobody/x cannot be had: there is no such repository"):
        ConditionalDifferenceMap.from_hub("nobody/x")
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(FileError, match="cannot be published, since the hub does not answer"):
        a_map().push_to_hub("me/warm", token=TOKEN)
    with pytest.raises(FileError, match="cannot be had: the hub does not answer, and its cache"):
        ConditionalDifferenceMap.from_hub("nobody/x")


SAFE = "the same call can be repeated safely"
UNCHANGED = f"so no file there was changed; {SAFE}"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("how", "where", "sentence"),
    [
        ("silent", "POST /api/repos", rf"the hub was silent for 0 s \(ReadTimeout; HF_HUB_DOWN.* "
         f"before the commit was made, {UNCHANGED}"),
        ("silent", "PUT /lfs", r"the hub was silent for 0 s \(ReadTimeout; HF_HUB_DOWNLOAD_TIMEOUT "
         rf"gives it more\) while map-\w+\.safetensors was sent, {UNCHANGED}"),
        ("cut", "PUT /lfs", r"the connection to the hub broke off \(RemoteProtocolError\) while "
         rf"map-\w+\.safetensors was sent, {UNCHANGED}"),
        ("failing", "PUT /lfs", rf"the hub says HfHubHTTPError \(500\) while map-.*, {UNCHANGED}"),
        ("cut", "POST .*/commit/", r"the connection to the hub broke off \(RemoteProtocolError\) "
         "while the commit was made, so the repository holds all of the old files or all of the "
         f"new ones; {SAFE}"),
        ("failing", "POST .*/commit/", r"the hub says HfHubHTTPError \(500\) while the commit was"),
        ("silent", "GET .*/models/", f"the hub was silent for 0 s .* before the commit .*{SAFE}"),
    ],
)  # fmt: skip
def test_a_push_that_breaks_off_says_where_and_can_be_repeated(
    how: str, where: str, sentence: str, there: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dspa_nn.files.hub.PATIENCE", 0.2)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DOWNLOAD_TIMEOUT", 0.2)
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda seconds: None)
    setattr(there, how, where)
    with pytest.raises(FileError, match=f"^me/warm cannot be published: {sentence}") as raised:
        a_map().push_to_hub("me/warm", token=TOKEN)
    assert TOKEN not in str(raised.value)
    assert not (repository := there.repositories.get("me/warm")) or not repository.files
    assert len(huggingface_hub.get_session().event_hooks["request"]) == 1  # the client's own
    setattr(there, how, "never")
    a_map().push_to_hub("me/warm", token=TOKEN)
    assert len(there.repositories["me/warm"].files) == 3


def test_a_silent_hub_holds_no_download(there: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dspa_nn.files.hub.PATIENCE", 0.2)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DOWNLOAD_TIMEOUT", 0.2)
    there.silent = "GET .*/models/"
    with pytest.raises(FileError, match="me/warm cannot be had: the hub does not answer, and its"):
        ConditionalDifferenceMap.from_hub("me/warm")


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"schema": "dspa_nn.demo"}, "what came as the receipt is not what dspa evaluate writes"),
        ({"verdicts": None}, "what came as the receipt is not what dspa evaluate writes"),
        ({"map": None}, "what came as the receipt is not what dspa evaluate writes"),
    ],
)
def test_a_receipt_that_is_none_is_refused(change: dict[str, Any], sentence: str) -> None:
    receipt = {**a_receipt(a_map()), **change}
    with pytest.raises(FileError, match=sentence):
        card_of(a_map().card_facts(), "me/warm", {"receipt": receipt})


def test_a_receipt_of_another_map_is_refused(tmp_path: Path) -> None:
    other = a_map().restrict(rows=[0])
    with pytest.raises(FileError, match="the receipt is of another map: entries differ; give the"):
        card_of(a_map().card_facts(), "me/warm", {"receipt": a_receipt(other)})
    with pytest.raises(FileError, match=r"no receipt that can be read \(FileNotFoundError\)"):
        card_of(a_map().card_facts(), "me/warm", {"receipt": tmp_path / "none.json"})


def test_a_card_without_a_receipt_says_that_nothing_was_measured() -> None:
    card = str(card_of(a_map().card_facts(), "me/warm", {}))
    assert "None was given. What this does to a model was not measured" in card
    assert card.count("not said by whoever published this") == 2
    assert "license" not in card.partition("# warm")[0]


def test_identify_tells_what_a_folder_holds(there: Hub, tmp_path: Path) -> None:
    map, folder = a_map(), tmp_path / "map"
    map.save(folder)
    (found,) = identify(folder)
    assert (found.kind, found.whole, found.problem) == ("map", True, None)
    assert found.facts["latents"] == "2 x 2"
    assert found.facts["k_diff"] == 4
    assert found.facts["model"] == "tiny/llama"
    assert "whole: its checksums agree" in str(found)
    assert json.loads(json.dumps(found.to_dict()))["kind"] == "map"
    (tensors,) = folder.glob("*.safetensors")
    assert identify(tensors)[0].kind == "map"
    tensors.write_bytes(tensors.read_bytes()[:-1] + b"x")
    (found,) = identify(folder / "map.json")
    assert found.whole is False
    assert "it was cut short or changed" in str(found)
    (2 * a_map()).save(tmp_path / "sum")
    assert identify(tmp_path / "sum")[0].facts["sum of"] == "2 x map"
    some_counts().save(tmp_path / "counts")
    assert identify(tmp_path / "counts")[0].kind == "counts"
    (tmp_path / "counts" / "counts.json").rename(tmp_path / "counts" / "map.json")
    (found,) = identify(tmp_path / "counts")
    assert (found.kind, found.whole) == ("counts", None)
    assert "it is named map.json, and is read as counts.json alone; copy what" in str(found)
    # Of the hub, the descriptions alone.
    a_map().push_to_hub("me/warm", token=TOKEN)
    there.asked.clear()
    (found,) = identify("me/warm")
    assert (found.kind, found.where, found.whole) == ("map", "me/warm/map.json", None)
    assert not [path for path in there.asked if "safetensors" in path]


@pytest.mark.parametrize(
    ("name", "content", "kind"),
    [
        ("receipt.json", a_receipt(a_map()), "receipt"),
        ("job.json", {"schema_version": 1, "job_id": "f00", "host": "http://x"}, "NDIF job"),
        ("l.json", {"schema": 1, "sae_sha256": "0", "latents": {}}, "table of latents in words"),
        ("triples.jsonl", {"prompt": "a", "chosen": "b", "rejected": "c"}, "preference triples"),
        ("tuning.json", {"schema": "dspa_nn.tuning", "version": 1}, "settings that were tuned"),
        ("new.json", {"schema": "dspa_nn.later", "version": 1}, "later"),
    ],
)
def test_identify_knows_files(name: str, content: Any, kind: str, tmp_path: Path) -> None:
    path = tmp_path / name
    lines = 2 if name.endswith("l") else 1
    path.write_text("\n".join([json.dumps(content)] * lines))
    assert identify(path)[0].kind == kind


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"[1, 2]", "is no file of dspa-nn that can be told from its content"),
        (b"[" * 100_000, "is no file of dspa-nn that can be told from its content"),
        (b"\xff\xfe", r"is no text that can be read \(UnicodeDecodeError\)"),
        (
            b'{"schema": "dspa_nn.receipt"}',
            r"lacks what its schema promises \(KeyError: 'name'\).* or upgrade",
        ),
    ],
)
def test_identify_refuses_in_one_sentence(content: bytes, sentence: str, tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_bytes(content)
    with pytest.raises(FileError, match=sentence):
        identify(path)
    with pytest.raises(FileError, match="is no file or folder here, and no id of a repository"):
        identify(tmp_path / "absent")
    for nothing in ("", "  "):
        with pytest.raises(FileError, match=r"^'\s*' is no path \(it is empty\); give the path of"):
            identify(nothing)
    with pytest.raises(FileError, match=r"holds nothing of dspa-nn .* \(x\.json\).* was cut short"):
        identify(tmp_path)


@pytest.mark.slow
def test_the_endpoint_of_the_environment_is_asked(tmp_path: Path) -> None:
    code = (
        "from dspa_nn import ConditionalDifferenceMap as Map; "
        "Map.from_dense([[0.0, 0.5]]).push_to_hub('me/warm'); print(Map.load('me/warm'))"
    )
    with hub() as stand_in:
        own = {"HF_ENDPOINT": stand_in.url, "HF_TOKEN": TOKEN, "HF_HUB_OFFLINE": "0"}
        own["HF_HUB_DISABLE_XET"] = "1"
        kept = {"HF_HOME": str(tmp_path), "no_proxy": "127.0.0.1", "PATH": "/usr/bin"}
        root = {"PYTHONPATH": str(Path(__file__).parents[2])}
        done = subprocess.run(
            [sys.executable, "-c", code], env=own | kept | root, capture_output=True, text=True,
            check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert "1 rows, 1 entries" in done.stdout
        assert "me/warm" in stand_in.repositories
    assert not [p for p in tmp_path.rglob("*") if p.is_file() and TOKEN.encode() in p.read_bytes()]
    assert TOKEN not in done.stdout + done.stderr
