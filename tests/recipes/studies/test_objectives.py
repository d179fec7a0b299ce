"""The rivals of clDice: each against a plain formulation and finite differences; and the study of them."""

import json
from dataclasses import asdict

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import ndimage
from skimage.morphology import skeletonize

import rival_losses
from engine import worker
from engine.study import write_study
from objectives import ObjectivesArguments, plan_objectives
from rival_losses import OBJECTIVES, Scnp, cbdice_loss, skeleton_recall_loss, worst_of_class
from topolora_hf import TopoLoss
from topolora_hf.files import write_json
from topolora_hf.metrics.report import write_per_image_csv

_CROSS = ndimage.generate_binary_structure(2, 1)
_ITERATIONS = 3


@pytest.fixture(scope="module")
def maps() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Probabilities off one half, targets and their skeletons, (2, 1, 14, 15): lines of several widths, shifted."""
    rng = np.random.default_rng(3)
    target = np.zeros((2, 1, 14, 15))
    target[0, 0, 2:5] = target[0, 0, :, 9:14] = target[1, 0, 6:7, 2:] = target[1, 0, 6:13, 4:7] = 1
    found = np.roll(target, 1, axis=-2)
    probabilities = np.where(found > 0, rng.uniform(0.6, 0.95, target.shape), rng.uniform(0.02, 0.35, target.shape))
    skeletons = np.stack([[skeletonize(one[0] > 0)] for one in target]).astype(float)
    return tuple(map(torch.from_numpy, (probabilities, target, skeletons)))


def test_skeleton_recall_is_the_mean_probability_on_the_dilated_skeleton_inside_the_target(maps):
    found = skeleton_recall_loss(*maps)
    for number, (probabilities, target, skeleton) in enumerate(zip(*(one[:, 0].numpy() for one in maps), strict=True)):
        tube = ndimage.binary_dilation(skeleton > 0, _CROSS, iterations=2) & (target > 0)
        assert tube.sum() > skeleton.sum()
        assert found[number, 0] == pytest.approx(1 - probabilities[tube].mean(), abs=1e-9)
    assert skeleton_recall_loss(maps[0], maps[1] * 0, maps[2] * 0).isnan().all()


def plain_soft_skeleton(image: np.ndarray) -> np.ndarray:
    """Algorithm 1 of clDice's paper, by SciPy's filters."""

    def opened(values):
        return ndimage.grey_dilation(values, size=(3, 3), mode="constant", cval=-9)

    def eroded(values):
        return ndimage.grey_erosion(values, footprint=_CROSS, mode="constant", cval=9)

    skeleton = np.maximum(image - opened(eroded(image)), 0)
    for _ in range(_ITERATIONS):
        image = eroded(image)
        residue = np.maximum(image - opened(eroded(image)), 0)
        skeleton += np.maximum(residue - skeleton * residue, 0)
    return skeleton


def plain_cbdice(probabilities: np.ndarray, target: np.ndarray, skeleton: np.ndarray) -> float:
    """Sums over pixels, one by one; distances by trying every pixel of the background."""

    def distances(mask):
        outside = np.argwhere(~mask)
        return {tuple(p): np.hypot(*(outside - p).T).min() for p in np.argwhere(mask)}

    soft = plain_soft_skeleton(probabilities)
    deep = {"p": distances(probabilities > 0.5), "t": distances(target > 0)}
    lines = {"p": set(map(tuple, np.argwhere(soft > 0.5))), "t": set(map(tuple, np.argwhere(skeleton > 0)))}
    most = {side: max([1, *(deep[side].get(place, 0) for place in lines[side])]) for side in "pt"}
    value = {"p": probabilities, "t": target}
    on_line = {"p": soft, "t": skeleton}

    def radius(side, place):
        return deep[side].get(place, 0) / most[side] * value[side][place] if place in lines[side] else 0

    def share(own, other):
        found = possible = 1e-3
        for place in lines[own]:
            weight = on_line[own][place] / (deep[own].get(place, 0) / most[own])
            found += weight * min(deep[other].get(place, 0) / most[other], 1) * value[other][place]
            possible += weight * (radius(other, place) or radius(own, place))
        return found / possible

    precision, sensitivity = share("p", "t"), share("t", "p")
    return 2 * precision * sensitivity / (precision + sensitivity)


def test_cbdice_weights_every_pixel_by_distance_and_radius(maps):
    found = cbdice_loss(*maps, _ITERATIONS)
    for number, of_map in enumerate(zip(*(one[:, 0].numpy() for one in maps), strict=True)):
        assert found[number, 0] == pytest.approx(1 - plain_cbdice(*of_map), abs=1e-5)
    assert cbdice_loss(maps[0], maps[1] * 0, maps[2] * 0, _ITERATIONS).isnan().all()
    same = cbdice_loss(maps[1], maps[1], maps[1] * maps[2], _ITERATIONS)
    assert (same < found).all(), "what is found whole costs less than what is shifted"


def test_scnp_takes_the_worst_logit_of_the_same_class_around_each_pixel():
    rng = np.random.default_rng(0)
    logits, is_foreground = rng.normal(size=(7, 8)), rng.random((7, 8)) < 0.5
    is_valid = rng.random((7, 8)) < 0.8
    expected = logits.copy()
    for y, x in np.argwhere(is_valid):
        around = [(j, i) for j in range(y - 1, y + 2) for i in range(x - 1, x + 2) if 0 <= j < 7 and 0 <= i < 8]
        same = [logits[p] for p in around if is_valid[p] and is_foreground[p] == is_foreground[y, x]]
        expected[y, x] = min(same) if is_foreground[y, x] else max(same)
    found = worst_of_class(*(torch.from_numpy(one)[None, None] for one in (logits, is_foreground, is_valid)))
    np.testing.assert_array_equal(found[0, 0].numpy(), expected)
    assert (found[0, 0].numpy() != logits).sum() > 20


def test_the_objective_by_scnp_is_the_usual_one_of_those_logits_and_leaves_out_what_is_not_valid(maps):
    logits, labels, valid = maps[0].logit().float(), maps[1].to(torch.uint8), torch.ones(2, 14, 15, dtype=torch.bool)
    labels[0, 0, 3, 3], valid[1, 6, 5] = 255, False
    is_valid = valid[:, None] & (labels != 255)
    worst = worst_of_class(logits, labels == 1, is_valid)
    found = Scnp(_ITERATIONS)(logits.bfloat16().float(), labels, valid)
    of_half = Scnp(_ITERATIONS)(logits.bfloat16(), labels, valid)
    assert of_half.total == found.total and of_half.total.dtype == torch.float32
    assert Scnp(_ITERATIONS)(logits, labels, valid).total == TopoLoss(_ITERATIONS)(worst, labels, valid).total
    changed = logits.clone()
    changed[0, 0, 3, 3] = changed[1, 0, 6, 5] = 50
    assert Scnp(_ITERATIONS)(changed, labels, valid).total == Scnp(_ITERATIONS)(logits, labels, valid).total


@pytest.mark.parametrize("name", [name for name in OBJECTIVES if name not in ("bce_dice", "cldice")])
def test_the_gradient_of_each_objective_is_that_of_finite_differences(maps, name):
    kind, weight = OBJECTIVES[name]
    logits, labels, skeletons = maps[0].logit(), maps[1], maps[2]
    loss = kind(_ITERATIONS, weight)
    inputs = logits.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(loss(inputs, labels, skeleton=skeletons).total, inputs)
    rng = torch.Generator().manual_seed(0)
    for _ in range(8):
        direction = torch.randn(logits.shape, generator=rng, dtype=logits.dtype)
        up, down = (loss(logits + step * direction, labels, skeleton=skeletons).total for step in (1e-6, -1e-6))
        assert (gradient * direction).sum().item() == pytest.approx(((up - down) / 2e-6).item(), rel=1e-5, abs=1e-8)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_each_objective_is_finite_on_empty_full_and_certain_maps(name):
    kind, weight = OBJECTIVES[name]
    for labels in (torch.zeros(1, 1, 9, 9), torch.ones(1, 1, 9, 9), torch.eye(9)[None, None]):
        for value in (-40.0, 0.0, 40.0):
            logits = torch.full_like(labels, value).requires_grad_()
            total = kind(_ITERATIONS, weight)(logits, labels).total
            total.backward()
            assert total.isfinite() and logits.grad.isfinite().all()


def test_runs_differ_in_objective_alone_and_whole_seeds_come_first(tmp_path):
    args = ObjectivesArguments(seeds=[0, 1], max_steps=7, output_dir=str(tmp_path))
    jobs = plan_objectives(args).jobs
    assert [job.arguments.seed for job in jobs] == len(OBJECTIVES) * [0] + len(OBJECTIVES) * [1]
    assert {job.arguments.objective: job.arguments.cldice_weight for job in jobs} == {
        name: weight for name, (_, weight) in OBJECTIVES.items()
    }
    own = {"objective", "cldice_weight", "output_dir", "seed"}
    settings = [{k: v for k, v in asdict(job.arguments).items() if k not in own} for job in jobs]
    assert all(one == settings[0] for one in settings)
    assert (settings[0]["preset"], settings[0]["validation_fraction"], settings[0]["max_steps"]) == (
        "detail_only",
        0.25,
        7,
    )


@pytest.mark.usefixtures("no_pictures")
def test_a_run_trains_by_its_objective_scores_validation_images_and_is_timed_beside_cldice(
    crosses, tmp_path, monkeypatch
):
    of_batches = []

    def recall(*maps):
        of_batches.append(skeleton_recall_loss(*maps))
        return of_batches[-1]

    monkeypatch.setattr(rival_losses, "skeleton_recall_loss", recall)
    few = "tile_size=32 batch_size=1 num_workers=0 mixed_precision=no cldice_schedule=fixed".split()
    args = ObjectivesArguments(dataset=str(crosses), base="tiny-random", set=few, seeds=[0], max_steps=1)
    args.objectives, args.num_threads, args.output_dir = ["skeleton_recall"], 1, str(tmp_path / "study")
    (job,) = plan_objectives(args).jobs
    job.directory.mkdir(parents=True)
    write_json(job.directory / "job.json", asdict(job.arguments))
    worker.run_worker(job.command, job.directory / "job.json")
    history = pd.read_csv(job.directory / "history.csv").iloc[0]
    third = history["loss"] - history["bce"] - history["dice_loss"]
    assert third == pytest.approx(of_batches[0].nanmean().item(), abs=1e-5) and third > 0.01
    scored, cost = (json.loads((job.directory / f"{name}.json").read_text()) for name in ("metrics", "resources"))
    assert (scored["split"], scored["n"]) == ("validation", 2)
    assert cost["loss_seconds"] > 0 and 0.01 < cost["loss_ratio"] < 100


def test_the_page_sets_each_objective_against_cldice_and_says_what_it_costs(tmp_path):
    args = ObjectivesArguments(seeds=[0, 1], output_dir=str(tmp_path), objectives=["cldice", "scnp"])
    study = plan_objectives(args)
    for job in study.jobs:
        more = 0.2 if job.arguments.objective == "scnp" else 0
        scores = {"dice": 0.7, "cldice": 0.6 + more, "betti0_error": 20.0 - 10 * more, "betti1_error": 3.0}
        write_per_image_csv(job.directory / "per_image.csv", [{"id": name, **scores} for name in "ab"])
        write_json(job.directory / "metrics.json", scores)
        write_json(job.directory / "resources.json", {"loss_seconds": 0.1, "loss_ratio": 0.25, "seconds": 1})
    write_study(args, study, "")
    page = (tmp_path / "summary.md").read_text()
    assert "## Less cldice, seed by seed" in page
    same, more, fewer = (f"{v} ± 0.0000 | {v} to {v}" for v in ("+0.0000", "+0.2000", "-2.0000"))
    assert f"| scnp | {same} | {more} | – | – | – | – | – | – | {fewer} | {same} | 2 |" in page
    assert "| drive | scnp | 18.000 ± 0.000 | 3.000 ± 0.000 | 2 |" in page
    assert "| drive | scnp | 0.100 ± 0.000 | 0.250 ± 0.000 | 2 |" in page
