"""The page itself: an image and an adapter on the left, what was found on the right."""

import os
from typing import TYPE_CHECKING

from ..adapter_format.errors import AdapterMismatchError
from .session import VIEWS, Look

if TYPE_CHECKING:
    import gradio

    from .shelf import AdapterShelf

_TITLE = "TopoLoRA-SAM: thin structures, segmented"
_INTRODUCTION = (
    f"# {_TITLE}\nDrop an image, pick an adapter, and slide the threshold: the network looks once, the threshold only "
    "decides from which probability a pixel counts. For research; not a medical device."
)
_CLEAN_UP = (3600, 3600)  # seconds between two clean-ups of what visitors left, and how old it is then
_NOTHING = (None, None, None)
_FORESEEN = (AdapterMismatchError, FloatingPointError, MemoryError, OSError, ValueError)


def build_page(shelf: "AdapterShelf") -> "gradio.Blocks":
    """Build the page for these adapters; `.launch(**launch_options())` serves it.

    Nothing is sent anywhere: gradio's analytics are off, and the page asks no other server for fonts or scripts.

    Raises:
        ImportError: gradio is not installed.
    """
    gr = require_gradio()
    with gr.Blocks(title=_TITLE, analytics_enabled=False, delete_cache=_CLEAN_UP) as page:
        gr.Markdown(_INTRODUCTION)
        look = gr.State(None, time_to_live=_CLEAN_UP[1])
        with gr.Row():
            with gr.Column(scale=2, min_width=300):
                sources = ["upload", "clipboard"]
                image = gr.Image(label="Image", type="filepath", image_mode=None, sources=sources, height=340)
                adapter = gr.Dropdown(shelf.names, value=shelf.names[0], label="Adapter")
                threshold = gr.Slider(0, 1, value=0.5, step=0.01, label="Threshold")
                view = gr.Radio(list(VIEWS), value=VIEWS[0], label="Show")
                numbers = gr.Markdown(elem_id="numbers")
            with gr.Column(scale=3, min_width=400):
                picture = gr.Image(label="Result", interactive=False, format="png", buttons=["fullscreen"], height=600)
                files = gr.File(label="Download", file_count="multiple", interactive=False)
        shown = [picture, numbers, files]

        def see(path: str | None, name: str, chosen: str) -> tuple:
            """Run the network. The threshold becomes the adapter's own; what was shown before goes."""
            if path is None:
                return None, gr.skip(), *_NOTHING
            try:
                seen = Look.at(shelf, name, path)
            except _FORESEEN as error:
                gr.Warning(str(error), duration=None, title="Not segmented")
                return None, gr.skip(), *_NOTHING
            return seen, seen.prediction.thresholds[0], *_show(seen, chosen)

        def move(seen: Look | None, value: float, chosen: str) -> tuple:
            seen = seen and seen.with_threshold(value)
            return seen, *(_show(seen, chosen) if seen else _NOTHING)

        def turn(seen: Look | None, chosen: str):
            return seen and seen.picture(chosen)

        for event, name in ((image.change, "see"), (adapter.input, "pick")):
            event(see, [image, adapter, view], [look, threshold, *shown], api_name=name)
        # While the slider is drawn, only where it has come to is worth showing.
        last = {"trigger_mode": "always_last", "show_progress": "hidden"}
        threshold.input(move, [look, threshold, view], [look, *shown], api_name="move", **last)
        view.input(turn, [look, view], picture, api_name="turn", **last)
    return page


def launch_options() -> dict:
    """Options of `Blocks.launch`: this machine alone (unless GRADIO_SERVER_NAME is set), no tunnel, no extras."""
    gr = require_gradio()
    theme = gr.themes.Default(font=["system-ui", "sans-serif"], font_mono=["monospace"])
    theme.set(checkbox_background_color_hover="*neutral_300")  # its own is white, as the dot of what is chosen
    return {"theme": theme, "share": False, "ssr_mode": False, "max_file_size": "100mb", "footer_links": []}


def require_gradio():
    """Import gradio with its analytics switched off. `ImportError` says how to install it."""
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # read when it is imported
    try:
        import gradio
    except ImportError as error:
        raise ImportError("the page needs the package gradio: pip install 'topolora_hf[demo]'") from error
    return gradio


def _show(look: Look, view: str) -> tuple:
    labels = look.prediction.labels
    heads = [label.replace("|", r"\|") for label in labels] if len(labels) > 1 else [""]
    head = "| measured | " + " | ".join(heads) + " |\n|---|" + "---:|" * len(heads)
    rows = "\n".join(f"| {' | '.join(row)} |" for row in look.numbers())
    doubts = "".join(f"**May be wrong:** {warning}.\n\n" for warning in look.prediction.warnings)
    return look.picture(view), f"{doubts}{head}\n{rows}", look.files()
