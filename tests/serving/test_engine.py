"""Requests that run together are answered as each is alone; who has gone frees its place."""

import queue
import threading
import time
import weakref
from functools import partial
from typing import Any

import pytest
import torch

from dspa_nn import MapError, ServingError
from dspa_nn.graph.rules import Rule
from dspa_nn.serving import Done, Engine, Piece, read_request
from dspa_nn.serving import answer as answer_module
from tests import serve_zoo, steer_zoo

HELLO = {"model": "warm", "messages": [{"role": "user", "content": "tea sea"}], "temperature": 0}


def told(events: "queue.Queue[Any]") -> tuple[str, Any]:
    """The text of an answer and how it ended."""
    text = ""
    while isinstance(event := events.get(timeout=60), Piece):
        text += event.text
    return text, event


def answers(engine: Engine, bodies: list[dict[str, Any]], together: bool) -> list[tuple[str, Any]]:
    """All answers: of one batch where they fit one, or one after the other."""
    found: list[Any] = []
    waiting: list[Any] = []
    for body in bodies:
        events: queue.Queue[Any] = queue.Queue()
        engine.submit(read_request(body), events.put)
        waiting.append(events)
        if not together:
            found.append(told(waiting.pop()))
    return found + [told(events) for events in waiting]


@pytest.mark.slow
def test_mixed_load_equals_single_runs() -> None:
    engine = serve_zoo.engine(window=0.2)
    bodies = serve_zoo.requests(24, engine.names)
    for body in bodies:
        body |= {"plan": True, "edits": True} if body["model"] != "unsteered" else {}
    try:
        batches: list[int] = []
        run = engine._run
        engine._run = lambda batch: (batches.append(len(batch)), run(batch))[1]
        mixed = answers(engine, bodies, together=True)
        assert batches == [8, 8, 8]
        single = answers(engine, bodies, together=False)
        assert batches[3:] == [1] * 24
    finally:
        engine.close()
    assert len({text for text, _ in single}) > 18  # the requests are of many kinds
    for (text, end), (wanted, wanted_end) in zip(mixed, single, strict=True):
        assert text == wanted
        assert (end.reason, end.completion_tokens) == (
            wanted_end.reason,
            wanted_end.completion_tokens,
        )
        alike(end.dspa, wanted_end.dspa)


def alike(found: Any, wanted: Any) -> None:
    """Equal but for the rounding of floats."""
    if isinstance(wanted, dict):
        assert found.keys() == wanted.keys()
        for key in wanted:
            alike(found[key], wanted[key])
    elif isinstance(wanted, list):
        assert len(found) == len(wanted)
        for one, other in zip(found, wanted, strict=True):
            alike(one, other)
    elif isinstance(wanted, float):
        assert found == pytest.approx(wanted, abs=1e-4)
    else:
        assert found == wanted


def test_an_answer_is_that_of_attach() -> None:
    engine = serve_zoo.engine()
    lab = steer_zoo.lab("llama", "add")
    body = HELLO | {"alpha": 0.5, "mode": "both", "max_tokens": 6, "edits": True, "plan": True}
    [(text, end)] = answers(engine, [body], together=False)
    engine.close()
    prompt = lab.dspa.render(HELLO["messages"])
    with lab.dspa.attach(lab.hf, lab.map, prompt=prompt, alpha=0.5, mode="both") as log:
        ids = lab.hf.generate(prompt.ids[None], max_new_tokens=6, do_sample=False)
    assert text == lab.tok.decode(ids[0, -6:], skip_special_tokens=True)
    wanted = [(edit.position, edit.latent, edit.after) for edit in log]
    assert [(one["position"], one["latent"], one["after"]) for one in end.dspa["edits"]] == wanted
    assert wanted
    plan = log.plans[0]
    assert [(one["latent"], one["score"]) for one in end.dspa["plan"]["ablate"]] == plan.ablate
    assert end.dspa["settings"] == log.options
    assert end.dspa["map"] == "warm"


class Slow:
    """Lets the model make one token at a time, when it is told to."""

    def __init__(self, engine: Engine) -> None:
        self.steps = threading.Semaphore(0)
        self.passes = 0
        self.handle = engine._model.register_forward_pre_hook(self._wait)

    def _wait(self, *_: Any) -> None:
        assert self.steps.acquire(timeout=30)
        self.passes += 1

    def go(self, steps: int = 1000) -> None:
        self.steps.release(steps)


def until(condition: Any) -> None:
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


def test_answers_that_nobody_waits_for_end_their_batch() -> None:
    engine = serve_zoo.engine(window=0.2)
    slow = Slow(engine)
    try:
        left: queue.Queue[Any] = queue.Queue()
        long = read_request(HELLO | {"max_tokens": 200})
        gone = [engine.submit(long, lambda event: None) for _ in range(3)]
        until(lambda: engine.load["running"] == 3)
        engine.submit(read_request(HELLO | {"max_tokens": 2}), left.put)
        waits = engine.submit(long, lambda event: None)
        assert engine.load == {"waiting": 2, "running": 3}
        waits.cancel()  # it never runs
        slow.go(3)
        until(lambda: slow.passes == 3)
        for answer in gone:
            answer.cancel()
        slow.go()
        text, end = told(left)
        assert (end.reason, len(text)) == ("length", 2)
        assert slow.passes <= 3 + 1 + 2  # of 200, and the two of the last one
        assert all(len(answer.made) <= 4 for answer in gone)
        assert not waits.made
    finally:
        slow.handle.remove()
        slow.go()
        engine.close()


def test_a_short_answer_does_not_wait_for_a_long_one() -> None:
    engine = serve_zoo.engine(window=0.2)
    slow = Slow(engine)
    try:
        short: queue.Queue[Any] = queue.Queue()
        long: queue.Queue[Any] = queue.Queue()
        engine.submit(read_request(HELLO | {"max_tokens": 30}), long.put)
        engine.submit(read_request(HELLO | {"max_tokens": 2}), short.put)
        until(lambda: engine.load["running"] == 2)
        slow.go(2)
        assert told(short)[1].completion_tokens == 2
        assert engine.load["running"] == 1
        slow.go()
        assert told(long)[1].completion_tokens > 2
    finally:
        slow.handle.remove()
        engine.close()


@pytest.mark.parametrize(
    ("size", "groups", "wanted"),
    [
        (4, [(1,), (2,), (3,), (4, 5), (6,), (7,), (8,)], [3, 4, 1]),
        (2, [(1, 2), (3,), (4, 5), (6,), (7, 8)], [2, 1, 2, 1, 2]),
        (2, [(1, 2, 3), (4,), (5, 6, 7, 8)], [2, 2, 2, 2]),
        (1, [(1, 2), (3, 4), (5,), (6, 7, 8)], [1] * 8),
    ],
)
def test_requests_of_one_group_are_of_one_batch(
    size: int, groups: list[tuple[int, ...]], wanted: list[int]
) -> None:
    engine = serve_zoo.engine(window=0.0, batch_size=size)
    lengths: list[int] = []
    run = engine._run
    engine._run = lambda batch: (lengths.append(len(batch)), run(batch))[1]
    slow = Slow(engine)
    one = read_request(HELLO | {"max_tokens": 1})
    order: list[int] = []

    def deliver(number: int, event: Any) -> None:
        order.extend([number] if isinstance(event, Done) else [])

    try:
        first = engine.submit(one, lambda event: None)  # the others wait for it
        until(lambda: engine.load["running"] == 1)
        for group in groups:
            engine.submit_together([(one, partial(deliver, number)) for number in group])
        slow.go()
        until(lambda: len(order) == 8)
    finally:
        slow.handle.remove()
        slow.go()
        engine.close()
    assert first.over
    assert order == [1, 2, 3, 4, 5, 6, 7, 8]
    assert lengths == [1, *wanted]


def test_a_pair_that_was_given_up_holds_no_place() -> None:
    engine = serve_zoo.engine(window=0.0, batch_size=2)
    lengths: list[int] = []
    run = engine._run
    engine._run = lambda batch: (lengths.append(len(batch)), run(batch))[1]
    slow = Slow(engine)
    one = read_request(HELLO | {"max_tokens": 1})
    try:
        engine.submit(one, lambda event: None)
        until(lambda: engine.load["running"] == 1)
        ends: queue.Queue[Any] = queue.Queue()
        engine.submit(one, ends.put)
        pair = engine.submit_together([(one, ends.put), (one, ends.put)])
        engine.submit(one, ends.put)
        for answer in pair:
            answer.cancel()
        assert engine.load == {"waiting": 2, "running": 1}
        slow.go()
        assert all(told(ends)[0] for _ in range(2))
    finally:
        slow.handle.remove()
        slow.go()
        engine.close()
    assert lengths == [1, 2]


def test_a_request_that_breaks_the_run_breaks_its_own_answer() -> None:
    engine = serve_zoo.engine(window=0.2)
    try:
        steerer = engine.ready.steerer("warm", {"alpha": 0.3})

        def broken(*_: Any) -> Any:
            raise ValueError("no plan today")

        steerer.select = Rule("select", "broken", broken, ())
        bodies = [HELLO | {"max_tokens": 3, "alpha": alpha} for alpha in (0.2, 0.3, 0.4)]
        found = answers(engine, bodies, together=True)
        assert [type(end) for _, end in found] == [Done, ServingError, Done]
        told = "the model could not answer: the select broken raised ValueError (no plan today)"
        assert str(found[1][1]) == told
        assert found[1][1].status == 500
        assert answers(engine, [HELLO | {"max_tokens": 3}], together=True)[0][0]
    finally:
        engine.close()


def test_a_run_that_failed_holds_no_memory_while_its_answers_are_tried_alone() -> None:
    engine = serve_zoo.engine(window=0.2)
    run, held, still_there = engine._run, list[Any](), list[bool]()

    def full(batch: Any) -> None:
        if len(batch) > 1:
            room = torch.zeros(3)
            held.append(weakref.ref(room))
            raise MemoryError
        still_there.append(held[0]() is not None)
        run(batch)

    engine._run = full
    try:
        found = answers(engine, [HELLO | {"max_tokens": 2}] * 2, together=True)
    finally:
        engine.close()
    assert [type(end) for _, end in found] == [Done, Done]
    assert still_there == [False, False]


@pytest.mark.parametrize("name", ["warm", "unsteered"])
def test_engines_of_one_model_take_turns(name: str) -> None:
    engines = [serve_zoo.engine(window=0.0) for _ in range(2)]
    bodies = [HELLO | {"model": name, "max_tokens": length} for length in (4, 8)]
    own = engines[0]._model.generation_config
    wanted = answers(engines[0], bodies, together=False)
    slow = Slow(engines[0])
    try:
        waiting = [queue.Queue[Any]() for _ in engines]
        for engine, body, events in zip(engines, bodies, waiting, strict=True):
            engine.submit(read_request(body), events.put)
            until(lambda engine=engine: engine.load["running"] == 1)
            time.sleep(0.05)
        slow.go(4)  # those of the first engine alone
        assert told(waiting[0]) == wanted[0]
        slow.go()
        assert told(waiting[1]) == wanted[1]
    finally:
        slow.handle.remove()
        slow.go()
        for engine in engines:
            engine.close()
    assert engines[0]._model is engines[1]._model
    assert engines[0]._model.generation_config is own


OF_THE_MODEL: dict[str, Any] = {
    "bad_words_ids": [[9]], "cache_implementation": "static", "do_sample": True,
    "max_length": 30, "max_time": 1e-4, "min_new_tokens": 400, "no_repeat_ngram_size": 1,
    "num_beams": 2, "num_return_sequences": 2, "repetition_penalty": 3.0,
    "return_dict_in_generate": True, "stop_strings": ["a"], "suppress_tokens": [5, 6, 7, 8, 9],
    "temperature": 0.1, "top_k": 1, "use_cache": False,
}  # fmt: skip


def test_the_generation_config_of_the_model_changes_no_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    engine = serve_zoo.engine(window=0.2)
    bodies = [HELLO | {"max_tokens": 12, "model": name} for name in ("unsteered", "warm")]
    bodies.append(bodies[0] | {"temperature": 1, "seed": 2})
    own = engine._model.generation_config
    try:
        wanted = answers(engine, bodies, together=True)
        for name, value in OF_THE_MODEL.items():
            monkeypatch.setattr(own, name, value)
        assert answers(engine, bodies, together=True) == wanted
    finally:
        engine.close()
    assert engine._model.generation_config is own


def test_an_answer_whose_run_ends_without_it_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = serve_zoo.engine()
    monkeypatch.setattr(engine._model, "generate", lambda **_: None)
    try:
        [(_, end)] = answers(engine, [HELLO | {"model": "unsteered"}], together=True)
    finally:
        engine.close()
    assert (end.status, end.code) == (500, "generation_failed")
    assert str(end).endswith("generate returned before the answer had ended")


@pytest.mark.parametrize("at", [Piece, Done, ServingError])
def test_a_receiver_that_raises_ends_its_own_answer(at: Any) -> None:
    engine = serve_zoo.engine(window=0.2)
    bodies = [HELLO | {"max_tokens": 3, "alpha": alpha} for alpha in (0.2, 0.3)]
    try:
        wanted = answers(engine, bodies, together=True)
        heard: list[Any] = []

        def gone(event: Any) -> None:
            heard.append(event)
            if isinstance(event, at):
                raise RuntimeError("nobody listens")

        if at is ServingError:
            steerer = engine.ready.steerer("warm", {"alpha": 0.4})
            steerer.select = Rule("select", "broken", lambda *_: heard[0], ())
        asked = read_request(bodies[0] | {"alpha": 0.4} if at is ServingError else bodies[0])
        broken = engine.submit(asked, gone)
        assert answers(engine, bodies, together=True) == wanted
        assert broken.over
        assert [type(event) for event in heard][-1] is at
    finally:
        engine.close()


def test_an_answer_that_cannot_be_told_of_leaves_the_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    engine = serve_zoo.engine(window=0.2)
    told_of = answer_module._edits_of

    def broken(log: Any) -> Any:
        if log.options["alpha"] == 0.3:
            raise ValueError("no table today")
        return told_of(log)

    bodies = [HELLO | {"max_tokens": 3, "alpha": alpha, "edits": True} for alpha in (0.2, 0.3, 0.4)]
    bodies[0]["max_tokens"] = 5
    try:
        wanted = answers(engine, bodies, together=True)
        monkeypatch.setattr(answer_module, "_edits_of", broken)
        found = answers(engine, bodies, together=True)
    finally:
        engine.close()
    assert (found[0], found[2]) == (wanted[0], wanted[2])
    assert str(found[1][1]) == "the model could not answer: ValueError: no table today"
    assert found[1][1].status == 500


def test_logits_that_are_not_finite_end_their_own_answer() -> None:
    engine = serve_zoo.engine(window=0.2)

    def broken(_: Any, given: Any, logits: Any) -> None:
        logits[0] = float("nan")

    bodies = [HELLO | {"max_tokens": 3, "model": name} for name in ("warm", "warm", "unsteered")]
    try:
        handle = engine._model.get_output_embeddings().register_forward_hook(broken)
        found = answers(engine, bodies, together=True)
        alone = answers(engine, bodies[2:], together=True)
        handle.remove()
    finally:
        engine.close()
    assert [type(end) for _, end in found] == [ServingError, Done, Done]
    error, plain = found[0][1], alone[0][1]
    assert str(error) == (
        "with alpha 0.2 the model's next-token logits are infinite or not a number; give a smaller "
        "alpha"
    )
    assert (error.status, error.param, error.code) == (400, "alpha", "not_finite")
    assert str(plain).startswith("without steering the model's next-token logits are infinite")
    assert plain.status == 500


def test_closing_ends_what_waits_and_runs() -> None:
    engine = serve_zoo.engine()
    slow = Slow(engine)
    running: queue.Queue[Any] = queue.Queue()
    waiting: queue.Queue[Any] = queue.Queue()
    engine.submit(read_request(HELLO | {"max_tokens": 100}), running.put)
    until(lambda: engine.load["running"] == 1)
    engine.submit(read_request(HELLO), waiting.put)
    engine.stop()
    for events in (running, waiting):
        error = told(events)[1]
        assert (error.status, str(error)) == (
            503,
            "the server is stopping; send the request again later",
        )
    slow.go()
    engine.close()
    assert slow.passes < 3
    slow.handle.remove()
    with pytest.raises(ServingError, match="the server is stopping"):
        engine.submit(read_request(HELLO), running.put)


def test_an_answer_that_was_not_steered_says_why() -> None:
    engine = serve_zoo.engine()
    nothing = HELLO | {"messages": [{"role": "user", "content": ""}], "max_tokens": 2}
    [(_, end)] = answers(engine, [nothing], together=False)
    engine.close()
    assert end.dspa["warnings"] == [
        "nothing was steered: no prompt token counts (the prompt is empty or BOS alone), so "
        "nothing is planned"
    ]


def test_what_an_engine_refuses() -> None:
    lab = steer_zoo.lab("llama", "add")
    with pytest.raises(ServingError, match="a map is named 'unsteered'; give it another name"):
        Engine(lab.dspa, {"unsteered": lab.map})
    for name in ("", " ", "warm ", "\twarm"):
        with pytest.raises(ServingError, match="expected a name without blanks around it, such as"):
            Engine(lab.dspa, {name: lab.map})
    refused: list[tuple[dict[str, Any], str]] = [
        ({"batch_size": 0}, "batch_size is 0; expected a whole number of at least 1"),
        ({"max_tokens": 0}, "max_tokens is 0; expected a whole number of at least 1"),
        ({"window": float("nan")}, "window is nan; expected a finite number"),
        ({"window": -1.0}, "window is -1; expected 0 to 60 seconds"),
        ({"window": 1e10}, r"window is 1e\+10; expected 0 to 60 seconds"),
    ]
    for options, said in refused:
        with pytest.raises(ServingError, match=said):
            Engine(lab.dspa, {"warm": lab.map}, **options)
    other = steer_zoo.lab("gemma2", "add")
    with pytest.raises(MapError, match="map warm: "):
        Engine(other.dspa, {"warm": lab.map})
    template, lab.tok.chat_template = lab.tok.chat_template, None
    try:
        with pytest.raises(ServingError, match="has no chat template, which says how messages"):
            Engine(lab.dspa, {})
    finally:
        lab.tok.chat_template = template


@pytest.mark.slow
def test_mixed_load_on_the_embedded_model() -> None:
    from dspa_nn import DSPA, demo_triples

    dspa = DSPA.from_preset("smollm2-135m-instruct")
    fitted = dspa.fit(demo_triples("fit")[:16])
    maps = {"warm": fitted, "less": -1.0 * fitted, "half": fitted.restrict(columns=range(2048))}
    engine = Engine(dspa, maps, window=0.5)
    try:
        bodies = [body | {"max_tokens": 12} for body in serve_zoo.requests(24, engine.names, 3)]
        mixed = answers(engine, bodies, together=True)
        single = answers(engine, bodies, together=False)
    finally:
        engine.close()
    assert [text for text, _ in mixed] == [text for text, _ in single]
    assert len({text for text, _ in single}) > 18
