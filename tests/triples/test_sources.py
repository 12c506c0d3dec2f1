"""Sources and layouts of preference data."""

import gzip
import json
import pickle
from pathlib import Path
from typing import Any

import pytest

from dspa_nn.errors import TripleError
from dspa_nn.triples import (
    DIVERGED,
    EMPTY,
    EQUAL,
    Message,
    PreferenceTriple,
    Triples,
    as_messages,
    load_triples,
)

ROWS = [
    {"prompt": "Is it raining?", "chosen": "Yes, take a coat.", "rejected": "eh"},
    {"prompt": "And now?", "chosen": "No.", "rejected": "No!", "score": 3},
]
TRIPLES = [PreferenceTriple(row["prompt"], row["chosen"], row["rejected"]) for row in ROWS]
USER, OTHER = {"role": "user", "content": "Hi"}, {"role": "user", "content": "Ho"}
GOOD, BAD = {"role": "assistant", "content": "Hello!"}, {"role": "assistant", "content": "What."}
CHAT = PreferenceTriple([USER], "Hello!", "What.")
DIALOGUE = "\n\nHuman: Hi\n\nAssistant: Yes?\n\nHuman: Ho: ho\n\nAssistant:"


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def lines(rows: list[Any]) -> str:
    return "\n".join(json.dumps(row) for row in rows) + "\n\n"


def files(folder: Path) -> list[Path]:
    import pyarrow
    from pyarrow import parquet

    zipped = folder / "d.jsonl.gz"
    zipped.write_bytes(gzip.compress(lines(ROWS).encode()))
    parquet.write_table(pyarrow.Table.from_pylist(ROWS), folder / "e.parquet")
    marked = folder / "f.json"
    marked.write_bytes(b"\xef\xbb\xbf" + lines(ROWS).encode())
    return [
        write(folder / "a.jsonl", lines(ROWS)),
        write(folder / "b.json", lines(ROWS)),
        write(folder / "c.json", json.dumps(ROWS, indent=1)),
        zipped,
        folder / "e.parquet",
        marked,
        write(folder / "g.jsonl", lines([list(row.values())[:3] for row in ROWS])),
    ]


def test_every_kind_of_file_gives_the_same(tmp_path: Path) -> None:
    loaded = [load_triples(path) for path in files(tmp_path)]
    assert all(triples == TRIPLES for triples in loaded)
    assert len({triples.sha256 for triples in loaded}) == 1
    assert loaded[0].source == "a.jsonl"
    assert load_triples(str(tmp_path / "a.jsonl")) == TRIPLES


def test_data_sets(tmp_path: Path) -> None:
    from datasets import Dataset, DatasetDict

    data: Any = Dataset.from_list(ROWS)
    splits = DatasetDict({"train": data.select([0]), "test": data})
    assert load_triples(data) == TRIPLES
    assert load_triples(splits, split="test") == TRIPLES
    assert load_triples(data.to_iterable_dataset()) == TRIPLES
    with pytest.raises(TripleError) as caught:
        load_triples(splits, split="dev")
    assert str(caught.value) == (
        "split='dev' came, and the data set has the splits 'train', 'test': choose one of these"
    )


def test_a_name_on_the_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    asked = []

    def load_dataset(name: str, split: str) -> Any:
        asked.append((name, split))
        return datasets.Dataset.from_list(ROWS)

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    triples = load_triples("someone/preferences", split="dev")
    assert triples == TRIPLES
    assert triples.source == "someone/preferences (dev)"
    assert asked == [("someone/preferences", "dev")]


def test_a_name_that_is_not_to_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    def load_dataset(name: str, split: str) -> Any:
        raise ConnectionError("No network.\nTry again")

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    assert sentence("someone/preferences") == (
        "'someone/preferences' is neither a file here nor a data set with a split 'train' that "
        "could be had (No network): check the name, the split and the connection"
    )


@pytest.mark.parametrize("kind", [list, tuple, iter])
def test_rows_of_every_kind(kind: Any) -> None:
    tuples = [tuple(row.values())[:3] for row in ROWS]
    assert load_triples(kind(ROWS)) == TRIPLES
    assert load_triples(kind(tuples)) == TRIPLES
    assert load_triples(kind(TRIPLES)) == TRIPLES


def test_chat_lifts_a_string_prompt() -> None:
    for rows in (ROWS, TRIPLES):
        triples = load_triples(rows, chat=True)
        assert triples[0].prompt == (Message("user", "Is it raining?"),)
        assert triples[0].chosen == "Yes, take a coat."


@pytest.mark.parametrize("chat", [False, True])
@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "Hi", "chosen": [USER, GOOD], "rejected": [USER, BAD], "score_chosen": 9},
        {"prompt": [USER], "chosen": [GOOD], "rejected": [BAD]},
        {"prompt": [USER], "chosen": [USER, GOOD], "rejected": [USER, BAD]},
        {"prompt": [USER], "chosen": "Hello!", "rejected": "What."},
        {"chosen": [USER, GOOD], "rejected": [USER, BAD]},
        {"prompt": None, "chosen": [USER, GOOD], "rejected": [USER, BAD]},
    ],
    ids=["ultrafeedback", "explicit", "explicit, repeated", "mixed", "implicit", "null prompt"],
)
def test_layouts_of_message_lists(row: dict[str, Any], chat: bool) -> None:
    assert load_triples([row], chat=chat) == [CHAT]


def test_responses_as_lists_beside_a_string_prompt() -> None:
    row = {"prompt": "Hi", "chosen": [GOOD], "rejected": [BAD]}
    assert load_triples([row]) == [PreferenceTriple("Hi", "Hello!", "What.")]
    assert load_triples([row], chat=True) == [CHAT]


def test_whole_dialogues_as_text_lose_no_character() -> None:
    row = {"chosen": f"{DIALOGUE} Hello!", "rejected": f"{DIALOGUE} What. "}
    (triple,) = load_triples([row])
    assert triple == PreferenceTriple(DIALOGUE, " Hello!", " What. ")


@pytest.mark.parametrize(
    "row",
    [
        {"chosen": f"{DIALOGUE} Hello!", "rejected": f"{DIALOGUE} What. "},
        {"prompt": DIALOGUE, "chosen": " Hello!", "rejected": " What. "},
    ],
    ids=["whole", "cut already"],
)
def test_dialogues_as_chat(row: dict[str, str]) -> None:
    turns = [USER, {"role": "assistant", "content": "Yes?"}, {"role": "user", "content": "Ho: ho"}]
    assert load_triples([row], chat=True) == [PreferenceTriple(turns, "Hello!", "What.")]


LEFT_OUT = [
    (EQUAL, {"prompt": "Hi", "chosen": "a", "rejected": "a"}),
    (DIVERGED, {"chosen": [USER, GOOD], "rejected": [OTHER, BAD]}),
    (DIVERGED, {"chosen": f"{DIALOGUE} a", "rejected": f"\n\nHuman: x{DIALOGUE} b"}),
    (EMPTY, {"chosen": f"{DIALOGUE} ", "rejected": f"{DIALOGUE} b"}),
    (EMPTY, {"prompt": "Hi", "chosen": [USER, GOOD], "rejected": [USER, {**BAD, "content": " "}]}),
]


@pytest.mark.parametrize(("reason", "row"), LEFT_OUT)
def test_left_out_and_counted_or_refused(reason: str, row: dict[str, Any]) -> None:
    triples = load_triples([row, *ROWS, row])
    assert triples == TRIPLES
    assert triples.skipped == {reason: 2}
    assert repr(triples) == f"Triples: 2 from the list (left out: 2 {reason})"
    assert sentence([*ROWS, row], strict=True) == (
        f"the list, row 2: {reason}, where a preference was expected and strict=True refuses the "
        "rest: mend the row, or leave strict out to skip and count it"
    )
    assert sentence([row]) == (
        f"the list holds no triples (1 left out: {reason}), where at least one was expected: "
        "check the source"
    )


def test_a_slice_keeps_its_origin() -> None:
    triples = load_triples([*ROWS, LEFT_OUT[0][1]])
    part = triples[1:]
    assert isinstance(part, Triples)
    assert part == TRIPLES[1:]
    assert (part.skipped, part.source) == (triples.skipped, "the list")
    assert part.sha256 != triples.sha256
    assert triples[0] == TRIPLES[0]
    assert load_triples(part, chat=True)[0].prompt == (Message("user", "And now?"),)
    again = pickle.loads(pickle.dumps(triples))
    assert (again, again.skipped, again.sha256) == (triples, triples.skipped, triples.sha256)


def test_the_hash_knows_order_and_kind_of_prompt() -> None:
    hashes = {
        load_triples(ROWS).sha256,
        load_triples(ROWS[::-1]).sha256,
        load_triples(ROWS, chat=True).sha256,
        load_triples(ROWS[:1]).sha256,
    }
    assert len(hashes) == 4
    assert load_triples(iter(ROWS)).sha256 == Triples(TRIPLES).sha256


def test_limit_counts_triples_and_reads_no_further() -> None:
    def rows() -> Any:
        yield LEFT_OUT[0][1]
        yield ROWS[0]
        pytest.fail("read on after the limit")

    triples = load_triples(rows(), limit=1)
    assert (triples, triples.skipped) == (TRIPLES[:1], {EQUAL: 1})


def sentence(source: Any, **options: Any) -> str:
    with pytest.raises(TripleError) as caught:
        load_triples(source, **options)
    return str(caught.value)


def test_an_empty_source(tmp_path: Path) -> None:
    empty = "holds no triples (it is empty), where at least one was expected: check the source"
    assert sentence([]) == f"the list {empty}"
    assert sentence(write(tmp_path / "a.jsonl", "")) == f"a.jsonl {empty}"
    assert sentence(write(tmp_path / "a.json", "[]")) == f"a.json {empty}"


def test_a_line_that_is_not_json(tmp_path: Path) -> None:
    expected = "where one JSON object on each line was expected: mend or remove the line"
    path = write(tmp_path / "a.jsonl", lines(ROWS[:1]) + "{'prompt': 1}\n")
    assert sentence(path) == (
        "a.jsonl, line 3: not JSON (Expecting property name enclosed in double quotes), " + expected
    )
    path = write(tmp_path / "cut.jsonl", lines(ROWS).strip()[:-10])
    assert sentence(path) == (
        "cut.jsonl, line 2: not JSON (Unterminated string starting at), " + expected
    )
    path = write(tmp_path / "a.json", json.dumps(ROWS, indent=1)[:-3])
    assert sentence(path).startswith("a.json, line 12: not JSON (Expecting ',' delimiter)")
    path.write_bytes(b'{"prompt": "\xff"}\n')
    assert sentence(path) == "a.json, line 1: not JSON (invalid start byte), " + expected


def test_files_that_are_missing_damaged_or_of_another_kind(tmp_path: Path) -> None:
    kinds = "a .jsonl, .json, .jsonl.gz, .csv or .parquet file"
    assert sentence(str(tmp_path / "no.jsonl")) == (
        f"there is no file no.jsonl in {tmp_path}, where {kinds} was expected: check the path"
    )
    assert sentence(tmp_path / "no") == (
        f"there is no file no in {tmp_path}, where {kinds} was expected: check the path"
    )
    assert sentence(write(tmp_path / "a.txt", "prompt,chosen")) == (
        f"a.txt is of a kind that is not read, where {kinds} was expected: convert it first"
    )
    assert sentence(tmp_path) == (
        f"{tmp_path.name} is a folder, where {kinds} was expected: name one of its files"
    )
    whole = gzip.compress(lines(ROWS * 50).encode())
    (tmp_path / "cut.jsonl.gz").write_bytes(whole[:-20])
    assert sentence(tmp_path / "cut.jsonl.gz").startswith("cut.jsonl.gz is no whole gzip file (")
    write(tmp_path / "not.jsonl.gz", "text")
    assert sentence(tmp_path / "not.jsonl.gz") == (
        "not.jsonl.gz is no whole gzip file (Not a gzipped file (b'te')): fetch it again"
    )
    write(tmp_path / "not.parquet", "text")
    message = sentence(tmp_path / "not.parquet")
    assert message.startswith("not.parquet is no whole Parquet file (")
    assert message.endswith("): fetch it again")


@pytest.mark.usefixtures("unchecked")
def test_a_source_of_another_type() -> None:
    for source in (3, None, ROWS[0], b"rows"):
        assert sentence(source) == (
            f"a source of type {type(source).__name__} came, where a path, a data set or an "
            "iterable of rows was expected: put a single row in a list"
        )
    assert sentence(["row"]) == (
        "the list, row 0: a row of type str came, where a dict, a (prompt, chosen, rejected) tuple "
        "or a PreferenceTriple was expected: convert it first"
    )
    assert sentence(ROWS, limit=0) == (
        "limit=0 came, where at least 1 or None was expected: give how many triples are wanted at "
        "most"
    )
    assert sentence(ROWS, limit="2") == "limit is '2', of type str; expected int or None."
    assert sentence(ROWS, chat="yes") == "chat is 'yes', of type str; expected bool."


LAYOUTS = (
    "'prompt', 'chosen' and 'rejected' as strings or lists of chat messages; 'chosen' and "
    "'rejected' as lists of chat messages that open alike; or as whole dialogues that open with "
    "'Human:' and have 'Assistant:' turns"
)


def test_a_missing_key() -> None:
    tail = (
        "where both responses were expected: rename the columns, or leave the row out (known "
        f"layouts: {LAYOUTS})"
    )
    assert sentence([*ROWS, {"question": "Hi", "chosen": "a"}]) == (
        "the list, row 2: 'rejected' is missing in a row with the keys 'question', 'chosen', "
        + tail
    )
    assert sentence([{}]) == (
        f"the list, row 0: 'chosen' and 'rejected' is missing in a row with the keys (none), {tail}"
    )
    assert sentence([{"prompt": "Hi", "chosen": "a", "rejected": None}]) == (
        "the list, row 0: 'rejected' is null in a row with the keys 'prompt', 'chosen', "
        f"'rejected', {tail}"
    )


@pytest.mark.parametrize(
    ("row", "kinds", "why"),
    [
        (
            {"chosen": "a", "rejected": "b", "question": "Hi"},
            "'chosen' (str), 'rejected' (str)",
            "and 'chosen' and 'rejected' are strings that are no dialogues",
        ),
        (
            {"prompt": "Hi", "chosen": f"{DIALOGUE} a", "rejected": f"{DIALOGUE} b"},
            "'prompt' (str), 'chosen' (str), 'rejected' (str)",
            "and 'chosen' and 'rejected' are whole dialogues beside a 'prompt'",
        ),
        (
            {"prompt": "Hi", "chosen": [GOOD], "rejected": "b"},
            "'prompt' (str), 'chosen' (list), 'rejected' (str)",
            "and 'chosen' and 'rejected' are neither two strings nor two lists",
        ),
        (
            {"chosen": [GOOD], "rejected": [BAD]},
            "'chosen' (list), 'rejected' (list)",
            "and the lists hold the response alone",
        ),
        (
            {"prompt": [OTHER], "chosen": [USER, GOOD], "rejected": [USER, BAD]},
            "'prompt' (list), 'chosen' (list), 'rejected' (list)",
            "and 'chosen' holds messages before its last that are no 'prompt'",
        ),
    ],
)
def test_no_layout_or_more_than_one(row: dict[str, Any], kinds: str, why: str) -> None:
    keys = ", ".join(map(repr, row))
    assert sentence([row]) == (
        f"the list, row 0: a row with the keys {keys} came, of which {kinds} were read, {why}, "
        f"where one of the known layouts was expected ({LAYOUTS}): give the prompt and the two "
        "responses apart"
    )


def test_an_empty_response_in_a_column_of_its_own(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", lines([*ROWS[:1], {**ROWS[1], "rejected": ""}]))
    assert sentence(path) == (
        "a.jsonl, line 2: the rejected response is empty, where some text was expected: leave this "
        "triple out"
    )


def test_a_message_list_that_does_not_end_in_a_response() -> None:
    assert sentence([{"chosen": [USER, GOOD, OTHER], "rejected": [USER, BAD]}]) == (
        "the list, row 0: the last message of 'chosen' is of the role 'user', where 'assistant' "
        "was expected, since it is the response: cut the messages after it"
    )


@pytest.mark.data
def test_ultrafeedback(data: Path) -> None:
    path = data / "ultrafeedback" / "triples.jsonl"
    triples = load_triples(path, chat=True)
    rows = [json.loads(line) for line in path.read_text("utf-8").strip().split("\n")]
    assert len(triples) == 800
    assert not triples.skipped
    for triple, row in zip(triples, rows, strict=True):
        assert triple == PreferenceTriple(
            [{"role": "user", "content": row["prompt"]}], row["chosen"], row["rejected"]
        )


@pytest.mark.data
def test_hh_rlhf(data: Path) -> None:
    path = data / "hh-rlhf" / "harmless-base-test.jsonl.gz"
    text, chat = load_triples(path), load_triples(path, chat=True)
    assert len(text) == len(chat) == 2303
    assert text.skipped == chat.skipped == {DIVERGED: 5, EMPTY: 4}
    with gzip.open(path, "rt", encoding="utf-8") as file:
        whole = {row["chosen"] for row in map(json.loads, file)}
    for plain, turns in zip(text, chat, strict=True):
        assert isinstance(plain.prompt, str)
        assert plain.prompt.endswith("\n\nAssistant:")
        assert plain.prompt + plain.chosen in whole
        assert turns.chosen == plain.chosen.strip()
        names = {"user": "Human:", "assistant": "Assistant:"}
        said = [f"{names[m['role']]} {m['content']}" for m in as_messages(turns.prompt)]
        # Turns are stripped, and nothing else is lost.
        assert " ".join(" ".join(said).split()) == " ".join(plain.prompt.split()[:-1])


def test_the_public_name() -> None:
    import dspa_nn

    assert dspa_nn.load_triples is load_triples
    assert dspa_nn.PreferenceTriple is PreferenceTriple


# -- tables, saved data sets, paths ----------------------------------------------------------------

CHAT_ROWS = [{"prompt": [USER], "chosen": "Hello!", "rejected": "What."}]


def test_data_frames_and_arrow_tables() -> None:
    import pandas
    import pyarrow

    frame = pandas.DataFrame(ROWS)
    assert load_triples(frame) == TRIPLES
    assert load_triples(frame).source == "the DataFrame"
    assert load_triples(frame.set_index("score")) == TRIPLES
    assert load_triples(pyarrow.Table.from_pylist(ROWS)) == TRIPLES
    assert sentence(frame[["prompt"]]).startswith("the DataFrame, row 0: 'chosen' and 'rejected'")
    frame.loc[1, "chosen"] = None
    assert "'chosen' is null" in sentence(frame)
    assert sentence(frame[:0]).startswith("the DataFrame holds no triples (it is empty)")


def test_cells_that_became_arrays(tmp_path: Path) -> None:
    import numpy as np
    import pandas

    array = np.array([USER], dtype=object)
    assert load_triples([{**CHAT_ROWS[0], "prompt": array}]) == [CHAT]
    assert load_triples([(array, np.str_("Hello!"), np.str_("What."))]) == [CHAT]
    pandas.DataFrame(CHAT_ROWS).to_parquet(tmp_path / "a.parquet")
    back = pandas.read_parquet(tmp_path / "a.parquet")
    assert isinstance(back["prompt"][0], np.ndarray)
    assert load_triples(back) == [CHAT]
    both = [{"chosen": np.array([USER, GOOD]), "rejected": np.array([USER, BAD])}]
    assert load_triples(both) == [CHAT]
    assert "'chosen' is null" in sentence([{**ROWS[0], "chosen": float("nan")}])


def test_csv(tmp_path: Path) -> None:
    import pandas

    tricky = [{"prompt": 'A "quoted",\nbroken line', "chosen": "NA", "rejected": "[{no}]"}, *ROWS]
    wanted = [PreferenceTriple(*list(row.values())[:3]) for row in tricky]
    frame = pandas.DataFrame(tricky)
    frame.to_csv(tmp_path / "a.csv", index=False, encoding="utf-8-sig")
    frame.to_csv(tmp_path / "a.csv.gz")
    frame.to_csv(tmp_path / "a.tsv", sep="\t", index=False)
    for name in ("a.csv", "a.csv.gz", "a.tsv"):
        assert load_triples(tmp_path / name) == wanted
    pandas.DataFrame(CHAT_ROWS).to_csv(tmp_path / "b.csv", index=False)  # as Python writes a list
    assert load_triples(tmp_path / "b.csv") == [CHAT]
    text = json.dumps([USER])
    pandas.DataFrame([{**CHAT_ROWS[0], "prompt": text}]).to_csv(tmp_path / "c.csv", index=False)
    assert load_triples(tmp_path / "c.csv") == [CHAT]
    write(tmp_path / "d.csv", "prompt,chosen,rejected\nHi,,no\n")
    assert sentence(tmp_path / "d.csv").startswith("d.csv, row 0: the chosen response is empty")
    for damaged in ("", 'prompt,chosen\n"open'):
        assert sentence(write(tmp_path / "e.csv", damaged)).startswith("e.csv is no whole CSV file")


def test_a_folder_that_datasets_saved(tmp_path: Path) -> None:
    import datasets

    one = datasets.Dataset.from_list(ROWS)
    one.save_to_disk(str(tmp_path / "one"))
    assert load_triples(tmp_path / "one") == TRIPLES
    datasets.DatasetDict({"train": one, "test": one.select([0])}).save_to_disk(
        str(tmp_path / "two")
    )
    assert load_triples(str(tmp_path / "two"), split="test") == TRIPLES[:1]
    assert load_triples(tmp_path / "two").source == "two (train)"
    assert "has the splits 'train', 'test'" in sentence(tmp_path / "two", split="dev")
    (tmp_path / "one" / "state.json").write_text("{")
    assert sentence(tmp_path / "one").startswith("the data set in one cannot be read (")


def test_paths_of_every_kind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    write(tmp_path / "a.jsonl", lines(ROWS))
    assert load_triples("~/a.jsonl") == TRIPLES
    assert sentence("~/b.jsonl").startswith(f"there is no file b.jsonl in {tmp_path}")
    for path in ("a" * 5000, "a\0b", json.dumps(ROWS) * 40, "~nobody-of-this-name/a.jsonl"):
        assert "cannot be read as a path (" in sentence(path)


def test_json_that_python_cannot_hold(tmp_path: Path) -> None:
    deep = "[" * 100_000 + "]" * 100_000
    for name, text in (("a.json", deep), ("b.jsonl", f'{{"prompt": {deep}}}')):
        message = sentence(write(tmp_path / name, text))
        assert message.startswith(f"{name}, line 1: not JSON (nested too deeply)")
    message = sentence(write(tmp_path / "c.jsonl", '{"prompt": ' + "9" * 5000 + "}"))
    assert message.startswith("c.jsonl, line 1: not JSON (")


def test_what_is_wrong_with_a_response_is_said_of_it() -> None:
    assert sentence([{"chosen": [], "rejected": [USER, BAD]}]) == (
        "the list, row 0: 'chosen' is an empty list of messages, where at least one was expected: "
        "give a message, or leave this triple out"
    )
    row = {"chosen": [USER, GOOD], "rejected": [USER, {"role": "assistant"}]}
    assert "'content' of message 1 of 'rejected' is missing" in sentence([row])


def test_a_dict_of_columns_is_a_table_and_a_single_row_is_none() -> None:
    columns = {name: [row[name] for row in ROWS] for name in ("prompt", "chosen", "rejected")}
    assert list(load_triples(columns)) == TRIPLES
    chats = {
        "prompt": [[{"role": "user", "content": "Hi"}]] * 2,
        "chosen": ["a", "b"],
        "rejected": ["c", "d"],
    }
    assert [one.chosen for one in load_triples(chats)] == ["a", "b"]
    with pytest.raises(TripleError, match="columns of different lengths came"):
        load_triples({**columns, "prompt": ["one"]})
    row = {"chosen": [{"role": "assistant", "content": "a"}], "rejected": [], "prompt": "x"}
    for single in (ROWS[0], row):
        with pytest.raises(TripleError, match="put a single row in a list"):
            load_triples(single)


def test_a_csv_file_in_another_encoding_is_told_of(tmp_path: Path) -> None:
    path = tmp_path / "latin.csv"
    path.write_bytes("prompt,chosen,rejected\né,à,b\n".encode("latin-1"))
    with pytest.raises(TripleError, match="save it again, in UTF-8 and with a header"):
        load_triples(path)
