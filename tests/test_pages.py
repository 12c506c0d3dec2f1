"""The code in README and in the pages runs as it is printed, on the embedded model."""

import copy
import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import REPOSITORY

pytestmark = pytest.mark.slow

# Those on a GPU, on NDIF and on the hub's SAEs need what is not here.
PAGES = (
    "README.md", "docs/index.md", "docs/quickstart.md", "docs/choose.md", "docs/demo.md",
    "docs/api/costs.md", "docs/measures.md", "docs/theory.md",
    *(f"docs/howto/{name}.md" for name in ("audit", "batches", "chat", "conversations", "extend",
                                           "files", "hooks", "latents", "methods", "personas",
                                           "shards", "sums", "trace", "triples")),
)  # fmt: skip
# Fewer triples than a user would fit on, and fewer tokens.
SHORTER = (
    ("limit=250", "limit=6"),
    ("triples[:200]", "triples[:4]"),
    ("triples[200:250]", "triples[4:6]"),
    ("demo_triples()[:250], progress", "demo_triples()[:8], progress"),
    ("demo_triples()[:250]", "demo_triples()[:6]"),
    ('demo_triples(preference="register")[:250]', "demo_triples()[:6]"),
    ("max_new_tokens=32", "max_new_tokens=4"),
    ("dspa_nn/assets/demo_triples.jsonl", "triples.jsonl"),
)


@pytest.fixture(scope="module")
def scene(embedded: str) -> dict[str, Any]:
    """What the pages take as given."""
    import dspa_nn as dn
    from dspa_nn.counts import merge_shards, shard_folder

    dspa = dn.DSPA.from_preset("smollm2-135m-instruct")
    triples = dn.load_triples(REPOSITORY / "dspa_nn/assets/demo_triples.jsonl", limit=6)
    counts = dspa.count(triples, progress=False)
    early_map = counts.fit(percentile=50)
    late, late_map = copy.copy(dspa), copy.copy(early_map)
    late.output_layer, late_map.provenance = 26, {}  # the SAE is of layer 24, and as wide
    return {
        "dn": dn,
        "dspa": dspa,
        "early": dspa,
        "late": late,
        "early_map": early_map,
        "late_map": late_map,
        "triples": triples,
        "counts": counts,
        "map": counts.fit(percentile=50),
        "prompt": dspa.render(triples[0].prompt),
        "first": counts.subset([0, 1]),
        "second": counts.subset([2, 3]),
        "third": counts.subset([4, 5]),
        "model": dspa.model,
        "hf_model": dspa.model._module,
        "tokenizer": dspa.model.tokenizer,
        "conversations": [triple.prompt for triple in triples[:2]],
        "lengths": [(20, 30, 30)],
        "shard_folder": shard_folder,
        "merge_shards": merge_shards,
    }


def blocks(page: str) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", (REPOSITORY / page).read_text(), re.M | re.S)


@pytest.mark.filterwarnings("ignore::dspa_nn.DSPAWarning")  # 6 triples may steer nothing
@pytest.mark.parametrize("page", PAGES)
def test_a_page_runs(
    page: str, scene: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    rows = [{**vars(triple), "prompt": list(triple.prompt)} for triple in scene["triples"]]
    for name in ("triples.jsonl", "preferences.jsonl"):
        Path(name).write_text("\n".join(json.dumps(row) for row in rows))
    given = dict(scene)
    if page == "docs/howto/shards.md":  # it counts shard 3 of 8, and merges all
        for shard in range(8):
            if shard != 3:
                part = scene["dspa"].count(scene["triples"], shards=8, shard=shard, progress=False)
                part.save(scene["shard_folder"]("counts", shard, 8))
    assert blocks(page)
    for number, block in enumerate(blocks(page)):
        for long, short in SHORTER:
            block = block.replace(long, short)
        # nnsight reads the source of a tracing context, so that it must lie in a file.
        file = tmp_path / f"block_{number}.py"
        file.write_text(block)
        exec(compile(block, str(file), "exec"), given)


def test_every_page_with_code_is_run_or_known_not_to() -> None:
    pages = [
        path.relative_to(REPOSITORY).as_posix()
        for path in (REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").rglob("*.md")))
    ]
    # They need a GPU, a server, a judge, other people's harnesses, or files that are not here.
    names = ("alpaca_eval", "gpu", "hub", "inspect", "layers", "lm_eval", "ndif", "saes", "serve")
    elsewhere = {f"docs/howto/{name}.md" for name in names}
    elsewhere |= {"docs/published.md", "docs/remote.md"}
    elsewhere |= {"docs/training.md"}  # what training left
    assert {page for page in pages if blocks(page)} - elsewhere == set(PAGES)
