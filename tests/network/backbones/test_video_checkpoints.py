"""Checkpoints of the models for video, as the Hub has them: their image part is read, without a warning."""

import json
import warnings

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import Sam2VideoConfig, Sam2VideoModel, Sam3TrackerVideoConfig, Sam3TrackerVideoModel

from topolora_hf import TopoSamForSegmentation

_MEMORY = {
    "memory_attention_hidden_size": 32,
    "memory_attention_num_layers": 1,
    "memory_attention_feed_forward_hidden_size": 64,
    "memory_attention_rope_feat_sizes": [4, 4],
    "memory_encoder_hidden_size": 32,
    "memory_encoder_output_channels": 16,
    "mask_downsampler_embed_dim": 32,
    "memory_fuser_embed_dim": 32,
}


def assert_is(directory, stock, family, capfd):
    """The directory's network holds the stock model's weights, and nothing was said about the others."""
    capfd.readouterr()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        network, info = TopoSamForSegmentation.from_pretrained(directory, output_loading_info=True)
    assert not any(info.values()) and "[transformers]" not in capfd.readouterr().err
    assert network.config.family == family
    expected = stock.state_dict()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in network.sam.state_dict().items())


@pytest.mark.parametrize(
    ("family", "model_class", "config_class"),
    [("sam2", Sam2VideoModel, Sam2VideoConfig), ("sam3_tracker", Sam3TrackerVideoModel, Sam3TrackerVideoConfig)],
)
def test_a_video_checkpoint_is_a_base(family, model_class, config_class, stock, tmp_path, capfd):
    image_model = stock(f"small-{family}")
    parts = {}
    for name in image_model.config.sub_configs:
        values = getattr(image_model.config, name).to_dict()
        parts[name] = {key: value for key, value in values.items() if name == "vision_config" or key != "model_type"}
    size = image_model.config.prompt_encoder_config.image_size
    video = model_class(config_class(**parts, **_MEMORY, image_size=size))
    assert not video.load_state_dict(image_model.state_dict(), strict=False).unexpected_keys
    video.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["model_type"] == f"{family}_video"
    assert any("memory_" in name for name in load_file(tmp_path / "model.safetensors"))
    assert_is(tmp_path, image_model, family, capfd)


def test_sam3s_checkpoint_of_detector_and_tracker_is_a_base(stock, family_base, tmp_path, capfd):
    """`facebook/sam3`: the encoder is the detector's, the neck and the rest the tracker's."""
    stored = load_file(family_base("sam3_tracker") / "model.safetensors")
    tensors = {"detector_model.text_encoder.weight": torch.ones(3), "tracker_model.memory_encoder.bias": torch.ones(3)}
    for name, tensor in stored.items():
        name = name.removeprefix("tracker_model.")
        if name.startswith("vision_encoder.backbone."):
            name = f"detector_model.{name}"
        elif name.startswith("vision_encoder.neck."):
            name = name.replace("vision_encoder.neck.", "tracker_neck.")
        elif not name.startswith(("detector_model.", "tracker_neck.")):
            name = f"tracker_model.{name}"
        tensors[name] = tensor
    config = json.loads((family_base("sam3_tracker") / "config.json").read_text())
    whole = {"model_type": "sam3_video", "tracker_config": config, "detector_config": {"model_type": "sam3"}}
    (tmp_path / "config.json").write_text(json.dumps(whole))
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    assert_is(tmp_path, stock("small-sam3_tracker"), "sam3_tracker", capfd)
