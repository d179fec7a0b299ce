"""`topolora demo`: a page on which adapters are tried."""

from dataclasses import dataclass

from ..settings import check_limits, option
from .arguments import ADAPTER_HELP, DTYPE_HELP, DTYPES


@dataclass(kw_only=True)
class DemoArguments:
    """Serve a page on which adapters are tried."""

    adapters: list[str] = option([], f"what can be picked: {ADAPTER_HELP}", group="input")
    tiny: bool = option(True, "also offer the embedded base", group="input")
    base: str | None = option(None, "the base; by default the one that each adapter names", group="input")
    dtype: str = option("auto", DTYPE_HELP, group="inference", choices=DTYPES)
    host: str = option("127.0.0.1", "address to listen at; 0.0.0.0 is all of this machine's")
    port: int | None = option(None, "by default the first free one from 7860 on")

    def __post_init__(self):
        check_limits(self)

    @property
    def names(self) -> list[str]:
        return self.adapters + ["tiny"] * (self.tiny and "tiny" not in self.adapters)


def demo(args: DemoArguments) -> None:
    """Serve until interrupted. The first adapter is loaded before the page opens, the others when they are picked."""
    from ..demo.page import build_page, launch_options, require_gradio

    require_gradio()
    from ..demo.shelf import AdapterShelf

    shelf = AdapterShelf(args.names, args.base, args.dtype)
    shelf.settings(shelf.names[0])
    build_page(shelf).launch(server_name=args.host, server_port=args.port, **launch_options())
