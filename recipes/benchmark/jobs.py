"""What is measured: the rows of the benchmark by name, in groups, each beside what it replaces."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import partial
from importlib.util import find_spec
from itertools import chain, zip_longest

from benchmark.arguments import BenchmarkArguments
from benchmark.families import steps
from benchmark.measure import Workload
from benchmark.networks import NetworkShape
from benchmark.sharing import LABELS, adapters_in_turn, tiles_through
from benchmark.workloads import (
    cldice,
    encoder_layer,
    prediction,
    scores,
    skeleton,
    tiles,
    training_step,
    with_compilation,
)

_ITERATIONS = 10  # of the skeletons that are measured alone
_DATA_SIZE = 512


@dataclass(frozen=True)
class Group:
    """Rows that do the same work.

    Attributes:
        name: the first part of its rows' names.
        title: says what the work is.
        references: what every row is compared with: a heading, and the row's name, in which `{dtype}` stands for the
            precision of the row that is compared.
        memory: what is compared of it: `"peak"` of the process, or `"extra"` to what it holds between repeats.
        item: what times are for each of.
    """

    name: str
    title: str
    references: dict[str, str]
    memory: str = "peak"
    item: str = "repeat"


@dataclass(frozen=True)
class Row:
    """One measurement: `name` is group/form/precision, `help` what it is, `build` makes its workload."""

    name: str
    ours: bool
    help: str
    build: Callable[[], Workload]

    @property
    def group(self) -> str:
        return self.name.split("/")[0]

    @property
    def dtype(self) -> str:
        return self.name.split("/")[-1]


def benchmark_groups(args: BenchmarkArguments) -> list[Group]:
    """The groups, in the order of the table."""
    shape = f"{args.model}, {args.image_size}x{args.image_size}, batch {args.batch_size}"
    if args.layers is not None:
        shape = f"{shape}, {args.layers} layers"
    maps = f"{args.batch_size}x1x{args.image_size}x{args.image_size}, {_ITERATIONS} iterations, forward + backward"
    layer = "forward + backward to its input, weights frozen"
    return [
        Group(
            "step",
            f"Training step: forward, BCE + Dice + clDice, every gradient ({shape})",
            {"the authors' form": "step/authors/float32", "transformers SDPA": "step/sdpa/{dtype}"},
            item="image",
        ),
        Group(
            "detail",
            f"The same step with the detail branch, and without SAM ({shape})",
            {"the default": "detail/topolora/{dtype}"},
            item="image",
        ),
        *(
            Group(
                name,
                f"One encoder layer with {kind} attention, {layer} ({args.model}, {args.image_size}x{args.image_size})",
                {"transformers SDPA": f"{name}/sdpa/{{dtype}}"},
                memory="extra",
            )
            for name, kind in (("global", "global"), ("window", "windowed"))
        ),
        Group("skeleton", f"Soft skeleton ({maps})", {"MONAI": "skeleton/monai/float32"}, memory="extra"),
        Group("cldice", f"clDice loss, both skeletons soft ({maps})", {"MONAI": "cldice/monai/float32"}, "extra"),
        *(
            Group(
                f"predict-{model}",
                f"Prediction of one image of {args.image_size}x{args.image_size} with {model}",
                {"transformers SDPA": f"predict-{model}/sdpa/float32"},
                item="image",
            )
            for model in _prediction_shapes(args)
        ),
        Group("adapters", f"Several adapters on one base ({args.model})", {}, item="switch"),
        *_onnx_groups(args),
        *_family_groups(args),
        Group("data", f"Data and scores ({_DATA_SIZE}x{_DATA_SIZE}, one process)", {}, item="item"),
    ]


def _onnx_groups(args: BenchmarkArguments) -> list[Group]:
    """None where onnxruntime is not installed, and on a GPU, which it would leave idle."""
    if args.device != "cpu" or not all(find_spec(package) for package in ("onnx", "onnxruntime")):
        return []
    title = "Logits of 4 tiles with tiny, its adapter merged"
    return [Group("onnx", title, {"PyTorch": "onnx/torch/float32"}, item="tile")]


def _family_groups(args: BenchmarkArguments) -> list[Group]:
    titles = {row.group: row.help.split(": ")[1] for row in _family_rows(args)}
    return [
        Group(name, f"Training step of {name}: {title}", {"transformers SDPA": f"{name}/sdpa/{{dtype}}"}, item="image")
        for name, title in titles.items()
    ]


def benchmark_rows(args: BenchmarkArguments) -> list[Row]:
    """The rows that the settings ask for, in the order of the table.

    Raises:
        ValueError: when a pattern of `args.rows` is no row's.
    """
    rows = [
        row
        for row in (*_network_rows(args), *_sharing_rows(args), *_family_rows(args), *_data_rows())
        if row.dtype in args.dtype or (row.dtype == "int8" and "float32" in args.dtype and args.device == "cpu")
    ]
    for pattern in args.rows:
        if not any(fnmatchcase(row.name, pattern) for row in rows):
            raise ValueError(f"no row is called {pattern!r}; there are {', '.join(row.name for row in rows)}")
    return [row for row in rows if any(fnmatchcase(row.name, pattern) for pattern in args.rows)]


def alternate(rows: Iterable[Row]) -> list[Row]:
    """The order in which rows are measured: within each group, theirs and ours by turns.

    So a machine that slows down meanwhile slows both.
    """
    by_group: dict[str, tuple[list[Row], list[Row]]] = {}
    for row in rows:
        by_group.setdefault(row.group, ([], []))[row.ours].append(row)
    pairs = chain.from_iterable(zip_longest(theirs, ours) for theirs, ours in by_group.values())
    return [row for row in chain.from_iterable(pairs) if row is not None]


def _network_rows(args: BenchmarkArguments) -> Iterable[Row]:
    return chain(_step_rows(args), _detail_rows(args), _layer_rows(args), _loss_rows(args), _prediction_rows(args))


def _step_rows(args: BenchmarkArguments) -> Iterable[Row]:
    depth = args.shape.config().vision_config.num_hidden_layers
    count = max(1, depth // 3)
    numbers = "|".join(map(str, range(depth - count, depth)))
    last = {"lora_targets": rf"sam\.vision_encoder\.layers\.({numbers})\.mlp\..*"}
    less_work = f"less work: LoRA on the last {count} of {depth} layers"
    forms = [
        ("authors/float32", False, "as the paper's authors write it", {}),
        ("authors/bfloat16", False, "as the paper's authors write it, bf16", {}),
        ("eager/float32", False, "transformers' SamModel, eager attention, PEFT", {}),
        ("sdpa/float32", False, "transformers' SamModel, SDPA, PEFT", {}),
        ("sdpa/bfloat16", False, "transformers' SamModel, SDPA, PEFT, bf16", {}),
        ("ours/float32", True, "ours", {}),
        ("ours-checkpointing/float32", True, "ours, gradient checkpointing", {"checkpointing": True}),
        ("ours/bfloat16", True, "ours, bf16", {}),
        ("ours-checkpointing/bfloat16", True, "ours, bf16, gradient checkpointing", {"checkpointing": True}),
        ("ours-last/float32", True, f"ours, {less_work}", last),
        ("ours-last/bfloat16", True, f"ours, bf16, {less_work}", last),
    ]
    for name, ours, text, settings in forms:
        form, dtype = name.split("/")
        build = partial(training_step, args.shape, form.split("-")[0], dtype, args.batch_size, args.device, **settings)
        yield Row(f"step/{name}", ours, text, build)


def _detail_rows(args: BenchmarkArguments) -> Iterable[Row]:
    for preset in ("topolora", "detail_only"):
        for suffix, context in (("", True), ("-no-context", False)):
            text = f"ours, preset {preset}{'' if context else ', detail_context False'}"
            for dtype, precision in (("float32", ""), ("bfloat16", ", bf16")):
                settings = {"preset": preset, "detail_context": context}
                build = partial(training_step, args.shape, "ours", dtype, args.batch_size, args.device, **settings)
                yield Row(f"detail/{preset}{suffix}/{dtype}", True, text + precision, build)


def _layer_rows(args: BenchmarkArguments) -> Iterable[Row]:
    for group in ("global", "window"):
        for dtype, suffix in (("float32", ""), ("bfloat16", ", bf16")):
            for form in ("eager", "sdpa", "ours"):
                text = ("ours" if form == "ours" else f"transformers, {form}") + suffix
                build = partial(encoder_layer, args.shape, form, group == "window", dtype, args.batch_size, args.device)
                yield Row(f"{group}/{form}/{dtype}", form == "ours", text, build)


def _loss_rows(args: BenchmarkArguments) -> Iterable[Row]:
    shape = (args.image_size, args.batch_size, _ITERATIONS, args.device)
    for group, job in (("skeleton", skeleton), ("cldice", cldice)):
        for form, text in (("monai", "MONAI"), ("original", "original formulation")):
            yield Row(f"{group}/{form}/float32", False, text, partial(job, form, *shape))
        for form, text, mode in (("ours", "ours", "always"), ("ours-uncompiled", "ours without a compiler", "never")):
            yield Row(f"{group}/{form}/float32", True, text, partial(with_compilation, mode, job, "ours", *shape))


def _prediction_shapes(args: BenchmarkArguments) -> dict[str, NetworkShape]:
    """The model that is measured, and beside it the embedded one."""
    return {args.model: args.shape, "tiny": args.shape if args.model == "tiny" else NetworkShape("tiny")}


def _prediction_rows(args: BenchmarkArguments) -> Iterable[Row]:
    forms = [
        ("eager/float32", False, "transformers' SamModel, eager attention"),
        ("sdpa/float32", False, "transformers' SamModel, SDPA"),
        ("sdpa/bfloat16", False, "transformers' SamModel, SDPA, bf16"),
        ("ours/float32", True, "ours"),
        ("ours/bfloat16", True, "ours, bf16"),
        ("ours/int8", True, "ours, linear layers int8 (dynamic)"),
    ]
    for model, shape in _prediction_shapes(args).items():
        for name, ours, text in forms:
            form, dtype = name.split("/")
            build = partial(prediction, shape, form, dtype, args.image_size, args.device)
            yield Row(f"predict-{model}/{name}", ours, text, build)


def _sharing_rows(args: BenchmarkArguments) -> Iterable[Row]:
    yield Row("adapters/switch/float32", True, LABELS["switch"], partial(adapters_in_turn, args.shape))
    for group in _onnx_groups(args):
        for form in ("torch", "onnxruntime"):
            yield Row(f"{group.name}/{form}/float32", form != "torch", LABELS[form], partial(tiles_through, form))


def _family_rows(args: BenchmarkArguments) -> Iterable[Row]:
    for name, (ours, build, settings) in steps(args.model != "vit_b", args.image_size, args.batch_size).items():
        form = "ours" if ours else "transformers' own model, SDPA, PEFT"
        text = f"{form}: LoRA and decoder, {settings['image_size']} pixels"
        if args.device == "cpu":
            yield Row(name, ours, text, partial(build, **settings))


def _data_rows() -> Iterable[Row]:
    yield Row("data/tiles/float32", True, "augmented training tiles with skeletons", partial(tiles, _DATA_SIZE))
    yield Row("data/scores/float32", True, "all scores of an image", partial(scores, _DATA_SIZE))
