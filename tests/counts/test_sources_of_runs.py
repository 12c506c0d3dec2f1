"""Triples that a template refuses, templates that write the date, options refused early."""

import datetime
from pathlib import Path
from typing import Any

import pytest

from dspa_nn import DSPA, CountsError, FileError, MapError, PreferenceTriple, TripleError
from dspa_nn.counts import CountRun, dates, kept_date, merge_shards
from dspa_nn.counts.remote import RemoteRunner
from dspa_nn.errors import DSPAWarning
from dspa_nn.prompts import rendered_on
from tests import chat_zoo, steer_zoo, tiny

DATED = "{{ strftime_now('%d %b %Y') }}\n" + tiny.TEMPLATES["none"]


def over(template: str) -> DSPA:
    lab = steer_zoo.lab("llama", "add")
    tokenizer = tiny.tokenizer("none")
    tokenizer.chat_template = template
    return DSPA(
        tiny.nnsight_model(lab.hf, tokenizer), input_sae=lab.sae_in, output_sae=lab.sae_out,
        input_layer=1, output_layer=2,
    )  # fmt: skip


def triples(count: int = 6) -> list[PreferenceTriple]:
    drawn = [PreferenceTriple(**fields) for fields in tiny.triples(count)]
    return [
        PreferenceTriple([{"role": "user", "content": str(one.prompt)}], one.chosen, one.rejected)
        for one in drawn
    ]


def test_a_triple_that_the_template_refuses_is_named_or_left_out_and_counted() -> None:
    dspa = over(chat_zoo.GEMMA.replace("{{ bos_token }}", ""))
    source = triples()
    system = [{"role": "system", "content": "sun"}, {"role": "user", "content": "moon"}]
    source.insert(3, PreferenceTriple(system, "tea", "fog"))
    with pytest.raises(
        TripleError, match=r"^triple 3: the chat template refused .*System role.*refused='skip'"
    ):
        dspa.count(source, progress=False)
    counts = dspa.count(source, refused="skip", progress=False)
    assert counts.index.tolist() == [0, 1, 2, 4, 5, 6]
    assert counts.skipped == {"refused by the chat template or tokenizer": 1}
    map = dspa.fit(source, refused="skip", percentile=50, progress=False)
    assert map.provenance["skipped"] == counts.skipped
    with pytest.raises(CountsError, match=r"none of the 1 triples fits .* \(1 refused by"):
        dspa.count(source[3:4], refused="skip", progress=False)


class Tomorrow(datetime.date):
    @classmethod
    def today(cls) -> Any:
        return datetime.date(2031, 2, 3)


def test_a_run_goes_on_the_next_day_with_the_text_it_began_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dspa, source = over(DATED), triples()
    begun = dspa.count(source, checkpoint=tmp_path / "run", progress=False)
    first = CountRun(dspa, source)
    first.keep(tmp_path / "shards", shards=2, shard=0, progress=False)
    today = datetime.date.today().isoformat()
    assert begun.provenance["rendered_on"] == kept_date(tmp_path / "run") == today
    monkeypatch.setattr(dates, "date", Tomorrow)
    anew = dspa.count(source, progress=False)
    assert anew.provenance["rendered_on"] == "2031-02-03"
    assert anew.provenance["batch_plan"] != begun.provenance["batch_plan"]
    again = dspa.count(source, checkpoint=tmp_path / "run", progress=False)
    assert again.provenance == begun.provenance
    # Another shard of the same run, told where the first one lies; and one that is not told.
    kept = kept_date(tmp_path / "shards", tmp_path / "run")
    run = CountRun(dspa, source, rendered_on=kept)
    run.keep(tmp_path / "shards", shards=2, shard=1, progress=False)
    assert len(merge_shards(tmp_path / "shards")) == len(source)
    with pytest.raises(CountsError, match="another batch_plan, data_sha256, rendered_on"):
        CountRun(dspa, source).keep(tmp_path / "shards", shards=2, shard=1)


@pytest.mark.parametrize("text", ["", "[]", '{"rendered_on": "today"}', '{"rendered_on": null}'])
def test_a_day_that_cannot_be_read(tmp_path: Path, text: str) -> None:
    shard = tmp_path / "shard-00000-of-00002"
    shard.mkdir()
    (shard / "counts.json").write_text(text)
    assert kept_date(tmp_path) is None  # merging says what is wrong with the shard
    (tmp_path / "rendered.json").write_text(text)
    with pytest.raises(CountsError, match=r"rendered\.json does not hold the day that the run was"):
        kept_date(tmp_path)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("text", ["{", "[1]", '{"one": "id"}'])
def test_jobs_that_cannot_be_read_are_submitted_again(tmp_path: Path, text: str) -> None:
    (tmp_path / "jobs.json").write_text(text)
    nothing: Any = None
    runner = RemoteRunner(nothing, nothing, [], {}, tmp_path, nothing)
    with pytest.warns(DSPAWarning, match=r"jobs\.json cannot be read, so chunks that an earlier"):
        assert runner.resume([0]) == []


def test_other_templates_leave_no_date(tmp_path: Path) -> None:
    counts = over(tiny.TEMPLATES["none"]).count(triples(), checkpoint=tmp_path, progress=False)
    assert "rendered_on" not in counts.provenance
    assert [path.name for path in tmp_path.iterdir()] == ["chunk-00000"]


@pytest.mark.parametrize(
    "options",
    [
        {"gate": "actve"},
        {"percentile": 101},
        {"sparsify": "row"},
        {"prompt_tokens": "contents"},
        {"k_diff": 0},
        {"max_entries": 0},
    ],
)
def test_options_of_the_fit_are_refused_before_the_model_is_run(
    options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    dspa = over(tiny.TEMPLATES["none"])

    def count(*_: object, **__: object) -> Any:
        raise AssertionError("the model would have run")

    monkeypatch.setattr(dspa, "count", count)
    with pytest.raises(MapError, match=next(iter(options))):
        dspa.fit(triples(), **options)


def test_a_checkpoint_that_is_a_file_is_refused_before_the_model_is_run(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("")
    with pytest.raises(FileError, match=r"checkpoint is .*file, which is a file; give a folder"):
        over(tiny.TEMPLATES["none"]).fit(triples(), checkpoint=path)


@pytest.mark.parametrize(
    "written",
    [
        "{{ strftime_now('%d %b %Y') }}",
        "{% set form = '%d %b %Y' %}{{ strftime_now(form) }}",
        "{{ strftime_now('%d ' + '%b %Y') }}",
        "{{ strftime_now ( format='%d %b %Y' ) }}",
        "{% set now = strftime_now %}{{ now('%d %b %Y') }}",
    ],
)
def test_the_day_is_kept_however_a_template_asks_for_it(written: str) -> None:
    dspa = over(written + "\n" + tiny.TEMPLATES["none"])
    assert dates.today_for(dspa.facts.tokenizer)
    messages = [{"role": "user", "content": "sun"}]
    with rendered_on("2031-02-03"):
        text = dspa.render(messages).text
    today = dspa.render(messages).text
    assert text.startswith("03 Feb 2031")
    assert text[11:] == today[11:]


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("options", [{"strict": "x"}, {"progress": "x"}, {"remote": "yes"}])
def test_flags_of_other_types_are_refused_before_the_model_is_run(
    options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    dspa = over(tiny.TEMPLATES["none"])

    def run(*_: object, **__: object) -> Any:
        raise AssertionError("the model would have run")

    monkeypatch.setattr(CountRun, "_count_batches", run)
    with pytest.raises((MapError, CountsError), match=f"{next(iter(options))} is "):
        dspa.fit(triples(), **options)
