import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from topolora_hf.adapter_format.errors import AdapterMismatchError
from topolora_hf.adapters.adapted import AdaptedNetwork
from topolora_hf.adapters.loading import load_adapter
from topolora_hf.commands.demo import DemoArguments
from topolora_hf.demo.shelf import AdapterShelf
from topolora_hf.inference.predictor import Predictor
from topolora_hf.network.segmenter import TopoSamForSegmentation


def test_each_name_predicts_as_its_adapter_alone(adapters, photograph):
    shelf = AdapterShelf(adapters)
    expected = {name: Predictor(load_adapter(name))(photograph) for name in adapters}
    for name in (*adapters, *reversed(adapters)):
        found = shelf.predict(name, photograph)
        np.testing.assert_array_equal(found.probability, expected[name].probability)
        assert found.thresholds == expected[name].thresholds == (shelf.settings(name).threshold,)
    assert np.abs(expected[adapters[0]].probability - expected[adapters[1]].probability).max() > 0.1


def test_adapters_of_one_form_share_their_base(adapters, make_adapter, photograph):
    other = str(make_adapter("paper")[1])
    shelf = AdapterShelf([*adapters, other])
    for name in shelf.names:
        shelf.predict(name, photograph)
    first, second, third = (shelf._predictors[name].model for name in shelf.names)
    assert first is second is not third and isinstance(first, AdaptedNetwork)


def test_adapters_of_one_class_and_of_two_share_their_base(adapters, make_adapter, photograph):
    two = str(make_adapter("topolora", seed=3, num_labels=2)[1])
    shelf = AdapterShelf([adapters[0], two])
    expected = {name: Predictor(load_adapter(name))(photograph) for name in shelf.names}
    for name in (adapters[0], two, adapters[0]):
        found = shelf.predict(name, photograph)
        assert len(found.probabilities) == len(found.labels) == (2 if name == two else 1)
        np.testing.assert_allclose(found.probabilities, expected[name].probabilities, atol=1e-6)
    assert shelf._predictors[adapters[0]].model is shelf._predictors[two].model


def test_adapters_of_other_weights_of_that_base_do_not_share_it(adapters):
    file = Path(adapters[1], "adapter_config.json")
    file.write_text(json.dumps(json.loads(file.read_text()) | {"revision": "0" * 12}))
    shelf = AdapterShelf(adapters)
    shelf.settings(adapters[0])
    with pytest.warns(match="of revision 000000000000"):
        shelf.settings(adapters[1])
    first, second = (shelf._predictors[name].model for name in adapters)
    assert first is not second


def test_the_embedded_base_and_whole_networks_are_offered_too(adapters, photograph, tmp_path):
    load_adapter(adapters[0]).merge_and_unload().save_pretrained(tmp_path / "merged")
    shelf = AdapterShelf(["tiny", adapters[0], str(tmp_path / "merged")])
    tiny = TopoSamForSegmentation.from_pretrained("topolora_hf/tiny", use_sam=False)
    found = shelf.predict("tiny", photograph).probability
    np.testing.assert_array_equal(found, Predictor(tiny, shelf.settings("tiny"))(photograph).probability)
    assert shelf.predict(str(tmp_path / "merged"), photograph).probability.shape == (50, 70)


def test_nothing_is_loaded_before_it_is_asked_for(adapters):
    shelf = AdapterShelf([adapters[0], "no/such/thing"])
    assert shelf.settings(adapters[0]).threshold == 0.4
    with pytest.raises(FileNotFoundError, match="nothing at no/such/thing"):
        shelf.settings("no/such/thing")


def test_an_adapter_that_does_not_fit_leaves_the_others_as_they_are(adapters, photograph):
    first, second = adapters
    shelf = AdapterShelf(adapters)
    before = shelf.predict(first, photograph).probability
    weights = Path(second, "adapter_model.safetensors")
    shutil.copy(weights, weights.with_suffix(".whole"))
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(AdapterMismatchError, match="adapter_model.safetensors"):
        shelf.predict(second, photograph)
    np.testing.assert_array_equal(shelf.predict(first, photograph).probability, before)
    shutil.copy(weights.with_suffix(".whole"), weights)
    assert shelf.predict(second, photograph).thresholds == (0.6,)


def test_names_are_there_and_each_is_one():
    with pytest.raises(ValueError, match="got none"):
        AdapterShelf([])
    with pytest.raises(ValueError, match="each once; got a, a"):
        AdapterShelf(["a", "a"])
    with pytest.raises(KeyError, match="no adapter 'b' here, but a"):
        AdapterShelf(["a"]).predict("b", "x.png")


def test_precision_is_passed_on(adapters, photograph):
    exact = AdapterShelf(adapters).predict(adapters[0], photograph).probability
    rough = AdapterShelf(adapters, dtype=torch.bfloat16).predict(adapters[0], photograph).probability
    assert 0 < np.abs(rough - exact).max() < 0.1


@pytest.mark.parametrize(
    ("settings", "names"),
    [
        ({}, ["tiny"]),
        ({"adapters": ["a", "b"]}, ["a", "b", "tiny"]),
        ({"adapters": ["tiny", "b"]}, ["tiny", "b"]),
        ({"adapters": ["a"], "tiny": False}, ["a"]),
    ],
)
def test_the_embedded_base_is_offered_unless_told_otherwise(settings, names):
    assert DemoArguments(**settings).names == names
