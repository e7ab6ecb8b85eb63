import subprocess
import sys

SIGNALLED = """
import gc, os, signal
from container.openvino_runtime import core, openvino

def compiled():
    ov = openvino()
    data = ov.opset13.parameter([1, 4], ov.Type.f32)
    return core().compile_model(ov.Model([ov.opset13.relu(data)], [data]), "CPU")

one = compiled()
two = compiled()
del one
gc.collect()
del two
gc.collect()
signal.signal(signal.SIGTERM, lambda *_: print("handled", flush=True))
os.kill(os.getpid(), signal.SIGTERM)
"""


def test_a_process_that_has_compiled_graphs_handles_signals() -> None:
    """With one `Core` per graph a signal kills the process: the handler's stack is freed memory."""
    done = subprocess.run([sys.executable, "-c", SIGNALLED], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "handled\n"), done.stderr
