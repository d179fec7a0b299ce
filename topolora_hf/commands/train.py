"""`topolora train`: an adapter of a data set."""

from ..processes import process_state
from ..training.arguments import TrainArguments as TrainArguments
from .score import print_metrics


def train(args: TrainArguments) -> None:
    """Train, score and fill the run directory. One process prints the scores and what can be done next."""
    from ..training.results import next_steps
    from ..training.run import train as run

    metrics = run(args)
    if process_state().is_main_process:
        print_metrics(metrics)
        print(next_steps(args, metrics))
