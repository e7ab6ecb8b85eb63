"""A fit job: the best classifier for the minutes given.

Features of every backbone at hand, linear probes on them, the most promising fine-tuned with what
is left of the time; then the artifact and its evaluation as of any training job. What is chosen
depends on measured speeds, so the same seed gives the same model only where time allows the same.
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
    """Run the job, from its newest checkpoint on if there is one.

    Raises:
        Interrupted: a stop signal arrived; what is done is kept, and a model of it is there.
        BerthError: there is no backbone, too little time, or the data cannot be used.
    """
    fit.state = FitState.load(fit.checkpoints)
    fit.budget.spent += fit.state.spent
    if fit.state.saves:
        fit.say(
            f"going on after an interruption, {spoken(fit.state.spent)} into the time, with "
            f"{len(fit.state.board.entries)} classifiers"
        )
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
