"""Whatever an adapter's three files hold, it loads whole or is one named error, and nothing swells or hangs."""

import copy
import json
import shutil

import pytest
import torch
from hypothesis import strategies as st

from topolora_hf.adapter_format.errors import AdapterMismatchError
from topolora_hf.adapter_format.presets import preset_network_settings
from topolora_hf.adapter_format.reading import read_adapter
from topolora_hf.adapter_format.settings import AdapterSettings
from topolora_hf.adapters.creation import create_adapter, save_adapter
from topolora_hf.adapters.loading import load_adapter
from topolora_hf.network.segmenter import TopoSamForSegmentation

SETTINGS, CONFIG, WEIGHTS = "topolora_config.json", "adapter_config.json", "adapter_model.safetensors"
# What a value of JSON may be that its reader did not expect.
VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(-2, 2), st.sampled_from([10**6, 10**9, 2**63, 10**40, -1, 16, 48]),
    st.floats(), st.sampled_from(["", "none", "a/b", "../..", "(a+)+$", "x" * 2000, "topolora_hf/tiny", "XLORA"]),
    st.lists(st.one_of(st.integers(), st.text(max_size=3), st.none()), max_size=4), st.just([[[[]]]]),
    st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
)  # fmt: skip


@pytest.fixture(scope="module")
def small(stock_sam, tmp_path_factory):
    """A small base, the files of an adapter of it (LoRA of rank 1, spatial adapter, decoder), and its logits."""
    form = preset_network_settings("paper")
    network = TopoSamForSegmentation.from_pretrained(stock_sam(), image_size=32, tile_size=48, **form).eval()
    directory = tmp_path_factory.mktemp("whole")
    settings = AdapterSettings.of_network(network, preset="paper")
    save_adapter(create_adapter(copy.deepcopy(network), "paper", rank=1), settings, directory)
    files = {name: (directory / name).read_bytes() for name in (SETTINGS, CONFIG, WEIGHTS)}
    # Beside the directory, so that damage to one file leaves the others whole.
    return network, files, shutil.copytree(directory, tmp_path_factory.mktemp("damaged") / "adapter")


def with_value(content: bytes, place: int, value) -> bytes:
    """A JSON file in which one field, or a new one, has another value."""
    values = json.loads(content)
    names = [*values, "a_new_field"]
    return json.dumps({**values, names[place % len(names)]: value}).encode()


def with_header(content: bytes, place: int, value) -> bytes:
    """A safetensors file in whose header one entry of one tensor has another value."""
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    name = list(header)[place % len(header)]
    part = ("dtype", "shape", "data_offsets", None)[place % 4]
    known = {"dtype": ("I64", "F16", "BOOL", "F8_E5M2"), "shape": ([], [1], [2**40, 2**40]), "data_offsets": ([0, 4],)}
    if part is None:
        header[f"{name}.other"] = header.pop(name)
    elif isinstance(header[name], dict):
        choices = [value, *known[part]]
        header[name][part] = choices[place // 4 % len(choices)]
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + content[8 + length :]


@pytest.mark.parametrize("count", [40, pytest.param(10_000, marks=pytest.mark.slow)])
def test_damaged_adapters_load_or_are_named(small, fuzzer, count):
    network, files, directory = small
    outcomes = {"loaded": 0, "refused": 0}

    def check(example):
        name, damages, place, value, is_structured = example
        content = files[name]
        if is_structured:
            content = (with_header if name == WEIGHTS else with_value)(content, place, value)
        else:
            content = fuzzer.damaged(content, damages, files[WEIGHTS])
        (directory / name).write_bytes(content)
        try:
            read_adapter(directory)  # as `load_adapter` begins; a copy of the base takes longer
            model = load_adapter(directory, base=copy.deepcopy(network))
        except (AdapterMismatchError, ValueError, OSError) as error:
            assert str(error)
            outcomes["refused"] += 1
        else:
            assert all(torch.isfinite(tensor).all() for tensor in model.state_dict().values())
            assert model.adapter_settings.tile_size <= 16384
            outcomes["loaded"] += 1
        finally:
            (directory / name).write_bytes(files[name])

    names = st.sampled_from([SETTINGS, CONFIG, WEIGHTS])
    strategy = st.tuples(names, fuzzer.DAMAGES, st.integers(0, 1000), VALUES, st.booleans())
    grown = fuzzer.run(check, strategy, count)
    print(f"{count:,} damaged adapters: {outcomes}; peak memory grew by {grown / 2**20:.0f} MiB")
    assert load_adapter(directory, base=copy.deepcopy(network)).adapter_settings.preset == "paper"
