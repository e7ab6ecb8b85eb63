"""A training container in a page: SageMaker's contract, no network, seconds instead of hours.

Hyperparameters, all optional: `epochs` (3), `seconds` an epoch (0.1), `learning_rate` (0.1; the
score is best at 0.1), `fail` (a message: write it to output/failure and exit 1), `silent` (print no
metric), `ignore_sigterm`, `shm` (print the size of /dev/shm), `statuses` (put this text where the
statuses of debugger rules go, before the first epoch), `report` (leave this page as a report),
`keep` (print what earlier jobs kept in the warm pool's cache, and keep a file of this name there).
"""

import json
import math
import os
import signal
import sys
import time
from pathlib import Path

base = Path(os.environ.get("SAGEMAKER_BASE_DIR", "/opt/ml"))
hyperparameters = json.loads((base / "input/config/hyperparameters.json").read_text())
resources = json.loads((base / "input/config/resourceconfig.json").read_text())


def say(text: str) -> None:
    print(text, flush=True)


def stop(_number: int, _frame: object) -> None:
    say("toy: SIGTERM")
    if "ignore_sigterm" not in hyperparameters:
        sys.exit(143)


signal.signal(signal.SIGTERM, stop)
say(f"toy: job {os.environ.get('TRAINING_JOB_NAME')} on {resources['current_host']}")
for path in sorted((base / "input/data").rglob("*")) if (base / "input/data").is_dir() else []:
    if path.is_file():
        say(f"toy: input {path.relative_to(base / 'input/data')} {path.stat().st_size} bytes")
if "shm" in hyperparameters:
    shm = os.statvfs("/dev/shm")
    say(f"toy: shm {shm.f_blocks * shm.f_frsize}")
if "fail" in hyperparameters:
    (base / "output").mkdir(parents=True, exist_ok=True)
    (base / "output/failure").write_text(hyperparameters["fail"])
    say(f"toy: failing: {hyperparameters['fail']}")
    sys.exit(1)

if "keep" in hyperparameters:
    cache = base / "sagemaker/warmpoolcache"
    say(f"toy: kept {sorted(path.name for path in cache.iterdir())}")
    (cache / hyperparameters["keep"]).write_text("kept")

if "statuses" in hyperparameters:
    (base / "output/data/rules").mkdir(parents=True, exist_ok=True)
    (base / "output/data/rules/debug.json").write_text(hyperparameters["statuses"])
if "report" in hyperparameters:
    (base / "output/data/report/profiler-reports").mkdir(parents=True, exist_ok=True)
    (base / "output/data/report/profiler-report.html").write_text(hyperparameters["report"])
    (base / "output/data/report/profiler-reports/BatchSize.json").write_text("{}")

epochs = int(json.loads(hyperparameters.get("epochs", "3")))
seconds = float(json.loads(hyperparameters.get("seconds", "0.1")))
rate = float(json.loads(hyperparameters.get("learning_rate", "0.1")))
checkpoint = base / "checkpoints" / "epoch.txt"
done = int(checkpoint.read_text()) if checkpoint.exists() else 0
if done:
    say(f"toy: resuming after epoch {done}")
for epoch in range(done + 1, epochs + 1):
    time.sleep(seconds)
    score = 1 - abs(math.log10(rate) + 1) / 4 - 0.5 / (1 + epoch)
    say(f"toy: epoch {epoch}" + ("" if "silent" in hyperparameters else f" toy:score={score:.6f};"))
    if checkpoint.parent.is_dir():
        fresh = checkpoint.with_suffix(".new")
        fresh.write_text(str(epoch))
        fresh.replace(checkpoint)
(base / "model").mkdir(parents=True, exist_ok=True)
(base / "model/model.json").write_text(json.dumps({"rate": rate, "epochs": epochs}))
(base / "output/data").mkdir(parents=True, exist_ok=True)
(base / "output/data/result.txt").write_text(f"{resources['current_host']} done\n")
say("toy: done")
