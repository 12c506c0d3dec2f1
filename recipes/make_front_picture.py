r"""Make the pictures of the front page: the report of one steered answer, light and dark.

    python recipes/make_front_picture.py --out docs/figures

Fits on 250 of the demo's triples, answers one held-out piece of good news as README does, writes
the report, and has Chromium photograph it. The answers that the page quotes are printed. It takes
about three minutes on two cores.
"""

import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Annotated

import typer

import dspa_nn as dn
from dspa_nn.audit import report

PROMPT = "Good news: My wife and I are expecting twins."
SIZE = "1180,900"


def main(
    out: Annotated[Path, typer.Option(help="folder of the pictures")] = Path("docs/figures"),
    triples: Annotated[int, typer.Option(help="triples to fit on")] = 250,
) -> None:
    """Make the pictures of the front page."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        raise SystemExit("no Chromium on the PATH: install it, then run this again")
    dspa = dn.DSPA.from_preset("smollm2-135m-instruct")
    map = dspa.fit(dn.demo_triples()[:triples])
    prompt = dspa.render([{"role": "user", "content": PROMPT}])
    settings = {"max_new_tokens": 32, "do_sample": False}
    with dspa.model.generate(prompt.ids, **settings) as tracer:
        edits = dspa.apply(map, prompt=prompt, mode="both", alpha=0.4)
        ids = tracer.result.save()
    with dspa.model.generate(prompt.ids, **settings) as tracer:
        plain = tracer.result.save()
    for name, found in (("unsteered", plain), ("steered", ids)):
        print(f"{name}: {dspa.facts.tokenizer.decode(found[0, len(prompt.ids) :])}")
    print(edits)
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / "report.html"
        report(edits, page, dspa=dspa, map=map)
        for scheme, dark in (("light", "false"), ("dark", "true")):
            picture = out / f"report_{scheme}.png"
            subprocess.run(
                [
                    chromium, "--headless", "--no-sandbox", "--hide-scrollbars",
                    f"--blink-settings=preferredColorScheme={0 if dark == 'true' else 1}",
                    f"--window-size={SIZE}", f"--screenshot={picture.resolve()}", page.as_uri(),
                ],
                check=True, capture_output=True,
            )  # fmt: skip
            print(picture)
        shutil.copy(page, out / "report.html")


if __name__ == "__main__":
    typer.run(main)
