"""Saves tensors of a network during training, in smdebug's format.

smdebug's own hook is registered on every module and parameter and runs at every step. This one is
called once per step and registers on modules only for passes that are saved, so other steps cost
microseconds. Saving tensors does not change training: it draws no random numbers and changes no
gradients.
"""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from container.monitoring.debugger.purge import purge_steps
from container.monitoring.debugger.settings import ACTIVATIONS, HookSettings, HookSettingsError
from container.monitoring.debugger.smdebug_fixes import ModeKeys, SMDebugError, StepHook, mark_end
from container.training.metrics import say

RESERVED_BYTES = 2**30
"""Bytes of disk space to leave free."""

Mode = Literal["train", "eval"]
Recorded = Literal["losses", "inputs", "labels", "predictions"]

_MODES = {"train": ModeKeys.TRAIN, "eval": ModeKeys.EVAL}
_NAMES = {"inputs": "input_images", "labels": "labels", "predictions": "predictions"}
_LOSS = "CrossEntropyLoss_output_"


class TensorHook:
    """Saves the tensors that `HookSettings` selects; errors while saving do not stop training.

    Names are smdebug's: `ResNet_conv1.weight`, `gradient/ResNet_conv1.weight`,
    `layer1.0.relu_output_0` (`…_1` when a module is called again within a pass),
    `CrossEntropyLoss_output_0`; an activation layer whose name does not contain its kind has it
    appended (`features.1_relu_output_0`). In addition: `input_images`, `labels`, `predictions`.

    Args:
        settings: what to save, and where.
        network: the network, not wrapped by DDP.
        rank, world: this rank and the number of ranks; only rank 0 saves unless
            `settings.all_ranks`.
        first_step: training steps of earlier runs of this job.
        first_eval_step: their validation steps; None to count those in the folder.

    Raises:
        HookSettingsError: smdebug refuses the settings.
    """

    def __init__(
        self,
        settings: HookSettings,
        network: nn.Module,
        *,
        rank: int = 0,
        world: int = 1,
        first_step: int = 0,
        first_eval_step: int | None = None,
    ) -> None:
        self._settings, self._network, self._rank = settings, network, rank
        self._hook: StepHook | None = None
        self._next = {"train": first_step, "eval": 0}
        self._handles: list[RemovableHandle] = []
        self._exported = -1
        self._saving = self._gradients_pending = False
        self._hooks_called = self._hint_logged = False
        self._tensorboard = None if rank else settings.tensorboard
        if rank and not settings.all_ranks:
            return
        with self._guarded():
            workers = world if settings.all_ranks else 1
            self._next["eval"] = purge_steps(
                settings.path,
                f"worker_{rank}",
                first_step,
                first_eval_step,
                workers=workers,
                tensorboard=self._tensorboard,
            )
            self._hook = self._make(workers)
            self._export(self._hook)

    def step(self, mode: Mode, network: nn.Module | None = None) -> bool:
        """Count a step; called just before its forward pass.

        Args:
            mode: whether the network trains or is evaluated.
            network: the network that runs, if not the trained one (its moving average).

        Returns:
            Whether any tensors of this step are saved.
        """
        self._finish()
        hook = self._hook
        if hook is None:
            return False
        mode_step, step = self._next[mode], sum(self._next.values())
        self._next[mode] += 1
        with self._guarded():
            if hook.begin(_MODES[mode], mode_step, step):
                self._require_space()
                self._saving, self._gradients_pending = True, mode == "train"
                hook.open()
                hook.save_parameters(network or self._network)
                self._attach(hook, network or self._network)
        return self._saving

    def record(self, collection: Recorded, value: Tensor) -> None:
        """Save a tensor that no module outputs; does nothing in steps that are not saved."""
        if not self._saving or self._hook is None:
            return
        with self._guarded():
            if collection == "losses":
                self._hook.save_next(_LOSS, value)
                self._hint_at_compile()
            else:
                self._hook.save(_NAMES[collection], value)

    def gradients(self) -> None:
        """Save the gradients after the backward pass, unscaled and before clipping.

        Without this call they are saved when the next step begins.
        """
        if self._saving and self._hook is not None and self._gradients_pending:
            self._gradients_pending = False
            with self._guarded():
                self._hook.save_gradients(self._network)

    def close(self) -> None:
        """Write pending tensors and the end-of-job marker."""
        self._finish()
        was_open, self._hook = self._hook is not None, None
        if was_open and not self._rank:
            with self._guarded():
                mark_end(self._settings.path)

    def _require_space(self) -> None:
        """Raise an error while the disk still has room for checkpoints and the model."""
        free = shutil.disk_usage(self._settings.path).free
        if free < RESERVED_BYTES:
            raise OSError(
                f"{self._settings.path}: {free / 2**20:.0f} MB are left on the disk, "
                f"{RESERVED_BYTES / 2**20:.0f} of them reserved for the model"
            )

    def _make(self, workers: int) -> StepHook:
        settings = self._settings
        try:
            return StepHook(
                settings.configuration,
                settings.path,
                self._tensorboard,
                rank=self._rank,
                workers=workers,
            )
        except (SMDebugError, ValueError, TypeError) as error:
            raise HookSettingsError(f"{settings.source}: {error}") from None

    def _attach(self, hook: StepHook, network: nn.Module) -> None:
        """Register on the modules whose inputs or outputs are saved in this step."""
        for path, module in network.named_modules():
            name = _module_name(path, module)
            # Before the module runs, because an in-place module overwrites its input.
            if _is_saved(hook, f"{name}_input_"):
                keep = partial(self._keep, f"{name}_input_")
                self._handles.append(module.register_forward_pre_hook(partial(_before, keep)))
            if _is_saved(hook, f"{name}_output_"):
                keep = partial(self._keep, f"{name}_output_")
                self._handles.append(module.register_forward_hook(partial(_after, keep)))

    def _keep(self, stem: str, values: Any) -> None:
        if torch.compiler.is_compiling():
            return
        self._hooks_called = True
        with self._guarded():
            for value in values if isinstance(values, tuple | list) else [values]:
                if isinstance(value, Tensor) and self._hook is not None:
                    self._hook.save_next(stem, self._first_samples(value))

    def _first_samples(self, value: Tensor) -> Tensor:
        limit = self._settings.layer_bytes
        if limit is None or value.nbytes <= limit or not value.ndim:
            return value
        return value[: max(1, len(value) * limit // value.nbytes)]

    def _hint_at_compile(self) -> None:
        if self._handles and not self._hooks_called and not self._hint_logged:
            self._hint_logged = True
            say(
                "debugger: no inputs and outputs of layers are saved: a compiled network hides "
                "them; compile=off shows them"
            )

    def _finish(self) -> None:
        """Write the current step, if it is saved."""
        if not self._saving:
            return
        self.gradients()
        self._detach()
        with self._guarded():
            if self._hook is not None:
                self._hook.finish()
                self._export(self._hook)

    def _detach(self) -> None:
        self._saving = False
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def _export(self, hook: StepHook) -> None:
        """Write the collections again if they have new names."""
        known = sum(len(c.tensor_names) for c in hook.get_collections().values())
        if known != self._exported:
            hook.export_collections()
            self._exported = known

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        """Disable the hook on an error, so that training continues."""
        try:
            yield
        except HookSettingsError:
            raise
        except Exception as error:
            self._disable(error)

    def _disable(self, error: Exception) -> None:
        hook, self._hook = self._hook, None
        self._detach()
        if hook is not None:
            hook.abandon()
        what = str(error).strip().partition("\n")[0] or type(error).__name__
        say(f"debugger: {what}; saving no more tensors, training continues")
        if not self._rank:
            try:
                mark_end(self._settings.path)
            except OSError:
                return  # readers of a folder that cannot be written wait until they are stopped


def _is_saved(hook: StepHook, stem: str) -> bool:
    return hook.is_saved(f"{stem}0") or hook.is_saved(f"{stem}1")


def _before(keep: Callable[[Any], None], _module: nn.Module, inputs: Any) -> None:
    keep(inputs)


def _after(keep: Callable[[Any], None], _module: nn.Module, _inputs: Any, output: Any) -> None:
    keep(output)


def _module_name(path: str, module: nn.Module) -> str:
    """The module's path in the network; for the network itself, its class name."""
    kind = ACTIVATIONS.get(type(module).__name__)
    if not path:
        return type(module).__name__
    if kind is None or path.lower().endswith(kind):
        return path
    return f"{path}_{kind}"
