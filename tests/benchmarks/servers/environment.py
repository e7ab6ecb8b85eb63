"""Virtual environments for the peers, each of its own, kept between runs.

A peer's packages come first on its path; PyTorch, torchvision and NumPy are those of the
environment that runs the benchmark, so that all compute with the same.
"""

import hashlib
import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

PACKAGES = {
    "litserve": ("litserve==0.2.19", "python-multipart==0.0.34"),
    "mosec": ("mosec==0.9.8",),
    "ray": ("ray[serve]==2.60.0",),
    "torchserve": ("torchserve==0.12.0", "torch-model-archiver==0.12.0", "captum==0.8.0"),
}


def environment(peer: str) -> Path:
    """The folder of the peer's environment, made where there is none."""
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    wanted = "\n".join([sys.prefix, *PACKAGES[peer]])
    digest = hashlib.sha256(wanted.encode()).hexdigest()[:8]
    folder = cache / "berth-benchmarks" / f"{peer}-{digest}"
    complete = folder / "complete"
    if not complete.exists():
        print(f"installing {' '.join(PACKAGES[peer])} into {folder}", flush=True)
        venv.create(folder, with_pip=True, clear=True)
        own = sysconfig.get_path("purelib", vars={"base": str(folder)})
        Path(own, "torch.pth").write_text(sysconfig.get_path("purelib"), encoding="utf-8")
        pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet"]
        subprocess.run([*pip, *PACKAGES[peer]], check=True)
        complete.touch()
    return folder
