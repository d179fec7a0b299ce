"""`topolora convert`: from one form to another, by what the source is and how the target is called."""

from dataclasses import dataclass, field
from pathlib import Path

from peft import PeftModel

from ..adapter_format.names import full_base_name
from ..adapters.loading import merge_adapter
from ..export.onnx_export import export_onnx
from ..export.seglab import convert_seglab_checkpoint
from ..inference.loading import load_network
from ..network.segmenter import TopoSamForSegmentation


@dataclass
class ConvertArguments:
    """Read other forms of networks and adapters, and write them."""

    source: str = field(
        metadata={
            "help": "Meta's sam_vit_*.pth; a Lightning .ckpt of the paper's authors' code; an adapter's directory or "
            "Hub id; the directory of a whole base, or an embedded base"
        }
    )
    output: str = field(
        metadata={
            "help": "NAME.onnx: a network for onnxruntime; else a directory: of a base (from .pth), an adapter (from "
            ".ckpt), or a whole network with its adapter merged"
        }
    )
    base: str | None = field(
        default=None, metadata={"help": "of an adapter or a .ckpt, where it is not the one that it names"}
    )


def convert(args: ConvertArguments) -> Path:
    """Writes the output; returns its path.

    Raises:
        ValueError: for a directory that is not empty, a file where a directory is to be, or a base for what has none.
        ImportError: a package of the extra `export` is not installed.
    """
    output = Path(args.output)
    if output.is_dir() and any(output.iterdir()):
        raise ValueError(f"{output} is not empty")
    if output.exists() and not output.is_dir() and output.suffix != ".onnx":
        raise ValueError(f"{output} is a file, and a directory is to be written")
    if args.source.endswith(".ckpt"):
        if output.suffix == ".onnx":
            raise ValueError(f"{args.source} becomes an adapter's directory first, which then becomes {output}")
        convert_seglab_checkpoint(args.source, output, base=args.base and full_base_name(args.base))
    else:
        network = _load_network(args)
        if output.suffix == ".onnx":
            export_onnx(network, output)
        elif args.source.endswith(".pth"):
            network.sam.save_pretrained(output)
        else:
            network.save_pretrained(output)
    print(f"wrote {output}")
    return output


def _load_network(args: ConvertArguments) -> TopoSamForSegmentation:
    """A base as it comes, or an adapter merged into its base; with its settings."""
    if not args.source.endswith(".pth"):
        network = load_network(args.source, args.base)
        return merge_adapter(network) if isinstance(network, PeftModel) else network
    if args.base is not None:
        raise ValueError(f"{args.source} is a whole network, which has no base; got --base {args.base}")
    return TopoSamForSegmentation.from_pretrained(args.source).eval()
