"""`topolora push`: a trained adapter on the Hub."""

from dataclasses import dataclass

from ..settings import option


@dataclass(kw_only=True)
class PushArguments:
    """Publish a trained adapter on the Hub."""

    directory: str = option(help="a run directory, or its adapter folder", group="input")
    hub_model_id: str | None = option(
        None, "the repository, org/name or name; by default the run directory's name", group="output"
    )
    private: bool = option(False, "make a new repository private", group="output")


def push(args: PushArguments) -> str:
    """Publish the adapter and return the repository's address."""
    from ..hub.push import push_adapter

    address = push_adapter(args.directory, args.hub_model_id, args.private)
    print(f"pushed to {address}")
    return address
