"""`dspa ndif`: the server and its models, and jobs that were submitted there."""

import json
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from dspa_nn.cli.options import AsJSON
from dspa_nn.errors import NDIFError
from dspa_nn.ndif import Job
from dspa_nn.ndif import doctor as look


def ndif(
    action: Annotated[
        Literal["check", "job"],
        typer.Argument(help="Look at the server, or ask after a job."),
    ] = "check",
    file: Annotated[
        Path | None, typer.Argument(metavar="FILE", help="Of a job: what Job.save wrote.")
    ] = None,
    timeout: Annotated[
        float, typer.Option(min=0.1, help="Seconds that the server may take for an answer.")
    ] = 10.0,
    as_json: AsJSON = False,
) -> None:
    """Look at the NDIF server and its models, or ask after a job that was submitted there.

    The server is the one that NDIF_HOST names, the key NDIF_API_KEY's; the key is not shown. Exits
    with 1 where a remote run could not work, or the job failed.
    """
    if action == "check":
        if file is not None:
            raise NDIFError(f"{file} came with check, which takes no file; write dspa ndif job")
        diagnosis = look(timeout=timeout)
        findings = [
            {"name": name, "well": well, "found": found} for name, well, found in diagnosis.findings
        ]
        told: Any = {"well": diagnosis.well, "findings": findings}
        typer.echo(json.dumps(told, indent=1) if as_json else diagnosis)
        if not diagnosis.well:
            raise typer.Exit(1)
        return
    if file is None:
        raise NDIFError("dspa ndif job came without a file; give what Job.save wrote")
    job = Job.load(file)
    status = job.status
    if as_json:
        about = {"job": job.job_id, "host": job.host, "status": status}
        typer.echo(json.dumps(about, indent=1))
        return
    typer.echo(f"job {job.job_id} on {job.host}: {status}")
    if status == "COMPLETED":
        typer.echo(f"Job.load({str(file)!r}).result() gives what its block saved")
