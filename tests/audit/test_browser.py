"""The report in a real Chromium, wide and narrow, light and dark: clicks, keys, contrast, speed.

Needs Chromium, Node, and the packages playwright-core and axe-core where NODE_PATH says; skipped
without them.
"""

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from dspa_nn.audit import LatentMeaning, Snippet, report
from tests import steer_zoo
from tests.audit.test_report import HOSTILE
from tests.steer_zoo import SETTINGS, by_nnsight

pytestmark = pytest.mark.slow

SCRIPT = Path(__file__).parent / "browser.js"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
# Of the page alone; a machine that runs other tests beside it may take longer once.
SECONDS, TRIES = 2.0, 3


def node(*given: object) -> str:
    done = subprocess.run(
        ["node", *map(str, given)], capture_output=True, text=True, check=False, timeout=570
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def opened(*files: Path, shots: str = "-") -> list[dict[str, Any]]:
    if CHROMIUM is None or shutil.which("node") is None:
        pytest.skip("no Chromium or no Node here")
    for name in ("playwright-core", "axe-core"):
        found = subprocess.run(
            ["node", "-e", f"require.resolve('{name}')"], capture_output=True, check=False
        )
        if found.returncode:
            pytest.skip(f"no {name}: npm install playwright-core axe-core, and name its NODE_PATH")
    return json.loads(node(SCRIPT, CHROMIUM, os.environ.get("DSPA_SHOTS", shots), *files))


def test_a_batch_is_looked_through_by_mouse_and_by_keys(tmp_path: Path) -> None:
    lab = steer_zoo.lab("llama", "add")
    run = by_nnsight(lab, [lab.ids(prompt) for prompt in lab.prompts(3)])
    hostile = LatentMeaning(
        promotes=(HOSTILE, "glad"), fires_on=("sun",), explanation=HOSTILE, category=HOSTILE,
        evidence=HOSTILE, source=HOSTILE, note=HOSTILE, reliable=False,
        snippets=(Snippet("the ", HOSTILE, " set", 2.0),),
    )  # fmt: skip
    latents = {latent for plan in run.log.plans for latent in plan.latents}
    plain = report(run.log, tmp_path / "plain.html", dspa=lab.dspa, map=lab.map)
    bad = report(
        run.log, tmp_path / "bad.html", dspa=lab.dspa, map=lab.map, title=HOSTILE,
        unsteered=[HOSTILE] * 3, meanings=dict.fromkeys(latents, hostile),
    )  # fmt: skip
    for one in opened(plain, bad):
        told = f"{one['file']} {one['scheme']} {one['width']}"
        tried = one["tried"]
        assert one["errors"] == [], told
        assert one["requests"] == [f"file://{one['file']}"], told
        assert one["scripts"] == 2, told
        assert (one["overflow"], one["overflowOpen"]) == (0, 0), told
        serious = [fault for fault in one["axe"] if fault["impact"] in ("serious", "critical")]
        assert serious == [], told
        assert tried["stops"] == 1, told  # one stop of the tab key for all tokens
        assert tried["clicked"].startswith("Token "), told
        assert "Latents edited here" in tried["shown"], told
        assert "Next tokens whose logits moved most" in tried["shown"], told
        assert tried["latent"].startswith("Output latent "), told
        assert len(tried["path"]) == 5, told
        assert tried["back"] == tried["clicked"], told
        assert tried["closed"], told
        assert tried["moved"], told
        assert tried["entered"].startswith("Token "), told
        assert tried["focus"] == "panel-title", told
        assert tried["strip"], told
        assert (tried["second"], tried["alone"], tried["first"]) == ("1", 1, "0"), told
        dark = sum(map(int, one["background"][4:-1].split(","))) < 3 * 64
        assert dark == (one["scheme"] == "dark"), told


def test_four_thousand_tokens_open_in_two_seconds(tmp_path: Path) -> None:
    lab = steer_zoo.lab("llama", "add")
    ids = [lab.ids("sun moon red " * 308)[:4000]]
    with lab.nn.trace(steer_zoo.padded(lab, ids)):
        log = lab.dspa.apply(lab.map, positions="all", **SETTINGS)
    path = report(log, tmp_path / "long.html", dspa=lab.dspa, map=lab.map)
    best: dict[tuple[str, int], float] = {}
    for _ in range(TRIES):
        for one in opened(path):
            assert one["tokens"] == 4000
            assert one["errors"] == []
            key = (one["scheme"], one["width"])
            best[key] = min(best.get(key, 99.0), one["seconds"])
        if max(best.values()) < SECONDS:
            break
    assert max(best.values()) < SECONDS, best
