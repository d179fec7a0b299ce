"""`topolora convert`: the source says what is read, the name of the output what is written."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..files import replacing_directory
from ..settings import option

if TYPE_CHECKING:
    from ..network.segmenter import TopoSamForSegmentation


@dataclass
class ConvertArguments:
    """Read other forms of networks and adapters, and write them."""

    source: str = option(
        help="Meta's sam_vit_*.pth; a Lightning .ckpt of the paper's authors' code; an adapter's directory or Hub id; "
        "the directory of a full network, or an embedded base",
        group="input",
    )
    output: str = option(
        help="NAME.onnx: a network for onnxruntime; else a directory: of a base (from .pth), of an adapter (from "
        ".ckpt), or of a full network with its adapter merged",
        group="output",
    )
    base: str | None = option(None, "base of an adapter or a .ckpt; by default the one that it names", group="input")


def convert(args: ConvertArguments) -> Path:
    """Write the output and return its path.

    Raises:
        ValueError: The output is a directory that is not empty, or a file where a directory is needed; or a base is
            given for a source that has none.
        ImportError: A package of the extra `export` is not installed.
    """
    output, is_onnx = Path(args.output), args.output.endswith(".onnx")
    if output.is_dir() and any(output.iterdir()):
        raise ValueError(f"{output} is not empty")
    if output.exists() and not output.is_dir() and not is_onnx:
        raise ValueError(f"{output} is a file, and a directory is to be written")
    if args.source.endswith(".ckpt"):
        from ..adapter_format.names import full_base_name
        from ..export.seglab import convert_seglab_checkpoint

        if is_onnx:
            raise ValueError(f"{args.source} becomes an adapter's directory first, which then becomes {output}")
        convert_seglab_checkpoint(args.source, output, base=args.base and full_base_name(args.base))
    elif is_onnx:
        from ..export.onnx_export import export_onnx

        export_onnx(_load_network(args), output)
    else:
        network = _load_network(args)
        with replacing_directory(output) as directory:
            (network.sam if args.source.endswith(".pth") else network).save_pretrained(directory)
    print(f"wrote {output}")
    return output


def _load_network(args: ConvertArguments) -> "TopoSamForSegmentation":
    """A base as it is, or an adapter merged into its base; with its settings."""
    from ..adapters.loading import merge_adapter
    from ..inference.loading import load_network
    from ..network.segmenter import TopoSamForSegmentation

    if not args.source.endswith(".pth"):
        network = load_network(args.source, args.base)
        return network if isinstance(network, TopoSamForSegmentation) else merge_adapter(network)
    if args.base is not None:
        raise ValueError(f"{args.source} is a full network, which has no base; got --base {args.base}")
    return TopoSamForSegmentation.from_pretrained(args.source).eval()
