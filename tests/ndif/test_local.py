"""What is said of a remote run that fails, what travels, and what a job file holds."""

import io
import json
import pickle
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch

import dspa_nn as dn
from dspa_nn.errors import CountsError, DSPAError, MapError, NDIFError, SteeringError
from dspa_nn.extensions import Demixed, soft_gate
from dspa_nn.graph.blocks import without_autocast
from dspa_nn.graph.record import Record
from dspa_nn.ndif import predicted
from dspa_nn.ndif.backend import Backend
from dspa_nn.ndif.messages import explain
from dspa_nn.ndif.payload import check_fits, look_through, nbytes_of, too_large
from dspa_nn.steering import received
from tests import tiny
from tests.elsewhere import run_elsewhere

KEY = "0a1b2c3d-secret"
MODEL = (
    'nnsight.modeling.transformers.TransformersModel:{"repo_id": "a/b", "revision": null, '
    '"task": "text-generation"}'
)


class Answer(BaseHTTPRequestHandler):
    """Answers every request with the server's `status_code` and `detail`."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = json.dumps({"detail": self.server.detail}).encode()  # pyright: ignore
        self.send_response(self.server.status_code)  # pyright: ignore
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: Any) -> None:
        return


@pytest.fixture
def double() -> Iterator[Any]:
    server: Any = HTTPServer(("127.0.0.1", 0), Answer)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(
    ("status", "detail", "words"),
    [
        (401, "Missing or invalid API key.", "refused the API key"),
        (403, "Invalid API key.", "set NDIF_API_KEY to a key from"),
        (400, f"Invalid API key format: '{KEY}'.", "refused the API key"),
        (400, "Client nnsight version 0.1 is below the minimum", "does not take this client's"),
        (413, "Request Entity Too Large", "could not take a request of this size"),
        (400, "There was an error parsing the body", "could not take a request of this size"),
        (503, "compute backend is reconnecting", "has no compute behind it at the moment"),
        (500, "Internal server error.", "did not take the request"),
    ],
)
def test_what_the_server_answers_becomes_a_sentence(
    double: Any, status: int, detail: str, words: str
) -> None:
    from nnsight.schema.request import RequestModel

    double.status_code, double.detail = status, detail
    host = f"http://127.0.0.1:{double.server_port}"
    backend = Backend(MODEL, host=host, api_key=KEY)
    with pytest.raises(Exception) as raised:
        backend._post(RequestModel(model_key=MODEL), b"x")
    error = explain(raised.value, host, KEY, MODEL)
    assert isinstance(error, NDIFError)
    assert words in str(error)
    assert host in str(error)
    assert KEY not in str(error)
    assert error.passing == (status == 503)


def failed(text: str) -> DSPAError:
    from nnsight.intervention.backends.remote import RemoteError

    return explain(RemoteError(text), "http://ndif", "", MODEL)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("SteeringRefusal", SteeringError),
        ("MapRefusal", MapError),
        ("CountsRefusal", CountsError),
    ],
)
def test_refusals_come_home_as_they_are_raised_here(name: str, kind: type[Exception]) -> None:
    error = failed(f"Traceback:\n  x\ndspa_nn.graph.remote.{name}: alpha is -1, and must not be\n")
    assert type(error) is kind
    assert str(error) == "alpha is -1, and must not be"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Your job exceeded the execution timeout of 30s.", "generate fewer tokens"),
        ("Request cancelled by operator.", "was cancelled on the server"),
        ("Replica was evicted while processing your request.", "lost the job before it was done"),
        ("Error submitting request to model deployment.", "lost the job before it was done"),
        ("Your request payload could not be read (X: y).", "do not fit together"),
        ("Could not deploy.\nTypeError: no", "does not run a/b (text-generation, revision main)"),
        ("Something else", "ended the job: Something else"),
    ],
)
def test_what_became_of_a_job_becomes_a_sentence(text: str, words: str) -> None:
    error = failed(text)
    assert isinstance(error, NDIFError)
    assert words in str(error)
    assert "\n" not in str(error)


def test_a_block_that_raises_shows_its_own_line() -> None:
    text = (
        'Traceback (most recent call last):\n  File "/home/me/run.py", line 7, in <module>\n'
        "    y = x.nothing\nAttributeError: no attribute 'nothing'\n"
    )
    assert str(failed(text)) == (
        "the block raised AttributeError: no attribute 'nothing' on the server at "
        "/home/me/run.py, line 7: y = x.nothing"
    )


def test_no_server_is_one_sentence() -> None:
    error = explain(ConnectionRefusedError(111, "refused"), "http://127.0.0.1:9", "", MODEL)
    assert str(error).startswith("no NDIF server answers at http://127.0.0.1:9 (")
    assert isinstance(error, NDIFError)
    assert error.passing


@pytest.mark.parametrize(
    ("host", "here"),
    [
        ("http://127.0.0.1:9", True),
        ("http://localhost:8001", True),
        ("http://[::1]:8001", True),
        ("127.0.0.1:8001", True),
        ("https://api.ndif.us", False),
        ("https://localhost.example.org", False),
        ("http://10.0.0.7:8001", False),
        ("http://[::1", False),
        ("", False),
    ],
)
def test_a_server_is_started_on_this_machine_alone(host: str, here: bool) -> None:
    """`make ndif` starts a server on loopback, and is no remedy for a server elsewhere."""
    error = explain(ConnectionRefusedError(111, "refused"), host, "", MODEL)
    assert ("make ndif" in str(error)) is here
    assert "NDIF_HOST" in str(error)
    assert ("check the network" in str(error)) is not here


@pytest.fixture(scope="module")
def pair() -> tuple[Any, Any]:
    """A `DSPA` of a tiny model, and a map of it."""
    hf = tiny.model("llama")
    one, other = tiny.saes(hf, "topk")
    dspa = dn.DSPA(
        tiny.nnsight_model(hf, tiny.tokenizer("add")),
        input_sae=one, output_sae=other, input_layer=1, output_layer=2,
    )  # fmt: skip
    dense = torch.zeros(dspa.input_sae.width, dspa.output_sae.width)
    dense[3, 5], dense[7, 2] = 0.5, -0.25
    return dspa, dn.ConditionalDifferenceMap.from_dense(dense, provenance=dspa.provenance())


def test_only_rows_that_the_map_can_edit_travel(pair: tuple[Any, Any]) -> None:
    dspa, map = pair
    payload = dspa.payload(map)
    sizes = {part.name: part.nbytes for part in payload.parts}
    assert sizes["decoder, 2 rows"] == 2 * dspa.output_sae.d_model * 4
    assert "decoder, 2 rows" in str(payload)
    assert payload.fits
    found = look_through({"nested": [(dspa,), {"map": map}]})
    assert found.dspas == [dspa]
    assert found.maps == [map]
    assert found.columns is not None
    assert found.columns.tolist() == [2, 5]


def test_the_published_sizes() -> None:
    sixteen = sum(part.nbytes for part in predicted(3584, 16384, 16384, columns=159))
    assert sixteen == (2 * 16384 * 3586 + 159 * 3584) * 4
    one = sum(p.nbytes for p in predicted(3584, 131072, 131072, columns=159, encoders=1))
    assert one == (131072 * 3586 + 159 * 3584) * 4


def test_a_map_of_another_model_is_refused_before_sending(pair: tuple[Any, Any]) -> None:
    dspa, map = pair
    other = dn.ConditionalDifferenceMap.from_dense(
        map.to_dense(), provenance={**dspa.provenance(), "model_revision": "abc"}
    )
    shipment = look_through((dspa, other))
    check_fits(shipment)
    other.provenance["input_layer"] = 9
    said = r"fitted with input layer 9, but it is used with.* 1;"
    with pytest.raises(MapError, match=said):
        check_fits(shipment)
    with pytest.raises(MapError, match=said):
        dspa.payload(other)


@pytest.mark.slow
def test_what_is_sent_opens_where_the_toolkit_is_not(pair: tuple[Any, Any], tmp_path: Path) -> None:
    dspa, map = pair
    prompt = dspa.render("sun moon red")
    code = "print(*(type(one).__name__ for one in sent))"
    done = run_elsewhere(code, (dspa, map, prompt), tmp_path)
    assert done.stdout.split() == ["PortableDSPA", "PortableMap", "PortablePrompt"], done.stderr


def test_maps_and_prompts_are_themselves_where_the_toolkit_is(pair: tuple[Any, Any]) -> None:
    dspa, map = pair
    again = pickle.loads(pickle.dumps(map))
    assert type(again) is dn.ConditionalDifferenceMap
    assert torch.equal(again.to_dense(), map.to_dense())
    prompt = dspa.render("sun moon")
    assert torch.equal(pickle.load(io.BytesIO(pickle.dumps(prompt))).ids, prompt.ids)


def test_a_request_above_the_limit_is_refused_before_sending(
    pair: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    dspa, map = pair
    monkeypatch.setattr(Backend, "max_request_bytes", 100)
    monkeypatch.setattr(dspa.model, "to_model_key", lambda: MODEL, raising=False)
    with (
        pytest.raises(NDIFError, match=r"would be [\d,]+ bytes, and the server takes 100; nothing"),
        dspa.model.trace("sun", remote="http://127.0.0.1:9"),
    ):
        edits = dspa.apply(map, positions="all")  # noqa: F841


def test_the_refusal_offers_what_is_less(pair: tuple[Any, Any]) -> None:
    dspa, map = pair
    load = look_through((dspa, map))
    sizes = {part.name.split(",")[0]: part.nbytes for part in dspa.payload(map).parts}
    saes = sum(sizes[name] for name in ("input encoder", "output encoder", "decoder"))
    planned = max(sizes["input encoder"], sizes["output encoder"] + sizes["decoder"])
    narrow = sizes[f"map, {len(map.rows)} rows".split(",")[0]] + saes - saes // 2
    text = too_large(load, nbytes_of(load), nbytes_of(load) - 1)
    assert text == (
        f"the request would be {nbytes_of(load):,} bytes, and the server takes "
        f"{nbytes_of(load) - 1:,}; nothing was sent; less, before compression, is planned first "
        "(plan = dspa.plan(map, prompt, remote=True), then dspa.apply(plan)): "
        f"{planned:,} bytes, in bfloat16 (DSPA(..., payload_dtype='bfloat16'), named inexact): "
        f"{narrow:,} bytes, planned first, in bfloat16 (both of these): {planned // 2:,} bytes"
    )
    assert "none of that is sure to fit, as SAEs of up to 14 latents" in too_large(load, 9999, 1000)


def test_a_request_of_tensors_of_ones_own_has_nothing_less_to_offer() -> None:
    load = look_through({"tensor": torch.zeros(9)})
    assert too_large(load, 9999, 1000) == (
        "the request would be 9,999 bytes, and the server takes 1,000; nothing was sent"
    )


def test_the_tensors_of_an_extension_are_counted(pair: tuple[Any, Any]) -> None:
    dspa, map = pair
    demixed = Demixed(torch.arange(0, 4001, 4), torch.arange(4000) % dspa.input_sae.width)
    held = demixed.indptr.nbytes + demixed.latents.nbytes
    plain, payload = dspa.payload(map), dspa.payload(map, score=demixed, gate="soft_gate")
    (part,) = payload.parts[len(plain.parts) :]
    assert (part.name, part.nbytes) == ("extension, 2 tensors", held)
    assert payload.nbytes == plain.nbytes + held
    assert payload.measured - plain.measured >= held
    assert payload.estimate > plain.estimate
    # Before a block is sent its extensions are found in it, however they are held.
    found = look_through({"options": [{"score": demixed}, soft_gate], "steer": (dspa, map)})
    assert found.extensions == [demixed]
    assert nbytes_of(found) == payload.nbytes


def test_a_payload_counts_what_apply_takes(pair: tuple[Any, Any]) -> None:
    dspa, map = pair
    # The paper's rules, and functions, bring no tensors.
    assert len(dspa.payload(map, gate="density", edit=None).parts) == len(dspa.payload(map).parts)
    assert len(dspa.payload(map, gate=soft_gate).parts) == len(dspa.payload(map).parts)
    with pytest.raises(SteeringError, match=r"payload takes no gat \(did you mean 'gate'\?\)"):
        dspa.payload(map, gat=soft_gate)
    with pytest.raises(SteeringError, match="given gate without a map, and a counting job sends"):
        dspa.payload(gate=soft_gate)
    with pytest.raises(dn.ExtensionError, match="which is registered as a gate"):
        dspa.payload(map, score=soft_gate)


def test_a_planned_run_sends_no_input_encoder_and_the_planned_rows(pair: tuple[Any, Any]) -> None:
    dspa, map = pair
    plan = dspa.plan(map, "sun moon red blue", k_prompt=48)
    payload = dspa.payload(plan)
    names = [part.name for part in payload.parts]
    rows = len(plan.latents)
    assert names == ["output encoder", f"decoder, {rows} rows", f"plan, {rows} latents"]
    assert payload.parts[1].nbytes == rows * dspa.output_sae.d_model * 4
    found = look_through({"block": (dspa, [plan])})
    assert (found.plans, found.maps, found.planned) == ([plan], [], True)
    both = look_through((dspa, plan, map))
    assert not both.planned
    assert both.columns is not None
    assert both.columns.tolist() == [2, 5]


def test_the_estimate_of_what_is_sent(pair: tuple[Any, Any]) -> None:
    dspa, map = pair
    payload = dspa.payload(map)
    assert payload.compressed is not None
    assert payload.nbytes * 0.8 < payload.estimate - 30_000 < payload.nbytes * 1.05
    assert "as sent, compressed: estimated from samples" in str(payload)


def test_a_narrower_payload_is_cast_on_both_sides(pair: tuple[Any, Any]) -> None:
    dspa, _ = pair
    narrow = dn.DSPA(
        dspa.model, input_sae=dspa.input_sae, output_sae=dspa.output_sae, input_layer=1,
        output_layer=2, payload_dtype="bfloat16",
    )  # fmt: skip
    assert narrow.payload().nbytes * 2 == dspa.payload().nbytes
    assert narrow.input_sae.dtype == torch.bfloat16
    assert narrow.provenance()["payload_dtype"] == "bfloat16"
    latents, _ = narrow.output_sae.encoder.encode(torch.randn(3, dspa.facts.d_model))
    assert latents.dtype == torch.bfloat16


@pytest.mark.slow
def test_a_job_file_holds_no_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from nnsight import CONFIG

    monkeypatch.setattr(CONFIG.API, "APIKEY", KEY)
    dn.Job("f00", "http://127.0.0.1:9").save(tmp_path / "job.json")
    text = (tmp_path / "job.json").read_text()
    assert KEY not in text
    job = dn.Job.load(tmp_path / "job.json")
    assert (job.job_id, job.host) == ("f00", "http://127.0.0.1:9")
    with pytest.raises(NDIFError, match="no NDIF server answers"):
        _ = job.status
    with pytest.raises(NDIFError, match="ndif kill f00"):
        job.cancel()
    with pytest.raises(dn.FileError, match=r"nothing\.json holds no job"):
        dn.Job.load(tmp_path / "nothing.json")


def test_the_doctor_finds_no_server(monkeypatch: pytest.MonkeyPatch) -> None:
    from nnsight import CONFIG

    monkeypatch.setattr(CONFIG.API, "HOST", "http://127.0.0.1:9")
    monkeypatch.setattr(CONFIG.API, "APIKEY", KEY)
    found = dn.doctor()
    assert not found.well
    assert "no answer" in str(found)
    assert KEY not in str(found)


def test_received_logs_warn_as_local_ones() -> None:
    state = vars(Record({"alpha": 1.0, "mode": "ablate"}))
    with pytest.warns(dn.DSPAWarning, match="nothing was planned"):
        log = received(state)
    assert isinstance(log, dn.EditLog)
    assert log.steps == 0


def test_autocast_of_the_server_does_not_reach_the_saes(pair: tuple[Any, Any]) -> None:
    dspa, _ = pair
    encoder = dspa.output_sae.encoder
    hidden = torch.randn(4, dspa.facts.d_model)
    plain, _ = encoder.encode(hidden)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert not torch.equal(encoder.encode(hidden)[0], plain)
        with without_autocast(hidden):
            assert torch.equal(encoder.encode(hidden)[0], plain)
