import ast
import math
import re

import pytest
from huggingface_hub import ModelCard

from topolora_hf.data.catalog import CATALOG, find_dataset
from topolora_hf.hub.model_card import ADAPTER_PLACE, render_model_card

SETTINGS = {
    "base": "facebook/sam-vit-base",
    "dataset": "drive",
    "preset": "topolora",
    "tile_size": 256,
    "learning_rate": 5e-4,
    "gradient_checkpointing": False,
    "resume": None,
}
METRICS = {"dataset": "drive", "split": "test", "protocol": "native", "threshold": 0.4, "n": 20, "dice": 0.81237}
METRICS |= {"cldice": 0.826, "iou": math.nan, "dice_before": 0.03}
PARAMETERS = [{"part": "LoRA", "trainable": 737_280, "total": 737_280}]


def table(card: ModelCard, header: str) -> dict[str, str]:
    """The rows of the one table of the card under that header, first cell to the rest."""
    rows = re.search(rf"^\| {header} \|.*\n\|[-|]+\|\n((?:\|.*\n)+)", card.text, re.MULTILINE).group(1)
    return {cells[1].strip(): cells[2].strip() for cells in (row.split("|") for row in rows.splitlines())}


def test_metadata_is_what_the_hub_indexes():
    data = render_model_card(SETTINGS, METRICS, repo_id="someone/drive-vessels", licence="mit").data
    assert data.library_name == "peft" and data.pipeline_tag == "image-segmentation" and data.license == "mit"
    assert data.base_model == "facebook/sam-vit-base"
    assert data.datasets == ["Zomba/DRIVE-digital-retinal-images-for-vessel-extraction"]
    assert data.model_name == "drive-vessels"


def test_scores_survive_writing_and_reading_as_a_model_index(tmp_path):
    render_model_card(SETTINGS, METRICS).save(tmp_path / "README.md")
    results = ModelCard.load(tmp_path / "README.md").data.eval_results
    assert {(result.metric_type, result.metric_value) for result in results} == {("dice", 0.8124), ("cldice", 0.826)}
    assert all(result.task_type == "image-segmentation" for result in results)
    assert all(result.dataset_split == "test" and result.metric_args == {"threshold": 0.4} for result in results)


def test_tables_hold_scores_settings_and_parameters():
    card = render_model_card(SETTINGS, METRICS, parameters=PARAMETERS)
    assert table(card, "score") == {"Dice": "0.812", "clDice": "0.826", "Dice before training": "0.030"}
    expected = {"`preset`": "topolora", "`learning_rate`": "0.0005", "`tile_size`": "256"}
    assert table(card, "setting") == expected
    assert table(card, "part") == {"LoRA": "737,280"}
    assert "20 images of the test split" in card.text and "read at its own resolution, 256 pixels" in card.text


@pytest.mark.parametrize(
    ("base", "said", "not_said"),
    [
        ("topolora_hf/tiny", "has seen synthetic drawings only", "random weights"),
        ("tiny", "pretrained on synthetic images", "random weights"),
        ("tiny-regions", "has seen synthetic drawings only", "random weights"),
        ("tiny-random", "random weights", "synthetic drawings"),
        ("vit-b-random", "a network with seeded random weights", "small network"),
    ],
)
def test_embedded_base_is_what_it_is_and_no_hub_repository(base, said, not_said):
    card = render_model_card(SETTINGS | {"base": base}, METRICS)
    assert card.data.base_model is None and "base_model" not in card.content
    assert said in card.text and not_said not in card.text
    stock = render_model_card(SETTINGS, METRICS).text
    assert "random weights" not in stock and "drawings" not in stock


OF_CLASSES = SETTINGS | {"labels": ["artery", "vein"], "threshold": (0.5, 0.4), "temperature": (1.0, 1.5)}
SCORES = {"classes": {"artery": {"dice": 0.68, "cldice": math.nan}, "vein": {"dice": 0.72, "cldice": 0.61}}}
SCORES |= {"all": {"dice": 0.8, "cldice": 0.82}, "dice": 0.7, "cldice": 0.61, "threshold": [0.5, 0.4]}
SCORES |= {"accuracy_on_structure": 0.83, "accuracy_on_found_structure": 0.91}


def test_classes_have_a_column_each_and_their_names():
    card = render_model_card(OF_CLASSES, METRICS | {"dice_before": None, "iou": None} | SCORES)
    assert "| score | mean | artery | vein | all together |\n|---|---|---|---|---|\n" in card.text
    assert (
        "| Dice | 0.700 | 0.680 | 0.720 | 0.800 |" in card.text
        and "| clDice | 0.610 | - | 0.610 | 0.820 |" in card.text
    )
    assert "**Classes:** artery, vein; they may share pixels" in card.text and "threshold 0.5, 0.4" in card.text
    assert "temperature 1, 1.5" in card.text and "marks these classes alone" in card.text
    assert "given it): 0.830" in card.text and "prediction.masks  # bool (2, H, W)" in card.text
    named = {result.metric_name: result.metric_value for result in card.data.eval_results}
    assert named["Dice"] == 0.7 and named["Dice, vein"] == 0.72 and "clDice, artery" not in named
    assert "clDice, on the logits" in card.text
    for thin, loss in ((("artery",), "clDice of artery, on the logits"), ((), "cross-entropy + Dice, on the logits")):
        assert loss in render_model_card(OF_CLASSES | {"thin": thin}, {}).text
    thresholds = {result.metric_name: result.metric_args["threshold"] for result in card.data.eval_results}
    assert thresholds["Dice, artery"] == 0.5 and thresholds["Dice, vein"] == 0.4
    assert thresholds["Dice"] == thresholds["Dice, all together"] == [0.5, 0.4]
    exclusive = render_model_card(OF_CLASSES | {"exclusive": True}, {}).text
    assert "belongs to one of them at most" in exclusive and "cross-entropy over background and classes" in exclusive


def test_a_private_base_is_not_taken_for_the_adapter_when_that_gets_its_address():
    for base in ("adapter", "adapter-base"):
        card = render_model_card(SETTINGS | {"base": base}, METRICS)
        assert f'base="path/to/{base}"' in card.text.replace(ADAPTER_PLACE, "someone/vessels")


@pytest.mark.parametrize(
    ("settings", "said", "not_said"),
    [
        ({}, "were not calibrated", "temperature"),
        ({"temperature": 1.37}, "by Platt scaling, temperature 1.37 and bias 0;", "not calibrated"),
        ({"temperature": 1.0, "logit_bias": -0.62}, "temperature 1 and bias -0.62;", "not calibrated"),
        ({"cldice_weight": 0.0}, "is binary cross-entropy + Dice, on", "clDice, on"),
        ({"cldice_weight": 0.3}, "+ Dice + 0.3 clDice, on", "weighted"),
        ({"use_sam": False}, "nothing of Segment Anything runs", "{%"),
        ({"use_sam": True}, "Segment Anything", "nothing of Segment Anything runs"),
        ({"fov_diameter": 539.6}, "scaled to a field of view of 540 pixels across\n", "{%"),
        ({"fov_colours": {"typical": [1]}}, "the colours of other cameras are brought to those", "pixels across"),
        ({"fov_diameter": None, "fov_colours": None}, "resolution, 256 pixels a side\n", "fundus"),
        ({"view": "full"}, "resized to one tile, 256 pixels", "at its own resolution"),
    ],
)
def test_every_sentence_is_that_of_this_adapter(settings, said, not_said):
    text = render_model_card(SETTINGS | settings, METRICS).text
    text = text[: text.index("## Citation")]
    assert said in text and not_said not in text


def test_what_was_scored_is_said_by_its_protocol():
    native, paper = (render_model_card(SETTINGS, METRICS | {"protocol": name}).text for name in ("native", "paper"))
    assert "at their own resolution" in native and "squashed to 384" not in native
    assert "squashed to 384" in paper and "at their own resolution, inside" not in paper


def test_only_thin_structures_are_tagged_as_such():
    tags = {name: render_model_card(SETTINGS | {"dataset": name}, {}).data.tags for name in ("stare", "sl_ssdd", "x/y")}
    assert {name: "thin-structures" in found for name, found in tags.items()} == {
        "stare": True,
        "sl_ssdd": False,
        "x/y": False,
    }


def test_a_base_of_ones_own_is_asked_for_in_the_examples():
    card = render_model_card(SETTINGS | {"base": "bases/my-sam"}, METRICS, repo_id="someone/vessels")
    assert card.data.base_model == "bases/my-sam"  # might be on the Hub
    card = render_model_card(SETTINGS | {"base": "/disk/bases/my-sam"}, METRICS, repo_id="someone/vessels")
    assert 'load_adapter("someone/vessels", base="path/to/my-sam")' in card.text
    assert "--output_dir masks --base path/to/my-sam\n" in card.text and "/disk" not in card.text


def test_no_local_path_gets_onto_the_card(tmp_path, monkeypatch):
    secret = tmp_path / "secret"
    (secret / "own scans").mkdir(parents=True)
    (secret / "sam-copy").mkdir()
    monkeypatch.chdir(tmp_path)
    paths = {
        "data_dir": "secret",
        "output_dir": str(secret),
        "hub_model_id": "secret",
        "layout": ["images=secret"],
    }
    for base, dataset in (
        (str(secret / "sam-copy"), str(secret / "own scans")),
        ("secret/sam-copy", "secret/own scans/"),
    ):
        card = render_model_card(SETTINGS | paths | {"base": base, "dataset": dataset}, METRICS | {"dataset": dataset})
        assert "secret" not in str(card)
        assert "own scans" in card.text and "`sam-copy`" in card.text
        assert card.data.base_model is None and card.data.datasets is None
        assert {result.dataset_type for result in card.data.eval_results} == {"own-scans"}


def test_a_data_set_on_the_hub_is_linked():
    card = render_model_card(SETTINGS | {"dataset": "someone/cracks"}, METRICS)
    assert card.data.datasets == ["someone/cracks"]
    assert "https://huggingface.co/datasets/someone/cracks" in card.text


@pytest.mark.parametrize("name", ["drive", "hrf", "kvasir", "synthetic"])
def test_a_folder_with_the_name_of_a_known_data_set_is_ones_own(name, tmp_path):
    (tmp_path / name).mkdir()
    spec, _ = find_dataset(str(tmp_path / name))
    card = render_model_card(SETTINGS | {"dataset": spec.name}, METRICS, dataset=spec)
    assert f"of the author's own ({name}); terms of the data: unknown" in card.text
    assert CATALOG[name].title not in str(card) and str(tmp_path) not in str(card)
    assert card.data.datasets is None and (not CATALOG[name].limits or CATALOG[name].limits not in card.text)


def test_what_is_known_of_the_data_is_told_by_hub_id_or_name():
    spec, _ = find_dataset("someone/cracks")
    card = render_model_card(SETTINGS | {"dataset": spec.name}, METRICS, dataset=spec)
    assert card.data.datasets == ["someone/cracks"] and "huggingface.co/datasets/someone/cracks" in card.text
    spec, _ = find_dataset("Angelou0516/kvasir-seg")
    card = render_model_card(SETTINGS | {"dataset": spec.name}, METRICS, dataset=spec)
    assert card.data.datasets == ["Angelou0516/kvasir-seg"] and CATALOG["kvasir"].title in card.text


def test_example_code_is_python_and_names_the_adapter():
    card = render_model_card(SETTINGS, METRICS, repo_id="someone/drive-vessels")
    code = re.search(r"```python\n(.*?)```", card.text, re.DOTALL).group(1)
    ast.parse(code)
    assert 'load_adapter("someone/drive-vessels")' in code and "at least 0.4" in code
    assert "topolora predict --adapter someone/drive-vessels" in card.text


def test_papers_are_cited():
    text = render_model_card(SETTINGS, METRICS).text
    for paper in ("2601.02273", "2304.02643", "2003.07311"):
        assert f"{{{paper}}}" in text
    assert "Staal" in text


def test_unscored_adapter_says_so_and_leaves_no_template_behind():
    card = render_model_card({"base": "facebook/sam-vit-base", "dataset": "synthetic"}, {})
    assert "Not scored yet." in card.text and card.data.eval_results is None
    for text in (str(card), str(render_model_card(SETTINGS, METRICS, parameters=PARAMETERS))):
        assert not re.search(r"\{\{|\{%|\bNone\b|\bnan\b|\n\n\n", text)


def test_strange_names_break_neither_table_nor_metadata(tmp_path):
    folder = tmp_path / "a|b: {{ c }}\nd"
    folder.mkdir()
    card = render_model_card(SETTINGS | {"dataset": str(folder), "split": "x | y"}, METRICS)
    card.save(tmp_path / "README.md")
    assert ModelCard.load(tmp_path / "README.md").data.eval_results == card.data.eval_results
    assert r"x \| y |" in card.text


@pytest.mark.parametrize("needed", ["base", "dataset"])
def test_a_card_without_base_or_data_set_is_refused(needed):
    with pytest.raises(ValueError, match=f"settings\\['{needed}'\\]"):
        render_model_card({key: value for key, value in SETTINGS.items() if key != needed}, METRICS)
