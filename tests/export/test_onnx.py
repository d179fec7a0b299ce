import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

from topolora_hf.adapter_format.settings import AdapterSettings
from topolora_hf.adapters.loading import load_adapter
from topolora_hf.commands.convert import ConvertArguments, convert
from topolora_hf.export.onnx_export import export_onnx
from topolora_hf.export.onnx_network import OnnxNetwork
from topolora_hf.inference.predictor import Predictor
from topolora_hf.network.segmenter import TopoSamForSegmentation

onnx = pytest.importorskip("onnx", reason="needs the packages of extra `export`")
pytest.importorskip("onnxruntime", reason="needs the packages of extra `export`")


@torch.no_grad()
def assert_parity(model, exported: OnnxNetwork, tile_size: int) -> None:
    for batch in (1, 3):
        tiles = torch.randn(batch, 3, tile_size, tile_size, generator=torch.Generator().manual_seed(batch))
        expected = model.eval()(pixel_values=tiles).logits
        assert expected.std() > 0.05
        torch.testing.assert_close(exported(pixel_values=tiles).logits, expected, rtol=0, atol=1e-3)


CASES = {
    "topolora": {"image_size": 96, "tile_size": 48},  # enlarged, windows filled up, positions interpolated
    "seglab": {"image_size": 48, "tile_size": 80},  # shrunk, antialiased
    "detail_only": {},
}


@pytest.fixture(scope="module", params=CASES)
def exported(request, adapters_of_the_session, stock_sam, tmp_path_factory):
    """An adapter's model, the file that it was exported to, and what was read of that; its settings are its own."""
    preset, sizes = request.param, CASES[request.param]
    folder = tmp_path_factory.mktemp("exported")
    directory = shutil.copytree(adapters_of_the_session(preset, stock_sam(), 0, **sizes)[1], folder / "adapter")
    settings = AdapterSettings.from_pretrained(directory)
    settings.threshold, settings.temperature, settings.logit_bias = 0.4, 1.3, -0.5
    settings.save(directory)
    model = load_adapter(directory, base=stock_sam())
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    file = export_onnx(model, folder / "new" / "network.onnx")
    after = model.state_dict()
    assert before.keys() == after.keys() and all(torch.equal(after[name], before[name]) for name in before)
    return model, file, OnnxNetwork(file)


def test_an_adapter_gives_the_same_logits(exported):
    model, _, network = exported
    assert network.adapter_settings == model.adapter_settings
    assert_parity(model, network, model.adapter_settings.tile_size)


def test_the_predictor_takes_it_as_any_network(exported):
    model, _, network = exported
    image = np.random.default_rng(0).integers(0, 256, (90, 130, 3), dtype=np.uint8)
    # In tiles: without SAM they would be windows, which a file of one size does not take.
    expected, prediction = Predictor(model, overlap=0.5)(image), Predictor(network)(image)
    assert prediction.thresholds == (0.4,)
    np.testing.assert_allclose(prediction.probability, expected.probability, rtol=0, atol=1e-4)


def test_the_file_is_a_valid_onnx_file_that_explains_itself(exported):
    model, file, _ = exported
    onnx.checker.check_model(str(file), full_check=True)
    stored = onnx.load(file)
    (pixels,), (logits,) = stored.graph.input, stored.graph.output
    assert (pixels.name, logits.name) == ("pixel_values", "logits")
    size = model.adapter_settings.tile_size
    assert [d.dim_param or d.dim_value for d in pixels.type.tensor_type.shape.dim] == ["batch", 3, size, size]
    assert json.loads(stored.metadata_props[0].value)["preset"] == model.adapter_settings.preset
    assert str(file.parent.parent).encode() not in file.read_bytes()
    assert [each.name for each in file.parent.iterdir()] == ["network.onnx"]


def test_tiles_of_another_size_are_refused(exported):
    *_, network = exported
    size = network.adapter_settings.tile_size
    with pytest.raises(ValueError, match=rf"takes \(B, 3, {size}, {size}\), got \(1, 3, 64, 64\)"):
        network(torch.zeros(1, 3, 64, 64))


def test_the_command_exports_an_adapter_of_three_classes_on_tiny(make_adapter, tmp_path):
    model, directory = make_adapter("topolora", num_labels=3)
    settings = replace(AdapterSettings.from_pretrained(directory), exclusive=True, threshold=(0.3, 0.4, 0.5))
    settings = replace(settings, labels=("artery", "vein", "other"), temperature=(1.0, 1.5, 2.0))
    settings.save(directory)
    output = convert(ConvertArguments(str(directory), str(tmp_path / "network.onnx")))
    exported = OnnxNetwork(output)
    assert exported.adapter_settings == settings
    assert exported.session.get_outputs()[0].shape[1] == 3
    assert_parity(model, exported, 48)
    image = np.random.default_rng(0).integers(0, 256, (60, 90, 3), dtype=np.uint8)
    found, expected = (Predictor(network)(image) for network in (exported, load_adapter(directory)))
    np.testing.assert_allclose(found.probabilities, expected.probabilities, atol=1e-4)
    assert found.labels == ("artery", "vein", "other") and found.exclusive and found.masks.sum(0).max() == 1


def test_a_base_is_exported_as_it_comes(stock_sam, tmp_path):
    network = TopoSamForSegmentation.from_pretrained(stock_sam())
    exported = OnnxNetwork(export_onnx(network, tmp_path / "base.onnx"))
    assert_parity(network, exported, 64)
    assert exported.adapter_settings == AdapterSettings.of_network(network)


def test_what_export_onnx_did_not_write_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere.onnx"):
        OnnxNetwork(tmp_path / "nowhere.onnx")
    (tmp_path / "broken.onnx").write_bytes(b"not a network")
    with pytest.raises(ValueError, match="cannot read .*broken.onnx"):
        OnnxNetwork(tmp_path / "broken.onnx")
    value = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1])
    graph = onnx.helper.make_graph([onnx.helper.make_node("Identity", ["x"], ["y"])], "g", [value], [])
    graph.output.append(onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1]))
    foreign = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=10)
    onnx.save(foreign, tmp_path / "foreign.onnx")
    with pytest.raises(ValueError, match="foreign.onnx holds no topolora_config"):
        OnnxNetwork(tmp_path / "foreign.onnx")
