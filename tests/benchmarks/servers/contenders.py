"""`serve` and its peers: how each is started, and what it is sent."""

import http.client
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from servers.artifact import ROOT, picture
from servers.environment import environment

PEERS = Path(__file__).resolve().parents[1] / "peers"
BOUNDARY = "picture"


@dataclass(frozen=True)
class Contender:
    """One server: how to start it on a port, and the request that sends it the photograph."""

    name: str
    start: Callable[[int], "subprocess.Popen[bytes]"]
    path: str = "/invocations"
    upload: bool = False
    """Whether the photograph is sent as a form's file."""

    def request(self) -> tuple[str, bytes, dict[str, str]]:
        """The path, body and headers of a prediction."""
        if not self.upload:
            return self.path, picture(), {"Content-Type": "image/jpeg"}
        head = (
            f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="request"; filename="a.jpg"\r\n'
            "Content-Type: image/jpeg\r\n\r\n"
        )
        body = head.encode() + picture() + f"\r\n--{BOUNDARY}--\r\n".encode()
        return self.path, body, {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}

    def answers(self, port: int) -> bool:
        """Whether it predicts."""
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        try:
            connection.request("POST", *self.request())
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()


def launch(
    command: list[str], variables: dict[str, str], *, cwd: Path | None = None
) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        command,
        cwd=cwd,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": str(ROOT)} | variables,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def ours(base: Path, precision: str) -> Contender:
    """`serve` with the artifact in `base`/model."""

    def start(port: int) -> "subprocess.Popen[bytes]":
        return launch(
            [sys.executable, "-m", "serve"],
            {
                "SAGEMAKER_BASE_DIR": str(base),
                "SAGEMAKER_BIND_TO_PORT": str(port),
                "BERTH_PRECISION": precision,
            },
        )

    return Contender("serve" if precision == "float32" else f"serve {precision}", start)


def flask(base: Path, *, tuned: bool, bfloat16: bool = False) -> Contender:
    """Flask and gunicorn, a worker a core; tuned: one thread a worker."""

    def start(port: int) -> "subprocess.Popen[bytes]":
        command = [sys.executable, "-m", "gunicorn", "--bind", f"127.0.0.1:{port}"]
        command += ["--workers", str(cores()), "--timeout", "120", "--no-control-socket"]
        variables = {"MODEL_DIR": str(base / "model"), "BFLOAT16": str(int(bfloat16))}
        variables |= {"OMP_NUM_THREADS": "1"} if tuned else {}
        return launch([*command, "flask_server:app"], variables, cwd=PEERS)

    return Contender(named("flask bfloat16" if bfloat16 else "flask", tuned=tuned), start)


def litserve(base: Path, *, tuned: bool) -> Contender:
    """LitServe: one worker with all threads; tuned: one a core with one thread."""
    python = environment("litserve") / "bin" / "python"

    def start(port: int) -> "subprocess.Popen[bytes]":
        script = str(PEERS / "litserve_server.py")
        return launch([str(python), script, str(port), str(workers(tuned))], model(base, tuned))

    return Contender(named("litserve", tuned=tuned), start, "/predict", upload=True)


def mosec(base: Path, *, tuned: bool) -> Contender:
    """mosec: one process for the network with all threads; tuned: one a core with one thread."""
    python = environment("mosec") / "bin" / "python"

    def start(port: int) -> "subprocess.Popen[bytes]":
        command = [str(python), str(PEERS / "mosec_server.py"), "--address", "127.0.0.1"]
        return launch(
            [*command, "--port", str(port), "--timeout", "60000"],
            model(base, tuned) | {"WORKERS": str(workers(tuned))},
        )

    return Contender(named("mosec", tuned=tuned), start, "/inference")


def ray(base: Path, *, tuned: bool) -> Contender:
    """Ray Serve: one replica that has all cores; tuned: one a core."""
    python = environment("ray") / "bin" / "python"

    def start(port: int) -> "subprocess.Popen[bytes]":
        script = str(PEERS / "ray_server.py")
        return launch(
            [str(python), script, str(port), str(workers(tuned))],
            {
                "PYTHONPATH": os.pathsep.join((str(ROOT), str(PEERS))),
                "MODEL_DIR": str(base / "model"),
                "RAY_USAGE_STATS_ENABLED": "0",
            },
        )

    return Contender(named("ray", tuned=tuned), start, "/")


def torchserve(base: Path, *, tuned: bool) -> Contender:
    """TorchServe: one worker with all threads; tuned: one a core with one thread."""
    programs = environment("torchserve") / "bin"
    store = base / ("torchserve-tuned" if tuned else "torchserve")
    store.mkdir(exist_ok=True)
    archive = [str(programs / "torch-model-archiver"), "--model-name", "classifier"]
    archive += ["--version", "1", "--handler", str(PEERS / "torchserve_handler.py")]
    subprocess.run([*archive, "--export-path", str(store), "--force"], check=True)

    def start(port: int) -> "subprocess.Popen[bytes]":
        (store / "config.properties").write_text(
            f"inference_address=http://127.0.0.1:{port}\n"
            f"management_address=http://127.0.0.1:{port + 1}\n"
            f"metrics_address=http://127.0.0.1:{port + 2}\n"
            'models={"classifier":{"1":{"defaultVersion":true,"marName":"classifier.mar",'
            f'"minWorkers":{workers(tuned)},"maxWorkers":{workers(tuned)},"batchSize":8,'
            '"maxBatchDelay":10,"responseTimeout":120}}}\n'
        )
        command = [str(programs / "torchserve"), "--start", "--foreground", "--ncs"]
        command += ["--disable-token-auth", "--model-store", str(store), "--models", "all"]
        return launch(
            [*command, "--ts-config", str(store / "config.properties")],
            {
                **model(base, tuned),
                "PATH": os.pathsep.join((str(programs), os.environ["PATH"])),
                "PEERS": str(PEERS),
                "LOG_LOCATION": str(store / "logs"),
                "METRICS_LOCATION": str(store / "logs"),
            },
            cwd=store,
        )

    return Contender(named("torchserve", tuned=tuned), start, "/predictions/classifier")


PEER_SERVERS: dict[str, Callable[..., Contender]] = {
    "flask": flask,
    "litserve": litserve,
    "mosec": mosec,
    "ray": ray,
    "torchserve": torchserve,
}


def contenders(base: Path, peers: list[str]) -> list[Contender]:
    """`serve` in every precision this processor has instructions for, and the peers both ways."""
    from container.openvino_runtime import core

    can = core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    found = [ours(base, "float32")]
    found += [ours(base, "bfloat16")] if "BF16" in can else []
    found += [ours(base, "int8")] if "INT8" in can else []
    for peer in peers:
        if peer == "torchserve" and shutil.which("java") is None:
            print("torchserve is left out: it needs Java 17")
            continue
        found += [PEER_SERVERS[peer](base, tuned=tuned) for tuned in (False, True)]
    if "BF16" in can and "flask" in peers:
        found.append(flask(base, tuned=False, bfloat16=True))
    return found


def cores() -> int:
    return len(os.sched_getaffinity(0))


def workers(tuned: bool) -> int:
    return cores() if tuned else 1


def model(base: Path, tuned: bool) -> dict[str, str]:
    threads = "1" if tuned else str(cores())
    return {"MODEL_DIR": str(base / "model"), "THREADS": threads, "OMP_NUM_THREADS": threads}


def named(server: str, *, tuned: bool) -> str:
    return f"{server}, tuned" if tuned else server
