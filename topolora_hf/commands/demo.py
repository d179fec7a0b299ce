"""`recipes/demo.py`: its settings, and the server."""

import sys
from dataclasses import dataclass, field

from ..adapter_format.errors import AdapterMismatchError
from ..demo.page import build_page, launch_options, require_gradio
from ..demo.shelf import AdapterShelf
from ..inference.loading import ADAPTER_HELP, DTYPE_HELP, autocast_dtype
from .parser import SettingsParser


@dataclass
class DemoArguments:
    """Serve a page on which adapters are tried."""

    adapters: list[str] = field(default_factory=list, metadata={"help": f"what can be picked, each {ADAPTER_HELP}"})
    tiny: bool = field(default=True, metadata={"help": "offer the embedded base, too, as it comes"})
    base: str | None = field(default=None, metadata={"help": "of the adapters, where it is not the one that they name"})
    dtype: str | None = field(default=None, metadata={"help": DTYPE_HELP})
    host: str = field(default="127.0.0.1", metadata={"help": "the address to listen at; 0.0.0.0 is all of them"})
    port: int | None = field(default=None, metadata={"help": "by default the first free one from 7860 on"})

    @property
    def names(self) -> list[str]:
        return self.adapters + ["tiny"] * (self.tiny and "tiny" not in self.adapters)


def demo(args: DemoArguments) -> None:
    """Serves until interrupted. The first adapter is loaded before the page opens, the others when they are picked.

    Raises:
        ImportError: gradio is not installed.
        AdapterMismatchError, OSError, ValueError: the first adapter cannot be loaded, or the port is taken.
    """
    require_gradio()
    shelf = AdapterShelf(args.names, args.base, autocast_dtype(args.dtype))
    shelf.settings(shelf.names[0])
    build_page(shelf).launch(server_name=args.host, server_port=args.port, **launch_options())


def demo_main() -> None:
    """`recipes/demo.py`: a foreseen error is a message, not a traceback."""
    try:
        (args,) = SettingsParser(DemoArguments).parse_args_into_dataclasses(sys.argv[1:])
        demo(args)
    except (AdapterMismatchError, ImportError, OSError, ValueError) as error:
        sys.exit(f"error: {error}")
