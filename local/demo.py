"""`make demo`: the main job on this machine, without Docker and without AWS.

Handwritten digits become a folder of images; SageMaker's own commands train a network on it and
serve it; test images go to `/invocations` and come back as predictions beside the truth.
"""

import argparse
import json
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

import requests
from rich.console import Console
from rich.table import Table

from local.processes import ProcessError, serve, train, write_tree

HYPERPARAMETERS = {
    "arch": "resnet18",
    "weights": "none",
    "image_size": 32,
    "epochs": 3,
    "batch_size": 64,
    "learning_rate": 0.003,
    "warmup_epochs": 0.5,
    "augment": "none",
}
"""No augmentation: a mirrored digit is another sign."""
SHOWN = 10
"""Test images sent one by one to the endpoint."""


def main() -> None:
    """Run the demo; a failed step ends it with one line and status 1."""
    parser = argparse.ArgumentParser(prog="python -m local.demo", description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path(".berth/demo"), help="where it works")
    parser.add_argument("--seed", type=int, default=0, help="of the training job")
    arguments = parser.parse_args()
    console = Console()
    try:
        run(arguments.folder.resolve(), arguments.seed, console)
    except ProcessError as error:
        console.print(f"[red]demo failed:[/red] {error}")
        sys.exit(1)


def run(base: Path, seed: int, console: Console) -> None:
    """The demo in `base`, which is emptied first.

    Raises:
        ProcessError: a step failed, or an endpoint's answer was not a prediction.
    """
    started = time.monotonic()
    shutil.rmtree(base, ignore_errors=True)
    data = base / "input" / "data"
    console.rule("1. handwritten digits as a folder of images")
    made = [sys.executable, "-m", "container.data.sources", "digits", str(data)]
    if subprocess.run(made, check=False).returncode:
        raise ProcessError("the digits could not be written: see above")
    console.rule("2. train: SageMaker's command, a plain process")
    write_tree(base, ["train", "validation", "test"], HYPERPARAMETERS | {"seed": seed})
    train(base)
    console.rule("3. serve: gunicorn, GET /ping, POST /invocations")
    with serve(base) as url:
        table, right = _ask(url, data / "test", seed)
    console.print(table)
    evaluation = json.loads((base / "output" / "data" / "evaluation.json").read_text())
    console.rule("done")
    console.print(
        f"test accuracy {evaluation['accuracy']:.4f} on {evaluation['images']} images; "
        f"the endpoint named {right} of {SHOWN} right; {time.monotonic() - started:.0f} s in all"
    )
    console.print(f"model: {base / 'model'}\npictures: {base / 'output' / 'data'}")


def _ask(url: str, test: Path, seed: int) -> tuple[Table, int]:
    """Send some test images; the table of answers, and how many are right."""
    table = Table("image", "truth", "prediction", "probability", "ms")
    right = 0
    for image in random.Random(seed).sample(sorted(test.rglob("*.png")), SHOWN):  # noqa: S311
        before = time.monotonic()
        answer = requests.post(
            f"{url}/invocations",
            data=image.read_bytes(),
            headers={"Content-Type": "image/png", "Accept": "application/json"},
            timeout=60,
        )
        milliseconds = 1000 * (time.monotonic() - before)
        if answer.status_code != 200:
            raise ProcessError(f"{image.name}: HTTP {answer.status_code}: {answer.text.strip()}")
        best = answer.json()["predictions"][0]
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
    return table, right


if __name__ == "__main__":
    main()
