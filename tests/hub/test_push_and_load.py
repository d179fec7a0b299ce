"""Adapters through the Hub and back, by the real clients against a server on loopback."""

import io
import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from datasets import Dataset, Features, Image
from huggingface_hub import ModelCard
from PIL import Image as Picture
from safetensors.torch import load, save

from .conftest import ROOT
from .server import TOKEN, USER

NO_PICTURES = """
from topolora_hf.training import results, scoring
results.save_curves = scoring.SplitScores.save = lambda *_: None
"""
# Trains an adapter for a SAM that lies on the Hub, and pushes it.
TRAIN = """
import numpy as np
from topolora_hf import TrainArguments, train

def row(number):
    mask = np.zeros((72, 80), np.uint8)
    mask[10 + number : 13 + number] = 1
    image = np.random.default_rng(number).integers(0, 80, (72, 80, 3), dtype=np.uint8) + 120 * mask[..., None]
    return {"id": f"image{number}", "image": image, "mask": mask[None], "valid_mask": np.ones((72, 80), bool)}

rows = [row(number) for number in range(6)]
train(
    TrainArguments(
        dataset="crosses", base="someone/small-sam", output_dir="runs/crosses", image_size=32, tile_size=48,
        max_steps=2, batch_size=2, num_workers=0, num_threads=1, mixed_precision="no", score_untrained=False, **MORE
    ),
    {"train": rows[:3], "validation": rows[3:4], "test": rows[4:]},
)
"""
LOGITS = """
import torch
from topolora_hf import load_adapter

def logits_of(model):
    pixels = torch.linspace(-2, 2, 3 * 48 * 48).reshape(1, 3, 48, 48)
    with torch.no_grad():
        return model.eval()(pixel_values=pixels).logits
"""
FOUR_DOORS = """
from peft import AutoPeftModel, PeftModel
from topolora_hf import TopoSamForSegmentation

expected = torch.load("logits.pt")
base = TopoSamForSegmentation.from_pretrained("someone/small-sam")
for model in (
    load_adapter("someone/crosses"),
    PeftModel.from_pretrained(base, "someone/crosses"),
    AutoPeftModel.from_pretrained("someone/crosses", import_allowlist=["topolora_hf"]),
    TopoSamForSegmentation.from_pretrained("someone/crosses"),
):
    print((logits_of(model) - expected).abs().max().item())
"""


@pytest.fixture
def small_sam(hub, stock_sam):
    """A stock SAM on the Hub, under a name: `small_sam("org/name")`."""

    def add(name: str) -> str:
        hub.add("models", name, {file.name: file.read_bytes() for file in Path(stock_sam()).iterdir()})
        return name

    return add


def succeed(process):
    assert process.returncode == 0, process.stdout[-2000:] + process.stderr[-4000:]
    return process.stdout.splitlines()


def files_of(hub, name):
    repository = hub.repositories["models", name]
    return repository.commits[repository.head]


def test_trained_pushed_and_loaded_by_every_door(hub, small_sam, fresh_process, tmp_path):
    small_sam("someone/small-sam")
    keep = '\ntorch.save(logits_of(load_adapter("runs/crosses/adapter")), "logits.pt")'
    code = TRAIN.replace("**MORE", 'push_to_hub=True, hub_model_id="crosses"')
    trained = succeed(fresh_process(code + LOGITS + keep))
    assert trained[-1] == f"pushed to {hub.url}/someone/crosses"

    files = files_of(hub, "someone/crosses")
    sent = hub.requests
    assert "POST /someone/crosses.git/info/lfs/objects/batch" in sent and any("PUT /blobs/" in one for one in sent)
    assert (
        files["adapter_model.safetensors"] == (tmp_path / "runs/crosses/adapter/adapter_model.safetensors").read_bytes()
    )
    assert {"adapter_config.json", "topolora_config.json", "README.md", "results/per_image.csv"} <= files.keys()
    assert {"results/samples.png", "results/metrics.json"} <= files.keys()
    for path, content in files.items():
        assert str(tmp_path).encode() not in content and b"/home" not in content and TOKEN.encode() not in content, path

    differences = succeed(fresh_process(LOGITS + FOUR_DOORS))
    *exact, transformers_own = map(float, differences)
    assert exact == [0, 0, 0] and transformers_own < 2e-5, "it runs LoRA in another order"

    card = ModelCard(files["README.md"].decode())
    assert card.data.base_model == "someone/small-sam" and card.data.library_name == "peft"
    scores = json.loads(files["results/metrics.json"])
    assert {result.metric_type: result.metric_value for result in card.data.eval_results}["dice"] == round(
        scores["dice"], 4
    )
    assert "(results/samples.png)" in card.text and "path/to/the/adapter" not in card.text
    Picture.new("RGB", (60, 50)).save(tmp_path / "photo.png")
    (example,) = re.findall(r"```python\n(.*?)```", card.text, re.DOTALL)
    succeed(fresh_process(example))
    (command,) = re.findall(r"```bash\ntopolora predict (.*?)\n```", card.text)
    succeed(fresh_process([str(ROOT / "recipes/predict.py"), *shlex.split(command)]))
    masks = [Picture.open(tmp_path / name) for name in ("photo_mask.png", "masks/photo_mask.png")]
    assert masks[0].size == (60, 50) and masks[0].tobytes() == masks[1].tobytes()


def test_an_adapter_keeps_to_the_weights_that_its_base_had(hub, small_sam, fresh_process):
    small_sam("someone/small-sam")
    base = hub.repositories["models", "someone/small-sam"]
    first = base.head
    code = TRAIN.replace("**MORE", 'push_to_hub=True, hub_model_id="crosses"')
    keep = '\ntorch.save(logits_of(load_adapter("runs/crosses/adapter")), "logits.pt")'
    succeed(fresh_process(NO_PICTURES + code + LOGITS + keep))
    assert json.loads(files_of(hub, "someone/crosses")["adapter_config.json"])["revision"] == first

    weights = load(base.commits[first]["model.safetensors"])
    other = save({name: tensor + 0.1 for name, tensor in weights.items()}, metadata={"format": "pt"})
    second = base.commit(base.commits[first] | {"model.safetensors": other})
    code = """
import warnings
from peft import AutoPeftModel
from topolora_hf import TopoSamForSegmentation

expected = torch.load("logits.pt")
for model in (
    load_adapter("someone/crosses"),
    AutoPeftModel.from_pretrained("someone/crosses", import_allowlist=["topolora_hf"]),
    TopoSamForSegmentation.from_pretrained("someone/crosses"),
):
    print((logits_of(model) - expected).abs().max().item())
network = TopoSamForSegmentation.from_pretrained("someone/small-sam", image_size=32, tile_size=48)
print(network.revision)
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    print((logits_of(load_adapter("someone/crosses", base=network)) - expected).abs().max().item())
print([str(one.message) for one in caught if "was trained on" in str(one.message)])
"""
    ours, pefts, theirs, revision, different, warning = succeed(fresh_process(LOGITS + code))
    assert float(ours) == float(pefts) == 0 <= float(theirs) < 2e-5 < float(different) and revision == second
    assert f"small-sam of revision {first}; this one is someone/small-sam of revision {second}" in warning


def test_an_adapter_of_the_embedded_base_comes_through_transformers_door_too(hub, make_adapter, fresh_process):
    model, directory = make_adapter("topolora", "topolora_hf/tiny-random", detail_channels=4)
    hub.add("models", "someone/vessels", {file.name: file.read_bytes() for file in directory.iterdir()})
    code = """
from topolora_hf import TopoSamForSegmentation
network = TopoSamForSegmentation.from_pretrained("someone/vessels")
difference = logits_of(network) - logits_of(load_adapter("someone/vessels"))
print(network.config.detail_channels, difference.abs().max().item())
"""
    channels, difference = succeed(fresh_process(LOGITS + code))[0].split()
    assert int(channels) == 4 and float(difference) < 1e-5


def test_a_token_is_passed_on_to_a_private_base(hub, make_adapter, small_sam, stock_sam, fresh_process):
    directory = make_adapter("topolora", base=stock_sam())[1]
    files = {file.name: file.read_bytes() for file in directory.iterdir()}
    settings = json.loads(files["topolora_config.json"]) | {"base": "someone/small-sam"}
    files["topolora_config.json"] = json.dumps(settings).encode()
    hub.add("models", "someone/vessels", files, private=True)
    base = {file.name: file.read_bytes() for file in Path(stock_sam()).iterdir()}
    hub.add("models", "someone/small-sam", base, private=True)
    code = LOGITS + f'print(type(load_adapter("someone/vessels", token="{TOKEN}")).__name__)'
    assert succeed(fresh_process(code, token=None)) == ["AdaptedNetwork"]


def test_the_missions_own_command(hub, small_sam, fresh_process, tmp_path):
    small_sam("facebook/sam-vit-base")
    hub.add("datasets", "Angelou0516/kvasir-seg", {"data/train-00000-of-00001.parquet": polyps(12)})
    command = [str(ROOT / "recipes/train.py"), "--dataset", "kvasir", "--push_to_hub"]
    shorter = "--max_steps 2 --image_size 32 --tile_size 48 --num_workers 0 --num_threads 1 --no_score_untrained"
    succeed(fresh_process([*command, *shorter.split()]))
    name = f"{USER}/kvasir-topolora-0"
    assert "adapter_model.safetensors" in files_of(hub, name)
    code = f"""
from peft import PeftModel
from topolora_hf import TopoSamForSegmentation
base = TopoSamForSegmentation.from_pretrained("facebook/sam-vit-base")
alone = logits_of(TopoSamForSegmentation.from_pretrained("facebook/sam-vit-base", image_size=32, tile_size=48))
print((logits_of(PeftModel.from_pretrained(base, "{name}")) - logits_of(load_adapter("{name}"))).abs().max().item())
print((logits_of(load_adapter("{name}")) - alone).abs().max().item())
"""
    between_doors, from_base = map(float, succeed(fresh_process(LOGITS + code)))
    assert between_doors == 0 < from_base


# Names and options -> one line each: the error.
SAY_WHAT_IS_WRONG = """
from topolora_hf import AdapterMismatchError

def say(name, **options):
    try:
        load_adapter(name, **options)
    except (AdapterMismatchError, OSError) as error:
        print(f"{type(error).__name__}: {error}".replace("\\n", " "))
    else:
        print(f"{name} was loaded")
"""


def test_what_cannot_be_loaded_is_named(hub, make_adapter, fresh_process):
    _, directory = make_adapter()
    files = {file.name: file.read_bytes() for file in directory.iterdir()}
    hub.add("models", "someone/open", files)
    hub.add("models", "someone/hidden", files, private=True)
    hub.add("models", "someone/else", {"README.md": b"something else"})
    code = LOGITS + SAY_WHAT_IS_WRONG + 'say("someone/hidden")\nsay("someone/none")\nsay("someone/else")\n'
    hidden, none, foreign, revision = succeed(fresh_process(code + 'say("someone/open", revision="v9")', token=None))
    for name, message in (("hidden", hidden), ("none", none)):
        assert f"no repository someone/{name} on the Hub that you may read" in message and "hf auth login" in message
    assert "someone/open has no revision 'v9'" in revision
    assert "someone/else holds no topolora_config.json" in foreign
    assert succeed(fresh_process(LOGITS + 'print(type(load_adapter("someone/hidden")).__name__)')) == ["AdaptedNetwork"]


def test_a_file_that_is_not_whole_is_named_whether_the_line_or_the_file_is_cut(
    hub, make_adapter, small_sam, stock_sam, fresh_process
):
    _, directory = make_adapter(base=stock_sam())
    files = {file.name: file.read_bytes() for file in directory.iterdir()}
    settings = files["topolora_config.json"].replace(b"stock-sam-small", small_sam("someone/small-sam").encode())
    hub.add("models", "someone/vessels", files | {"topolora_config.json": settings})
    weights = files["adapter_model.safetensors"]
    hub.add("models", "someone/half", files | {"adapter_model.safetensors": weights[: len(weights) // 2]})
    hub.cut.add("adapter_model.safetensors")
    (cut,) = succeed(fresh_process(LOGITS + SAY_WHAT_IS_WRONG + 'say("someone/vessels")'))
    assert "adapter_model.safetensors of the Hub repository someone/vessels did not arrive whole, try again" in cut
    hub.cut = {"model.safetensors"}
    half, base = succeed(fresh_process(LOGITS + SAY_WHAT_IS_WRONG + 'say("someone/half")\nsay("someone/vessels")'))
    assert half.startswith("AdapterMismatchError") and "cannot be read as safetensors" in half
    assert "on the base someone/small-sam: " in base and "If the base is on the Hub, try again" in base
    hub.cut.clear()
    assert succeed(fresh_process(LOGITS + SAY_WHAT_IS_WRONG + 'say("someone/vessels")')) == [
        "someone/vessels was loaded"
    ]


def test_a_failed_push_loses_nothing_and_says_what_to_do(hub, make_adapter, fresh_process, tmp_path):
    _, directory = make_adapter()
    (directory / "README.md").write_text("---\nlicense: apache-2.0\n---\nUse path/to/the/adapter\n")
    before = {file.name: file.read_bytes() for file in directory.iterdir()}
    code = f"""
from topolora_hf import PushError, push_adapter
try:
    print(push_adapter("{directory}", "NAME", private=True))
except PushError as error:
    print(error)
"""

    def push(name="vessels", **options):
        (line,) = succeed(fresh_process(code.replace("NAME", name), **options))
        return line

    nobody = push(token=None)
    assert "hf auth login" in nobody
    stranger = push(name="other/vessels")
    assert "403" in stranger and "may not write" in stranger
    elsewhere = 'import huggingface_hub.constants\nhuggingface_hub.constants.ENDPOINT = "http://127.0.0.1:9"\n'
    (closed,) = succeed(fresh_process(elsewhere + code.replace("NAME", "vessels")))
    assert "Try again" in closed
    hub.refuse = 500
    broken = push()
    assert "500" in broken
    for message in (nobody, stranger, closed, broken):
        assert f"topolora push --directory {directory}" in message and TOKEN not in message
    assert {file.name: file.read_bytes() for file in directory.iterdir()} == before
    hub.refuse = None
    assert push() == f"{hub.url}/someone/vessels" and hub.repositories["models", "someone/vessels"].private
    (directory / "README.md").write_text("---\nlicense: apache-2.0\n---\nBetter: path/to/the/adapter\n")
    push()
    assert b"Better: someone/vessels" in files_of(hub, "someone/vessels")["README.md"]


def test_the_adapter_folder_of_a_run_is_pushed_as_the_run(hub, make_adapter, fresh_process, tmp_path):
    _, directory = make_adapter()
    (directory / "README.md").write_text("---\nlicense: apache-2.0\n---\nUse path/to/the/adapter\n")
    (tmp_path / "eyes").mkdir()
    directory.rename(tmp_path / "eyes/adapter")
    (tmp_path / "eyes/metrics.json").write_text("{}")
    code = 'from topolora_hf import push_adapter\nprint(push_adapter("eyes/adapter"))'
    assert succeed(fresh_process(code)) == [f"{hub.url}/someone/eyes"]
    assert "results/metrics.json" in files_of(hub, "someone/eyes")


def test_a_run_that_may_not_push_does_not_train(hub, small_sam, fresh_process, tmp_path):
    small_sam("someone/small-sam")
    refused = fresh_process(TRAIN.replace("**MORE", "push_to_hub=True"), token=None)
    assert refused.returncode == 1 and "hf auth login" in refused.stderr
    assert not (tmp_path / "runs").exists()


def polyps(count: int) -> bytes:
    """A Parquet file of the Kvasir repository's schema: bright discs."""

    def png(array):
        buffer = io.BytesIO()
        Picture.fromarray(array).save(buffer, "PNG")
        return {"bytes": buffer.getvalue(), "path": None}

    rows = {"image": [], "mask": []}
    y, x = np.mgrid[:70, :90]
    for number in range(count):
        disc = (y - 30) ** 2 + (x - 40 - number) ** 2 < 200
        noise = np.random.default_rng(number).integers(0, 90, (70, 90, 3), dtype=np.uint8)
        rows["image"].append(png(noise + 120 * disc[..., None].astype(np.uint8)))
        rows["mask"].append(png(disc.astype(np.uint8) * 255))
    buffer = io.BytesIO()
    Dataset.from_dict(rows, features=Features({"image": Image(), "mask": Image()})).to_parquet(buffer)
    return buffer.getvalue()
