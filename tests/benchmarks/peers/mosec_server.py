"""mosec, with its dynamic batching: stages for decoding and for the network, as its image example.

    MODEL_DIR=... python tests/benchmarks/peers/mosec_server.py --port PORT

Processes of the network's stage: WORKERS. Those that decode are as many as cores.
"""

import os

import torch
from classifier import EagerClassifier
from mosec import Server, Worker


class Decode(Worker):
    def __init__(self) -> None:
        self.classifier = EagerClassifier()

    def deserialize(self, data: bytes) -> bytes:
        return data

    def forward(self, data: bytes) -> torch.Tensor:
        return self.classifier.decode(data)


class Predict(Worker):
    def __init__(self) -> None:
        self.classifier = EagerClassifier()

    def forward(self, data: list[torch.Tensor]) -> list[dict[str, float]]:
        return [self.classifier.best(row) for row in self.classifier.predict(torch.stack(data))]


if __name__ == "__main__":
    server = Server()
    server.append_worker(Decode, num=len(os.sched_getaffinity(0)))
    server.append_worker(
        Predict, num=int(os.environ["WORKERS"]), max_batch_size=8, max_wait_time=10
    )
    server.run()
