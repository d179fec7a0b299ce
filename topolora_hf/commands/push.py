"""`topolora push`: a trained adapter on the Hub."""

from dataclasses import dataclass, field

from ..hub.push import push_adapter


@dataclass
class PushArguments:
    """Publish a trained adapter on the Hub."""

    directory: str = field(metadata={"help": "a run directory, or its adapter folder"})
    hub_model_id: str | None = field(
        default=None, metadata={"help": "the repository, org/name or name; by default the run directory's name"}
    )
    private: bool = field(default=False, metadata={"help": "make a new repository a private one"})


def push(args: PushArguments) -> str:
    """Publishes the adapter; returns the repository's address."""
    address = push_adapter(args.directory, args.hub_model_id, args.private)
    print(f"pushed to {address}")
    return address
