"""A fit job: the best classifier within a time limit.

It fits linear probes to the features of all available backbones and fine-tunes the most promising
in the remaining time, then writes the artifact and its evaluation as any training job. Its choices
depend on measured speed, so a seed does not determine the model.
"""

import torch

from container.fit.budget import spoken
from container.fit.context import FitContext
from container.fit.ending import finish_fit, kept, write_model
from container.fit.probing import advise_more, probe_backbones
from container.fit.rounds import board_so_far, fine_tune_promising
from container.fit.state import FitState
from container.fit.trials import try_backbones
from container.training.checkpoint import Interrupted
from container.training.metrics import MetricLogger


def run_fit(fit: FitContext, metrics: MetricLogger) -> None:
    """Run the job, from its newest checkpoint if there is one.

    Raises:
        Interrupted: a stop signal arrived; the state and the best model so far were written.
        BerthError: there is no backbone, too little time, or the data cannot be used.
    """
    fit.state = FitState.load(fit.checkpoints)
    fit.budget.spent += fit.state.spent
    if fit.state.saves:
        fit.say(
            f"resuming an interrupted job after {spoken(fit.state.spent)}, with "
            f"{len(fit.state.board.entries)} classifiers"
        )
    fit.use_fewer()
    if fit.state.threads:
        torch.set_num_threads(fit.state.threads)
    try:
        if not fit.state.tried:
            try_backbones(fit)
        probe_backbones(fit)
        advise_more(fit)
        fine_tune_promising(fit)
    except Interrupted:
        fit.save()
        if fit.state.board.entries:
            backbone, progress = kept(fit, board_so_far(fit))
            write_model(backbone, progress, export=False)
        raise
    fit.save()
    finish_fit(fit, metrics)
