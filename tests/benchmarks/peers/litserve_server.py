"""LitServe, with its dynamic batching: a file upload, as its documentation sends images.

MODEL_DIR=... python tests/benchmarks/peers/litserve_server.py PORT WORKERS
"""

import sys

import litserve
import torch
from classifier import EagerClassifier
from fastapi import UploadFile


class ClassifierAPI(litserve.LitAPI):
    def setup(self, device: str) -> None:  # noqa: ARG002
        self.classifier = EagerClassifier()

    def decode_request(self, request: UploadFile) -> torch.Tensor:
        return self.classifier.decode(request.file.read())

    def batch(self, inputs: list[torch.Tensor]) -> torch.Tensor:
        return torch.stack(inputs)

    def predict(self, batch: torch.Tensor) -> torch.Tensor:
        return self.classifier.predict(batch)

    def unbatch(self, output: torch.Tensor) -> list[torch.Tensor]:
        return list(output)

    def encode_response(self, output: torch.Tensor) -> dict[str, float]:
        return self.classifier.best(output)


if __name__ == "__main__":
    server = litserve.LitServer(
        ClassifierAPI(max_batch_size=8, batch_timeout=0.01),
        accelerator="cpu",
        workers_per_device=int(sys.argv[2]),
    )
    server.run(host="127.0.0.1", port=int(sys.argv[1]), generate_client_file=False)
