from types import SimpleNamespace

import pytest
import torch

from topolora_hf.training import features as features_module
from topolora_hf.training.features import FeatureCache
from topolora_hf.training.run import train


def test_features_are_computed_once_and_kept_exactly(tmp_path):
    seen = []

    def encode(pixel_values):
        seen.extend(pixel_values[:, 0, 0, 0].tolist())
        return pixel_values.sum(1)

    cache = FeatureCache(encode, tmp_path / "features.bin", images=3)
    pixels = torch.arange(3.0)[:, None, None, None] + torch.rand(3, 2, 4, 4) / 8
    for order in ([0, 1], [1, 2], [2, 0, 1], [0, 0]):
        assert torch.equal(cache([f"image{n}" for n in order], pixels[order]), pixels[order].sum(1))
    assert len(seen) == 3
    cache.close()
    assert not list(tmp_path.iterdir())


def test_a_disk_without_room_is_told_before_anything_is_written(tmp_path, monkeypatch):
    monkeypatch.setattr(features_module.shutil, "disk_usage", lambda _: SimpleNamespace(free=0))
    cache = FeatureCache(lambda pixels: pixels, tmp_path / "features.bin", images=10)
    with pytest.raises(OSError, match="10 images take 640 bytes"):
        cache(["a"], torch.zeros(1, 1, 4, 4))
    assert not list(tmp_path.iterdir())


def test_training_with_cached_features_is_training_without(make_arguments, splits, monkeypatch, no_pictures):
    """Full images without augmentation: the same losses, and the frozen layers run once an image."""
    settings = {"preset": "paper", "lora_layers": 1, "augmentation": "none", "max_steps": 4, "dataset": "kvasir"}
    plain = train(make_arguments("plain", **settings), splits)
    encoded = []
    encode = FeatureCache.__call__
    monkeypatch.setattr(FeatureCache, "__call__", lambda self, ids, x: encoded.extend(ids) or encode(self, ids, x))
    cached = train(make_arguments("cached", cache_features=True, **settings), splits)
    assert len(encoded) == 8
    assert cached["auroc"] == pytest.approx(plain["auroc"], abs=1e-5)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"dataset": "kvasir"}, "augmentation none"),
        ({"augmentation": "none"}, "view full"),
        ({"dataset": "kvasir", "augmentation": "none"}, "needs frozen layers"),
    ],
)
def test_a_cache_that_could_never_be_used_is_refused(make_arguments, splits, settings, words):
    with pytest.raises(ValueError, match=words):
        train(make_arguments(cache_features=True, **settings), splits)
