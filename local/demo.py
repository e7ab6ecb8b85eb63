"""`make demo`: all of berth on this machine, without Docker and without AWS.

It starts the local SageMaker, uploads handwritten digits to its S3, searches for hyperparameters
with a tuning job, trains with the best ones, deploys the model, and invokes the endpoint with plain
boto3. Each step prints the `berth` command that it runs.
"""

import argparse
import json
import os
import random
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from local.emulator.credentials import credentials
from local.emulator.home import Home

BUCKET = "berth-demo"
DATA = f"s3://{BUCKET}/digits"
SEARCHED = ("learning_rate=0.001:0.02:log", "weight_decay=0.001:1:log")
TRIALS = ("--jobs", "6", "--parallel", "2")
FIXED = {
    "arch": "efficientnet_lite0",
    "weights": "imagenet",
    "freeze": "true",
    "image_size": 64,
    "augment": "none",
}
"""A head on a network whose ImageNet weights need no download, so its features are computed once.

No augmentation: a mirrored digit is not the same digit.
"""
TRIAL_EPOCHS = 10
EPOCHS = 30
SHOWN = 10
"""Test images sent to the endpoint, one per request."""


class DemoError(Exception):
    """A step failed; the message is one line that names it."""


class Demo:
    """The demo; the local SageMaker's home, the digits and the results all lie in `folder`."""

    def __init__(self, folder: Path, seed: int, console: Console) -> None:
        self._folder, self._seed, self._console = folder, seed, console
        self._environment = {
            **os.environ,
            "BERTH_HOME": str(folder / "home"),
            "BERTH_WHERE": "local",
            "BERTH_EXECUTOR": "process",
            "BERTH_BUCKET": BUCKET,
        }

    def run(self) -> None:
        """Empty the folder, then run every step.

        Raises:
            DemoError: a step failed.
        """
        started = time.monotonic()
        if (self._folder / "home" / "server.json").exists():
            self._run_command("down")
        shutil.rmtree(self._folder, ignore_errors=True)
        digits, output = self._folder / "digits", self._folder / "training"
        self._heading("1. start the local SageMaker")
        self._run_command("up", "--port", "0")
        try:
            self._heading("2. upload handwritten digits to S3")
            self._run_command("data", "fetch", "digits", str(digits))
            self._run_command("data", "upload", str(digits), "--prefix", "digits")
            self._heading("3. tune: 6 trials, 2 at a time")
            self._tune(self._folder / "tuning")
            self._heading("4. train with the best hyperparameters")
            chosen = ("--from-tuning", "demo-tuning", "-p", f"epochs={EPOCHS}")
            naming = ("--name", "demo-training", "--output-dir", str(output))
            self._run_command("train", DATA, *chosen, *naming)
            self._heading("5. deploy")
            self._run_command("deploy", "demo", "--job", "demo-training")
            self._heading("6. invoke the endpoint with plain boto3")
            right = self._invoke(digits / "test")
            self._run_command("delete", "demo", "--yes")
        finally:
            self._heading("7. stop the local SageMaker")
            self._run_command("down")
        self._summarize(output, right, time.monotonic() - started)

    def _tune(self, output: Path) -> None:
        options = [
            *(word for name in SEARCHED for word in ("--range", name)),
            *(word for name, value in FIXED.items() for word in ("-p", f"{name}={value}")),
            *("-p", f"epochs={TRIAL_EPOCHS}", "-p", f"seed={self._seed}"),
            *(*TRIALS, "--seed", str(self._seed)),
        ]
        self._run_command(
            "tune", DATA, "--name", "demo-tuning", *options, "--output-dir", str(output)
        )

    def _run_command(self, *arguments: str) -> None:
        """Print a `berth` command and run it."""
        self._console.print(f"[bold]$ berth {shlex.join(arguments)}[/bold]", soft_wrap=True)
        command = [sys.executable, "-m", "local.cli", *arguments]
        if subprocess.run(command, env=self._environment, check=False).returncode:
            raise DemoError(f"berth {arguments[0]} failed: see above")

    def _invoke(self, test: Path) -> int:
        """Send test images, print the predictions, and return how many were right."""
        import boto3

        server = json.loads((self._folder / "home" / "server.json").read_text(encoding="utf-8"))
        key = credentials(Home(self._folder / "home"))
        self._console.print(f'client = boto3.client("sagemaker-runtime", "{server["url"]}", …)')
        client = boto3.client(
            "sagemaker-runtime",
            endpoint_url=server["url"],
            region_name="us-east-1",
            aws_access_key_id=key.key_id,
            aws_secret_access_key=key.secret,
        )
        table = Table("image", "truth", "prediction", "probability", "ms")
        right = 0
        for image in random.Random(self._seed).sample(sorted(test.rglob("*.png")), SHOWN):  # noqa: S311
            before = time.monotonic()
            response: dict[str, Any] = client.invoke_endpoint(
                EndpointName="demo",
                ContentType="image/png",
                Accept="application/json",
                Body=image.read_bytes(),
            )
            best = json.loads(response["Body"].read())["predictions"][0]
            milliseconds = 1000 * (time.monotonic() - before)
            truth = image.parent.name
            right += best["label"] == truth
            colour = "green" if best["label"] == truth else "red"
            table.add_row(
                image.name,
                truth,
                f"[{colour}]{best['label']}[/{colour}]",
                f"{best['probability']:.4f}",
                f"{milliseconds:.0f}",
            )
        self._console.print(table)
        return right

    def _summarize(self, output: Path, right: int, seconds: float) -> None:
        (report,) = output.rglob("evaluation.json")
        evaluation = json.loads(report.read_text(encoding="utf-8"))
        self._heading("done")
        self._console.print(
            f"test accuracy {evaluation['accuracy']:.4f} on {evaluation['images']} images; "
            f"the endpoint got {right} of {SHOWN} right; {seconds:.0f} s in total"
        )
        for what, where in (
            ("tuning report", self._folder / "tuning" / "tuning.html"),
            ("model and plots", output),
        ):
            self._console.print(f"{what}: {where}", soft_wrap=True)

    def _heading(self, title: str) -> None:
        self._console.rule(title)


def main() -> None:
    """Run the demo; if a step fails, print one line and exit with status 1."""
    parser = argparse.ArgumentParser(prog="python -m local.demo", description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path(".berth/demo"), help="working folder")
    parser.add_argument("--seed", type=int, default=0, help="seed of tuning and training")
    arguments = parser.parse_args()
    console = Console()
    try:
        Demo(arguments.folder.resolve(), arguments.seed, console).run()
    except DemoError as error:
        console.print(f"[red]demo failed:[/red] {error}")
        sys.exit(1)


if __name__ == "__main__":
    main()
