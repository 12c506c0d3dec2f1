"""Everything that a reproduction takes, tiny and random: what a run of the real thing goes through.

The model is of the preset's architecture, its SAEs of the preset's type, the questions are our own
and few. No figure of it means anything.
"""

import json
import warnings
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from dspa_nn.files import write_atomically
from dspa_nn.imports import untyped
from dspa_nn.models import Preset
from dspa_nn.reproduce.pins import CHOICES
from dspa_nn.reproduce.settings import Settings, Sources
from dspa_nn.steering import DSPA
from dspa_nn.triples import demo_triples

LAYERS, WIDTHS = (1, 2), (48, 40)
SETTINGS = Settings(percentile=50.0, few=8, max_new_tokens=6, triples=16, batch_size=4)
_SPECIAL = ("<pad>", "<eos>", "<bos>")
_QUESTIONS: list[dict[str, Any]] = [
    {"question_id": 1, "category": "writing", "turns": ["Describe a lake.", "Shorter."]},
    {"question_id": 2, "category": "math", "turns": ["What is 2 + 2?", "And times 3?"]},
]
_ASKED = ("Say one.", "Name a fish.", "What is rain?", "Count to two.")


def tiny_model(preset: Preset) -> tuple[Any, Any]:
    """A random model of the preset's architecture with four decoder blocks, and a tokenizer."""
    transformers: Any = untyped("transformers")
    tokenizer = _tokenizer(preset)
    sizes = replace(
        preset.architecture, num_hidden_layers=4, hidden_size=32, intermediate_size=48,
        num_attention_heads=4, num_key_value_heads=2, head_dim=8, vocab_size=len(tokenizer),
        tie_word_embeddings=False,  # tied and random, it would say its last token for ever
    )  # fmt: skip
    config = replace(preset, architecture=sizes).config
    config.initializer_range = 0.3
    config.bos_token_id, config.eos_token_id = tokenizer.bos_token_id, tokenizer.eos_token_id
    config.pad_token_id = tokenizer.pad_token_id
    config._name_or_path = f"stand-in-{preset.name}"
    config._attn_implementation = "eager"  # which knows Gemma 2's soft-capping
    with _seeded(0):
        model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    return model.eval(), tokenizer


@contextmanager
def _seeded(seed: int) -> Generator[None]:
    generators: Any = torch.random
    with generators.fork_rng():
        generators.manual_seed(seed)
        yield


def _tokenizer(preset: Preset) -> Any:
    """A tokenizer of bytes, which takes any text; with a BOS where the model's has one."""
    tokenizers: Any = untyped("tokenizers")
    alphabet = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: index for index, token in enumerate([*_SPECIAL, *alphabet])}
    raw = tokenizers.Tokenizer(tokenizers.models.BPE(vocab=vocabulary, merges=[]))
    raw.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = tokenizers.decoders.ByteLevel()
    raw.add_special_tokens(list(_SPECIAL))
    with_bos = preset.architecture.family == "Gemma2"
    if with_bos:
        raw.post_processor = tokenizers.processors.TemplateProcessing(
            single="<bos> $A", special_tokens=[("<bos>", vocabulary["<bos>"])]
        )
    return untyped("transformers").PreTrainedTokenizerFast(
        tokenizer_object=raw, eos_token="<eos>", pad_token="<pad>", padding_side="left",
        clean_up_tokenization_spaces=False, **({"bos_token": "<bos>"} if with_bos else {}),
    )  # fmt: skip


def stand_in_dspa(preset: Preset) -> DSPA:
    """A tiny `DSPA` of the preset's architecture, SAE type and conversation format.

    >>> from dspa_nn.models import get_preset
    >>> stand_in_dspa(get_preset("qwen3-8b")).facts.model_id
    'stand-in-qwen3-8b'
    """
    model, tokenizer = tiny_model(preset)
    ids = torch.arange(len(_SPECIAL), len(tokenizer))[None, :64]
    with torch.no_grad():
        states = model(ids, output_hidden_states=True).hidden_states
    saes = [
        _sae(preset, layer, width, float(states[layer + 1].std()))
        for layer, width in zip(LAYERS, WIDTHS, strict=True)
    ]
    nnsight_model: Any = untyped("nnsight.modeling.transformers").TransformersModel
    return DSPA(
        nnsight_model(model, task="text-generation", tokenizer=tokenizer),
        input_sae=saes[0], output_sae=saes[1], input_layer=LAYERS[0], output_layer=LAYERS[1],
        template=preset.template, defaults=preset.defaults,
    )  # fmt: skip


def _sae(preset: Preset, layer: int, width: int, scale: float) -> Any:
    """A random SAE of the preset's type, on whose latents about a seventh fire."""
    noise = torch.Generator().manual_seed(layer)
    d_model = 32
    config: dict[str, Any] = {
        "architecture": preset.sae_type, "d_in": d_model, "d_sae": width, "dtype": "float32",
        "device": "cpu", "apply_b_dec_to_input": preset.architecture.family == "Qwen3",
        "normalize_activations": "none",
        "metadata": {"hook_name": f"blocks.{layer}.hook_resid_post"},
    }  # fmt: skip
    sae: Any = untyped("sae_lens").SAE.from_dict(config)
    values = {
        "W_enc": torch.randn(d_model, width, generator=noise) / d_model**0.5,
        "W_dec": torch.randn(width, d_model, generator=noise) / 3,
        "b_dec": torch.zeros(d_model),
        "b_enc": scale * (0.3 * torch.randn(width, generator=noise) - 1.0),
        "threshold": scale * 0.3 * torch.rand(width, generator=noise),
    }
    sae.load_state_dict(values)
    return sae.eval()


def stand_in_sources(folder: Path, preset: Preset, trained: Sequence[str] = ()) -> Sources:
    """Write the inputs of a stand-in: triples, questions, instructions, adapters in place of DPO.

    trained: slugs of rows for which an adapter of random weights is written, where PEFT is here.
    """
    triples = demo_triples()[: SETTINGS.triples]
    rows = [
        {"prompt": [dict(m) for m in one.messages], "chosen": one.chosen, "rejected": one.rejected}
        for one in triples
    ]
    _lines(folder / "triples.jsonl", rows)
    bench = folder / "mt_bench"
    _lines(bench / "question.jsonl", _QUESTIONS)
    _lines(
        bench / "reference_answer" / "gpt-4.jsonl",
        [{"question_id": 2, "choices": [{"turns": ["4", "12"]}]}],
    )
    _lines(bench / "judge_prompts.jsonl", _judge_prompts())
    asked = [
        {"instruction": text, "output": "yes", "dataset": "own", "generator": "reference"}
        for text in _ASKED
    ]
    write_atomically(folder / "alpaca_eval.json", json.dumps(asked))
    choices: dict[str, Path] = {}
    for number, task in enumerate(CHOICES):
        items = [
            {"query": f"Question {number}.{index}: {text}", "choices": ["yes", "no"], "gold": gold}
            for index, (text, gold) in enumerate(zip(_ASKED, (0, 1, 0, 1), strict=True))
        ]
        choices[task] = folder / f"{task}.jsonl"
        _lines(choices[task], items)
    return Sources(
        triples=str(folder / "triples.jsonl"), mt_bench=bench,
        alpaca_eval=folder / "alpaca_eval.json", choices=choices,
        trained={slug: _adapter(folder / slug, preset) for slug in trained if _has_peft()},
    )  # fmt: skip


def _judge_prompts() -> list[dict[str, Any]]:
    """Judge prompts in FastChat's four kinds, in our own few words."""
    fields = {"": "{question} {answer}", "math-": "{question} {ref_answer_1} {answer}"}
    turns = "{question_1} {answer_1} {question_2} {answer_2}"
    both = {"": turns, "math-": "{ref_answer_1} {ref_answer_2} " + turns}
    return [
        {
            "name": f"single-{kind}v1{ending}",
            "system_prompt": "Rate.",
            "prompt_template": texts[kind],
        }
        for ending, texts in (("", fields), ("-multi-turn", both))
        for kind in fields
    ]


def _has_peft() -> bool:
    try:
        untyped("peft")
    except ImportError:
        return False
    return True


def _adapter(folder: Path, preset: Preset) -> Path:
    """A LoRA of random weights, where a training recipe would have left a trained one."""
    if (folder / "adapter_config.json").is_file():  # which PEFT writes last
        return folder
    peft: Any = untyped("peft")
    model, _ = tiny_model(preset)
    # PEFT looks for a model of this name on the hub, and says that there is none.
    with _seeded(len(folder.name)), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        adapted = peft.get_peft_model(
            model,
            peft.LoraConfig(
                r=2,
                target_modules=["q_proj", "v_proj"],
                init_lora_weights=False,
                base_model_name_or_path=model.config._name_or_path,
                task_type="CAUSAL_LM",
            ),
        )
        adapted.save_pretrained(str(folder), save_embedding_layers=False)
    return folder


def _lines(path: Path, rows: list[dict[str, Any]]) -> None:
    write_atomically(path, "".join(json.dumps(row) + "\n" for row in rows))
