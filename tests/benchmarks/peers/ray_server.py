"""Ray Serve, with its dynamic batching.

    MODEL_DIR=... python tests/benchmarks/peers/ray_server.py PORT REPLICAS

The cores are shared out among the replicas; Ray gives each as many threads.
"""

import os
import signal
import sys

import ray
import torch
from classifier import EagerClassifier
from ray import serve
from starlette.requests import Request


class Classifier:
    def __init__(self) -> None:
        self.classifier = EagerClassifier()

    @serve.batch(max_batch_size=8, batch_wait_timeout_s=0.01)  # type: ignore[untyped-decorator]
    async def predict(self, bodies: list[bytes]) -> list[dict[str, float]]:
        batch = torch.stack([self.classifier.decode(body) for body in bodies])
        return [self.classifier.best(row) for row in self.classifier.predict(batch)]

    async def __call__(self, request: Request) -> dict[str, float]:
        answer: dict[str, float] = await self.predict(await request.body())
        return answer


if __name__ == "__main__":
    port, replicas = (int(word) for word in sys.argv[1:])
    cores = len(os.sched_getaffinity(0))
    # Also what the ones that it starts stop at.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    ray.init(num_cpus=cores, include_dashboard=False, logging_level="ERROR")
    serve.start(http_options={"host": "127.0.0.1", "port": port})
    options = {"num_cpus": cores // replicas}
    deployment = serve.deployment(Classifier)
    serve.run(deployment.options(num_replicas=replicas, ray_actor_options=options).bind())
    signal.pause()
