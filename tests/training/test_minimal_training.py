import numpy as np

from minimal_training import Arguments, main
from topolora_hf.adapters.loading import load_adapter


def test_the_loop_to_copy_trains_an_adapter_offline(tmp_path):
    small = {"tile_size": 64, "batch_size": 2, "max_steps": 3, "num_workers": 0, "scored_images": 1}
    scores = main(Arguments(output_dir=str(tmp_path / "adapter"), **small))
    assert scores["n"] == 1 and np.isfinite(scores["auroc"])
    settings = load_adapter(tmp_path / "adapter").adapter_settings
    assert (settings.tile_size, settings.dataset) == (64, "synthetic")
