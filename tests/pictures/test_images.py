import math
import sys
import weakref

import numpy as np
import pytest
from PIL import Image

from topolora_hf.pictures import images as pictures
from topolora_hf.pictures.images import (
    error_overlay,
    overlay,
    save_best_and_worst,
    save_curves,
    save_samples,
)

GREY = np.full((40, 60, 3), 200, np.uint8)


def square(*box: int, shape: tuple[int, int] = (40, 60)) -> np.ndarray:
    mask = np.zeros(shape, bool)
    top, bottom, left, right = box
    mask[top:bottom, left:right] = True
    return mask


def sample(name: str, shape: tuple[int, int] = (40, 60)) -> dict:
    rng = np.random.default_rng(0)
    return {
        "id": name,
        "image": rng.integers(0, 256, (*shape, 3), np.uint8),
        "mask": square(10, 20, 10, 40, shape=shape).astype(np.uint8),
        "valid_mask": np.ones(shape, bool),
        "probability": rng.random(shape, np.float32),
    }


def test_overlay_is_opaque_on_the_outline_translucent_inside_and_absent_outside():
    mask = square(10, 30, 10, 50)
    picture = np.asarray(overlay(GREY, mask, colour=(0, 0, 0), opacity=0.25))
    assert picture.shape == GREY.shape and picture.dtype == np.uint8
    inside = square(11, 29, 11, 49)
    assert (picture[~mask] == 200).all()
    assert (picture[mask & ~inside] == 0).all()
    assert (picture[inside] == 150).all()


def test_overlay_draws_thin_structures_whole_and_opaque():
    line = square(20, 22, 0, 60) | square(0, 40, 30, 31)
    picture = np.asarray(overlay(GREY, line, colour=(1, 2, 3), opacity=0))
    assert (picture[line] == (1, 2, 3)).all() and (picture[~line] == 200).all()


def test_outline_grows_with_the_image():
    image, mask = np.zeros((20, 2000, 3), np.uint8), np.ones((20, 2000), bool)
    mask[:, :1000] = False
    picture = np.asarray(overlay(image, mask, colour=(255, 255, 255), opacity=0))
    assert picture[10, :, 0].nonzero()[0].tolist() == [1000, 1001, 1002, 1003]


def test_overlays_leave_their_input_alone_and_accept_empty_and_full_masks():
    image = GREY.copy()
    assert (np.asarray(overlay(image, np.zeros((40, 60), bool))) == 200).all()
    overlay(image, np.ones((40, 60), bool))
    error_overlay(image, np.ones((40, 60), bool), np.zeros((40, 60), bool))
    assert (image == 200).all()


def test_error_overlay_tells_hit_miss_and_false_apart():
    target, prediction = square(10, 20, 10, 30), square(10, 20, 20, 40)
    picture = np.asarray(error_overlay(GREY, prediction, target))
    assert (picture[square(10, 20, 20, 30)] == pictures.HIT).all()
    assert (picture[square(10, 20, 10, 20)] == pictures.MISS).all()
    assert (picture[square(10, 20, 30, 40)] == pictures.FALSE).all()
    assert (picture[~(target | prediction)] == 100).all()


def test_error_overlay_marks_nothing_outside_the_field_of_view():
    valid_mask = square(0, 40, 0, 30)
    picture = np.asarray(error_overlay(GREY, np.ones((40, 60), bool), np.zeros((40, 60), bool), valid_mask))
    assert (picture[valid_mask] == pictures.FALSE).all()
    assert (np.ptp(picture[~valid_mask], axis=1) == 0).all() and picture[~valid_mask].max() < 100


def test_error_colours_differ_for_people_with_colour_vision_deficiency():
    # Linear RGB as protanopes and deuteranopes see it (Machado et al. 2009, severity 1).
    matrices = {
        "protan": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
        "deutan": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
        "none": np.eye(3),
    }
    colours = (np.array([pictures.HIT, pictures.MISS, pictures.FALSE]) / 255) ** 2.2
    for matrix in matrices.values():
        seen = np.clip(colours @ np.array(matrix).T, 0, 1) ** (1 / 2.2)
        distances = [np.linalg.norm(seen[a] - seen[b]) for a, b in ((0, 1), (0, 2), (1, 2))]
        assert min(distances) > 0.35


@pytest.mark.parametrize("draw", [lambda i, m: overlay(i, m), lambda i, m: error_overlay(i, m, m)])
def test_overlays_refuse_what_does_not_fit(draw):
    mask = np.zeros((40, 60), bool)
    with pytest.raises(ValueError, match="image must be uint8"):
        draw(GREY / 255, mask)
    with pytest.raises(ValueError, match="image must be uint8"):
        draw(GREY[..., 0], mask)
    with pytest.raises(ValueError, match=r"has shape \(40, 59\), image has shape \(40, 60, 3\)"):
        draw(GREY, mask[:, :-1])
    with pytest.raises(ValueError, match="compare it with a threshold"):
        draw(GREY, np.full((40, 60), 0.4))


def test_overlay_refuses_an_opacity_in_percent():
    with pytest.raises(ValueError, match="opacity must lie in"):
        overlay(GREY, np.zeros((40, 60), bool), opacity=35)


def test_samples_of_different_sizes_make_one_readable_picture(tmp_path):
    path = tmp_path / "run" / "samples.png"
    tall, wide = sample("a/very" + "/long" * 40, (60, 40)), sample("b", (30, 90))
    del wide["valid_mask"]
    save_samples(path, [tall, wide])
    with Image.open(path) as picture:
        assert picture.format == "PNG" and min(picture.size) > 400
        assert np.asarray(picture.convert("L")).std() > 20


def test_samples_are_a_handful_and_show_id_and_dice(tmp_path):
    rows = [sample(f"image-{index}") for index in range(9)]
    rows[0]["probability"] = rows[0]["mask"].astype(np.float32)
    save_samples(tmp_path / "samples.svg", rows, max_rows=3)
    text = (tmp_path / "samples.svg").read_text()
    assert "image-0   Dice 1.000" in text and "image-2   Dice" in text and "image-3" not in text


def test_no_samples_are_refused(tmp_path):
    with pytest.raises(ValueError, match="no sample to draw"):
        save_samples(tmp_path / "samples.png", [])


def samples_of_dice(**scores: float) -> list[dict]:
    """Samples whose masks of 100 pixels are found in part, with nothing false: Dice is 2 f / (1 + f)."""
    rows = []
    for name, score in scores.items():
        found = np.zeros(100)
        found[: round(100 * score / (2 - score))] = 1
        row = sample(name)
        row["mask"] = square(10, 20, 10, 20).astype(np.uint8)
        row["probability"] = np.zeros((40, 60))
        row["probability"][10:20, 10:20] = found.reshape(10, 10)
        rows.append(row)
    return rows


def captions(path) -> list[str]:
    lines = path.read_text().splitlines()
    return [line.strip()[5:-4] for line in lines if line.strip().startswith(("<!-- best", "<!-- worst"))]


def test_best_and_worst_are_found_among_many_and_labelled(tmp_path):
    rows = samples_of_dice(a=0.5, b=0.9, c=0.2, d=0.7, e=0.3, f=0.8, g=0.6)
    save_best_and_worst(tmp_path / "run" / "ranked.svg", iter(rows), count=2)
    drawn = captions(tmp_path / "run" / "ranked.svg")
    assert [line.split("   ")[0] for line in drawn] == ["best: b", "best: f", "worst: e", "worst: c"]
    assert drawn[0].endswith("Dice 0.901")


def test_few_images_are_ranked_once_each_and_undefined_ones_passed_over(tmp_path):
    rows = samples_of_dice(low=0.2, middle=0.5, high=0.9)
    rows[1]["mask"] = rows[1]["probability"] = np.zeros((40, 60))
    save_best_and_worst(tmp_path / "two.svg", rows)
    assert [line.split("   ")[0] for line in captions(tmp_path / "two.svg")] == ["best: high", "worst: low"]
    with pytest.raises(ValueError, match="no sample to draw in .*none.png"):
        save_best_and_worst(tmp_path / "none.png", rows[1:2])
    with pytest.raises(ValueError, match="count must be 1 or more, got 0"):
        save_best_and_worst(tmp_path / "none.png", rows, count=0)


def test_ranking_many_images_keeps_a_few_of_them_in_memory(tmp_path):
    alive = weakref.WeakSet()

    class Sample(dict):
        __hash__ = object.__hash__

    def source():
        for row in samples_of_dice(**{f"image{index}": index / 20 for index in range(20)}):
            row = Sample(row)
            alive.add(row)
            yield row
            del row
            assert len(alive) <= 3

    save_best_and_worst(tmp_path / "ranked.svg", source(), count=1)
    assert [line.split("   ")[0] for line in captions(tmp_path / "ranked.svg")] == ["best: image19", "worst: image0"]


def history(steps: int) -> list[dict]:
    rows = [
        {"step": step, "epoch": step // 10, "loss": 2 / step, "learning_rate": 1e-4} for step in range(1, steps + 1)
    ]
    for row in rows[::10]:
        row["val_dice"], row["val_n"] = 1 - 1 / row["step"], 1000
    return rows


def texts(path) -> set[str]:
    """matplotlib's SVG keeps every text as a comment beside its glyphs."""
    return {line.strip()[5:-4] for line in path.read_text().splitlines() if line.strip().startswith("<!-- ")}


@pytest.mark.parametrize("steps", [1, 2, 300])
def test_curves_of_short_and_long_runs(tmp_path, steps):
    save_curves(tmp_path / "curves.svg", history(steps))
    drawn = texts(tmp_path / "curves.svg")
    assert {"training loss", "validation", "learning rate", "step", "dice"} <= drawn
    assert not drawn & {"n", "bce", "dice loss"}


def test_curves_do_without_missing_columns_and_values(tmp_path):
    rows = [
        {"step": 1, "loss": 1.0, "val_dice": None},
        {"step": 2, "loss": math.nan, "val_dice": ""},
        {"step": "3", "loss": "0.5"},
    ]
    save_curves(tmp_path / "curves.svg", rows)
    drawn = texts(tmp_path / "curves.svg")
    assert "training loss" in drawn and not drawn & {"validation", "learning rate"}


def test_of_many_validation_scores_only_those_to_follow_are_drawn(tmp_path):
    rows = [{"step": step, "val_cldice": 0.5, "val_betti0_error": 90.0, "val_auroc": 0.9} for step in (1, 2)]
    save_curves(tmp_path / "curves.svg", rows)
    drawn = texts(tmp_path / "curves.svg")
    assert "cldice" in drawn and not drawn & {"betti0 error", "auroc"}


def test_a_history_with_nothing_to_draw_is_refused(tmp_path):
    for rows in ([], [{"step": 1, "loss": None}]):
        with pytest.raises(ValueError, match="nothing to draw"):
            save_curves(tmp_path / "curves.png", rows)


def test_pyplot_is_never_touched(tmp_path):
    imported_before = "matplotlib.pyplot" in sys.modules
    save_curves(tmp_path / "curves.png", history(3))
    save_samples(tmp_path / "samples.png", [sample("a")])
    if imported_before:
        assert not sys.modules["matplotlib.pyplot"].get_fignums()
    else:
        assert "matplotlib.pyplot" not in sys.modules
