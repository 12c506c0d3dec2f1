"""The training recipes: their losses by hand, and that they fall, resume and are saved."""

import importlib
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from dspa_nn import DSPAError
from tests import eval_zoo, tiny
from tests.conftest import REPOSITORY

# TRL and PEFT call it by its old name.
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*gradient_checkpointing:FutureWarning"),
    # PEFT looks on the hub for the config of a model that was made here.
    pytest.mark.filterwarnings("ignore:Could not find a config file:UserWarning"),
]


@pytest.fixture(scope="module")
def recipes() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(REPOSITORY / "recipes"))
        names = ("_training.rahf", "_training.run", "_training.texts", "_training.pad",
                 "train_dpo", "train_rahf", "train_sft")  # fmt: skip
        yield {name.removeprefix("_training."): importlib.import_module(name) for name in names}


def model(seed: int = 0) -> tuple[Any, Any]:
    built = tiny.model("llama", seed=seed, initializer_range=0.05, max_position_embeddings=2048)
    return built, tiny.tokenizer("markup")


def budget(recipes: Any, steps: int, **changes: Any) -> Any:
    given = {"epochs": 1.0, "steps": steps, "batch": 4, "tokens": 500, "save_every": 2, **changes}
    return recipes["run"].Budget(**given)


def same_batch(number: int = 4) -> list[Any]:
    return eval_zoo.triples(number)


@pytest.mark.slow
def test_dpo_falls_on_a_fixed_batch_and_is_an_adapter(recipes: Any, tmp_path: Path) -> None:
    settings = recipes["train_dpo"].Settings(lr=5e-3, dropout=0.0)
    losses = recipes["train_dpo"].train(
        *model(), same_batch(), tmp_path, settings, budget(recipes, 3)
    )
    assert losses[0] == pytest.approx(math.log(2), abs=1e-4)  # the model is its own reference
    assert losses[2] < losses[0]
    assert (tmp_path / "adapter_model.safetensors").is_file()
    told = [json.loads(line) for line in (tmp_path / "loss.jsonl").read_text().splitlines()]
    assert [entry["loss"] for entry in told] == losses
    run = json.loads((tmp_path / "run.json").read_text())
    assert run["origin"]["model_id"] == "tiny-llama"
    assert run["settings"]["beta"] == 0.1


@pytest.mark.slow
def test_all_weights_can_be_trained_too(recipes: Any, tmp_path: Path) -> None:
    settings = recipes["train_dpo"].Settings(lr=1e-3, full=True)
    losses = recipes["train_dpo"].train(
        *model(), same_batch(), tmp_path, settings, budget(recipes, 3)
    )
    assert losses[2] < losses[0]
    assert (tmp_path / "model.safetensors").is_file()


def cut_at_3(recipes: Any, train: Any) -> None:
    """Run what trains, and break off once step 3 is logged; the last checkpoint is of step 2."""

    class StopError(Exception):
        pass

    log = recipes["run"].LossLog
    plain = log.on_log

    def stopping(self: Any, args: Any, state: Any, control: Any, **rest: Any) -> None:
        plain(self, args, state, control, **rest)
        if state.global_step == 3:
            raise StopError

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(log, "on_log", stopping)
        with pytest.raises(StopError):
            train()


@pytest.mark.slow
@pytest.mark.parametrize("recipe", ["dpo", "rahf-2"])
def test_adapters_resume_where_they_were(recipes: Any, recipe: str, tmp_path: Path) -> None:
    def train(folder: str) -> list[float]:
        what = (*model(), same_batch(), tmp_path / folder)
        if recipe == "dpo":
            settings = recipes["train_dpo"].Settings(lr=5e-3, dropout=0.0)
            return recipes["train_dpo"].train(*what, settings, budget(recipes, 4))
        settings = recipes["rahf"].Step2(lr=1e-2, dropout=0.0)
        return recipes["train_rahf"].train_step_2(
            *what, settings, budget(recipes, 4, tokens=2000), [1, 2]
        )

    whole = train("whole")
    torch.rand(1)  # whatever was drawn before
    assert train("again") == whole
    cut_at_3(recipes, lambda: train("cut"))
    assert train("cut") == pytest.approx(whole, rel=1e-4)
    assert len((tmp_path / "cut" / "loss.jsonl").read_text().splitlines()) == 4


@pytest.mark.slow
def test_sft_falls_and_resumes_where_it_was(recipes: Any, tmp_path: Path) -> None:
    settings = recipes["train_sft"].Settings(lr=1e-2, warm_up=0)
    train = recipes["train_sft"].train
    whole = train(*model(), same_batch(), tmp_path / "whole", settings, budget(recipes, 4))
    assert whole[3] < whole[0]

    cut_at_3(recipes, lambda: train(
        *model(), same_batch(), tmp_path / "cut", settings, budget(recipes, 4)
    ))  # fmt: skip
    resumed = train(*model(), same_batch(), tmp_path / "cut", settings, budget(recipes, 4))
    assert resumed == pytest.approx(whole, rel=1e-5)
    with pytest.raises(DSPAError, match="holds a run of other settings, data or weights"):
        train(*model(1), same_batch(), tmp_path / "cut", settings, budget(recipes, 4))


def test_small_updates_of_all_weights_are_not_lost_in_bfloat16(
    recipes: Any, tmp_path: Path
) -> None:
    own, tokenizer = model()
    half = own.to(torch.bfloat16)
    before = half.model.embed_tokens.weight.detach().clone().float()
    settings = recipes["train_sft"].Settings(lr=1e-6, warm_up=0)
    recipes["train_sft"].train(
        half, tokenizer, same_batch(), tmp_path, settings, budget(recipes, 1)
    )
    after = half.model.embed_tokens.weight.detach()
    assert after.dtype == torch.float32
    assert not torch.equal(before, after)


def test_sft_texts_are_the_papers_format(recipes: Any) -> None:
    _, tokenizer = model()
    triple: Any = eval_zoo.triples(5)[4]  # with an earlier exchange
    (ids,) = recipes["texts"].demonstrations(tokenizer, [triple], recipes["texts"].Room(10**6))
    text = tokenizer.decode([*ids.prompt, *ids.response])
    roles = [message["role"] for message in triple.prompt]
    assert roles == ["user", "assistant", "user"]
    first, second, third = (message["content"] for message in triple.prompt)
    assert text == (
        f"Human: {first}\n\nAssistant: {second}<|im_end|>\n\nHuman: {third}\n\n"
        f"Assistant: {triple.chosen}<|im_end|>"
    )


@pytest.mark.slow
def test_step_1_falls_and_its_loss_is_the_formula(recipes: Any, tmp_path: Path) -> None:
    rahf, texts = recipes["rahf"], recipes["texts"]
    own, tokenizer = model()
    triples = same_batch(2)
    rows = texts.contrasts(tokenizer, triples, recipes["texts"].Room(10**6))
    assert len(rows) == 4
    for normalise in ("response", "positions"):
        settings = rahf.Step1(normalise=normalise)
        total, likely = 0.0, []
        width = max(
            len(ids.prompt) + len(ids.response) for row in rows for ids in (row.own, row.other)
        )
        tokens = 0
        for row in rows:
            pair = []
            for ids in (row.own, row.other):
                whole = torch.tensor([[*ids.prompt, *ids.response]])
                with torch.no_grad():
                    log_probs = own(whole).logits[0].log_softmax(-1)
                places = range(len(ids.prompt), whole.shape[1])
                said = sum(float(log_probs[at - 1, whole[0, at]]) for at in places)
                pair.append(said / (len(places) if normalise == "response" else width - 1))
                if ids is row.own:
                    total -= said
                    tokens += len(places)
            likely.append(pair)
        q = [math.exp(a) / (math.exp(a) + math.exp(b)) for a, b in likely]
        contrast = sum(-0.8 * math.log(one) - 0.2 * math.log(1 - one) for one in q) / len(q)
        trainer = rahf.Step1Trainer(
            own, recipes["run"].training_arguments(tmp_path, budget(recipes, 1)),
            train_dataset=rows, tokenizer=tokenizer, settings=settings,
        )  # fmt: skip
        got = trainer.compute_loss(own, trainer.data_collator(rows))
        assert float(got.detach()) == pytest.approx(total / tokens + contrast, rel=1e-5)
    losses = recipes["train_rahf"].train_step_1(
        *model(), triples, tmp_path / "run", rahf.Step1(lr=1e-2, warm_up=0),
        budget(recipes, 3, tokens=2000),
    )  # fmt: skip
    assert losses[2] < losses[0]
    assert (tmp_path / "run" / "model.safetensors").is_file()


@pytest.mark.slow
def test_step_2_falls_and_its_targets_are_the_formula(recipes: Any, tmp_path: Path) -> None:
    rahf, texts = recipes["rahf"], recipes["texts"]
    triples, layers = same_batch(3), [1, 2]
    own, tokenizer = model()
    rows = texts.stimuli(tokenizer, triples, recipes["texts"].Room(10**6))

    def states(ids: Any, layer: int) -> torch.Tensor:
        whole = torch.tensor([[*ids.prompt, *ids.response]])
        with torch.no_grad():
            found = own(whole, output_hidden_states=True).hidden_states[layer + 1][0]
        return found[-len(ids.response) :]

    distances = []
    for layer in layers:
        for row in rows:
            base, good, bad = (states(ids, layer) for ids in (row.plain, row.good, row.bad))
            distances.append((5 * (good - bad)).norm(dim=-1))  # the adapter begins at nothing
            assert len(base) == len(good) == len(bad)
    settings = rahf.Step2(lr=1e-2, dropout=0.0)
    losses = recipes["train_rahf"].train_step_2(
        *model(), triples, tmp_path, settings, budget(recipes, 3, tokens=2000, batch=3), layers
    )
    assert losses[0] == pytest.approx(float(torch.cat(distances).mean()), rel=1e-3)
    assert losses[2] < losses[0]
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    assert config["layers_to_transform"] == [0, 1, 2]
    assert (config["r"], config["lora_alpha"]) == (8, 16)


def test_padding_alone_can_be_masked_as_the_fork_has_it(recipes: Any, tmp_path: Path) -> None:
    from peft import get_peft_model

    rahf, texts = recipes["rahf"], recipes["texts"]
    own, tokenizer = model()
    adapted = get_peft_model(own, importlib.import_module("_training.adapter").lora(own, 2, 2, 0.0))
    rows = texts.stimuli(tokenizer, same_batch(2), texts.Room(10**6))
    for masked, wanted in (
        ("response", sum(len(row.plain.response) for row in rows)),
        ("padding", sum(len(row.plain.response) + len(row.plain.prompt) for row in rows)),
    ):
        trainer = rahf.Step2Trainer(
            adapted, recipes["run"].training_arguments(tmp_path, budget(recipes, 1)),
            train_dataset=rows, tokenizer=tokenizer, settings=rahf.Step2(masked=masked), layers=[1],
        )  # fmt: skip
        inputs = trainer.data_collator(rows)
        parts = {
            name: {key[len(name) + 1 :]: value for key, value in inputs.items()
                   if key.startswith(f"{name}_")}
            for name in ("plain", "good", "bad")
        }  # fmt: skip
        _, where = trainer.targets(adapted, parts)
        assert int(where.sum()) == wanted


def test_target_layers_lie_where_the_papers_do(recipes: Any) -> None:
    assert recipes["rahf"].default_targets(26) == [8, 10, 12, 14]
    assert recipes["rahf"].default_targets(4) == [1, 3]


def test_the_defaults_are_the_papers(recipes: Any) -> None:
    one, two = recipes["rahf"].Step1(), recipes["rahf"].Step2()
    assert (one.lr, one.warm_up, one.own_weight, one.other_weight) == (2e-5, 0.1, 0.8, 0.2)
    assert (two.lr, two.factor, two.rank, two.alpha, two.dropout, two.last_positions) == (
        3e-4, 5.0, 8, 16, 0.05, 512,
    )  # fmt: skip
    dpo = recipes["train_dpo"].Settings()
    assert (dpo.lr, dpo.beta) == (5e-6, 0.1)


def test_a_checkpoint_that_was_cut_off_while_it_was_written_is_passed_over(
    recipes: Any, tmp_path: Path
) -> None:
    last_whole = recipes["run"].last_whole
    assert last_whole(tmp_path / "none") is None
    for step, state in ((2, '{"global_step": 2}'), (10, '{"global_step": 10}'), (12, '{"glob')):
        (tmp_path / f"checkpoint-{step}").mkdir()
        (tmp_path / f"checkpoint-{step}" / "trainer_state.json").write_text(state)
    (tmp_path / "checkpoint-14").mkdir()
    assert last_whole(tmp_path) == str(tmp_path / "checkpoint-10")


def test_a_source_without_triples_is_one_sentence(recipes: Any, tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    path.write_text(json.dumps({"prompt": "a", "chosen": "b", "rejected": "c"}) + "\n")
    with pytest.raises(DSPAError, match="holds no triple from row 5 on; check the path"):
        recipes["run"].take(str(path), 3, 5)
    with pytest.raises(DSPAError, match="no triple fits 2 tokens; allow more with --max-tokens"):
        recipes["texts"].preferences(model()[1], eval_zoo.triples(1), recipes["texts"].Room(2))


def test_what_is_wrong_with_the_input_is_one_sentence(recipes: Any, tmp_path: Path) -> None:
    run, rahf = recipes["run"], recipes["rahf"]
    path = tmp_path / "t.jsonl"
    path.write_text(json.dumps({"question": "a", "good": "b"}) + "\n")
    with pytest.raises(DSPAError, match="where both responses were expected: rename the columns"):
        run.take(str(path), 3)
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(DSPAError, match="holds an adapter, and a model was expected: give the"):
        run.load(str(tmp_path))
    with pytest.raises(DSPAError, match=r"there is no model .*: give --model a folder"):
        run.load(str(tmp_path / "absent"))
    assert rahf.read_targets("3, 1", 4) == [1, 3]
    assert rahf.read_targets("", 4) == [1, 3]
    for wrong in ("4", "one", "1,"):
        with pytest.raises(DSPAError, match="and the model has layers 0 to 3: give --targets"):
            rahf.read_targets(wrong, 4)


def test_the_recipes_share_their_options_and_end_in_a_sentence(
    recipes: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "tiny-llama"
    own, tokenizer = model()
    own.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    path = tmp_path / "t.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in tiny.triples(4)))
    options = importlib.import_module("_training.options")

    def start(*words: str) -> None:
        given = ["train_sft.py", str(path), "--model", str(folder), "--out", str(tmp_path / "o")]
        monkeypatch.setattr("sys.argv", [*given, "--steps", "1", "--accumulate", "1", *words])
        options.start(recipes["train_sft"].main)

    with pytest.raises(SystemExit) as ended:
        start()
    assert ended.value.code in (None, 0)
    assert len((tmp_path / "o" / "loss.jsonl").read_text().splitlines()) == 1
    with pytest.raises(SystemExit, match=r"other settings.*\(lr was 2e-05 and is 0.1\); give"):
        start("--lr", "0.1")
    for wrong in ("--steps", "--batch", "--triples"):
        with pytest.raises(SystemExit) as ended:
            start(wrong, "0")
        assert ended.value.code == 2
    with pytest.raises(SystemExit, match="TripleError: no triple fits 3 tokens; allow more with"):
        start("--max-tokens", "3", "--out", str(tmp_path / "p"))
