import math

import pytest
import torch
import torch.nn.functional as F
from monai.losses import DiceLoss, SoftclDiceLoss

from topolora_hf.objective.losses import TopoLoss, cldice_loss, dice_loss, hard_skeletons

SURE = 20.0  # a logit of which the sigmoid is 0 or 1 but for 2e-9


def vessel(width: int, side: int = 64) -> torch.Tensor:
    """(1, H, W) labels: a horizontal vessel."""
    labels = torch.zeros(1, side, side, dtype=torch.long)
    labels[:, 20 : 20 + width, 6:-6] = 1
    return labels


def logits_for(labels: torch.Tensor) -> torch.Tensor:
    """(B, 1, H, W): a sure and correct prediction."""
    return SURE * (2.0 * labels[:, None] - 1)


def noisy_logits(batch: int = 2, maps: int = 1, seed: int = 0) -> torch.Tensor:
    return torch.randn(batch, maps, 64, 64, generator=torch.Generator().manual_seed(seed))


def cldice_of(logits: torch.Tensor, labels: torch.Tensor, **settings) -> float:
    return TopoLoss(**settings)(logits, labels).cldice.item()


# The known failures of soft clDice elsewhere


def test_a_vessel_wider_than_the_reach_still_ranks_its_predictions():
    """Elsewhere empty, full and correct predictions of a 10-pixel vessel all cost 0.000 at three iterations."""
    labels = vessel(10)
    empty = torch.full((1, 1, 64, 64), -SURE)
    grown = logits_for(vessel(20))
    costs = [cldice_of(logits, labels, iterations=3) for logits in (logits_for(labels), grown, -empty, empty)]
    assert costs == sorted(costs) and len(set(costs)) == 4
    assert costs[0] < 0.01 and costs[1] > 0.1 and costs[2] > 0.3 and costs[3] == pytest.approx(1, abs=1e-6)


def test_an_empty_prediction_costs_1_and_feels_a_gradient():
    logits = (noisy_logits(1) / 4 - 4).requires_grad_()
    loss = cldice_loss(logits.sigmoid(), vessel(3)[:, None].float(), 3, hard_skeletons(vessel(3)[:, None].float()))
    assert loss.item() > 0.95
    loss.sum().backward()
    on_centreline = logits.grad[0, 0, 21, 10:50]
    assert on_centreline.mean() < 0, "more foreground on the centreline lowers the loss"


@pytest.mark.parametrize("target_skeleton", ["hard", "soft"])
def test_an_empty_target_gives_no_cldice_gradient(target_skeleton):
    logits = noisy_logits(1).requires_grad_()
    criterion = TopoLoss(iterations=3, target_skeleton=target_skeleton)
    with_cldice = criterion(logits, torch.zeros(1, 64, 64, dtype=torch.long))
    assert with_cldice.cldice.isnan() and with_cldice.total.isfinite()
    (gradient,) = torch.autograd.grad(with_cldice.total, logits)
    criterion.cldice_weight = 0.0
    without = criterion(logits, torch.zeros(1, 64, 64, dtype=torch.long))
    assert torch.equal(gradient, torch.autograd.grad(without.total, logits)[0])
    assert gradient.isfinite().all()


def test_an_all_ones_prediction_is_not_mistaken_for_a_good_one():
    labels = vessel(3)
    full = torch.full((1, 1, 64, 64), SURE)
    assert cldice_of(full, labels, iterations=3) > 0.5
    assert cldice_of(logits_for(labels), labels, iterations=3) < 0.05


def test_a_vessel_cut_by_the_tiles_edge_costs_nothing_when_found():
    labels = torch.zeros(1, 64, 64, dtype=torch.long)
    labels[:, 30:33] = 1
    assert cldice_of(logits_for(labels), labels, iterations=5) < 1e-4
    half = labels.clone()
    half[:, :, 32:] = 0
    assert cldice_of(logits_for(half), labels, iterations=5) == pytest.approx(1 / 3, abs=0.03)  # 1 - 2 (1)(.5) / 1.5


def test_a_broken_vessel_costs_more_than_a_thinner_one():
    labels = vessel(5)
    thinner = labels.clone()
    thinner[:, [20, 24]] = 0
    broken = labels.clone()
    broken[:, :, 25:37] = 0
    assert cldice_of(logits_for(thinner), labels) < 0.05 < cldice_of(logits_for(broken), labels)


# What it is made of


def test_bce_dice_and_total_are_what_they_say():
    logits, labels = noisy_logits(), vessel(4).repeat(2, 1, 1)
    losses = TopoLoss(iterations=5, cldice_weight=0.5)(logits, labels)
    target = labels[:, None].float()
    assert losses.bce.item() == pytest.approx(F.binary_cross_entropy_with_logits(logits, target).item(), rel=1e-5)
    monai_dice = DiceLoss(sigmoid=True, smooth_nr=1.0, smooth_dr=1.0)(logits, target)
    assert losses.dice.item() == pytest.approx(monai_dice.item(), rel=1e-5)
    assert losses.total.item() == pytest.approx((losses.bce + losses.dice + 0.5 * losses.cldice).item(), rel=1e-6)
    assert not losses.cldice.requires_grad and not losses.bce.requires_grad


def test_soft_cldice_is_monais_where_both_are_right():
    """Reach long enough and no constant in the ratios; MONAI's keep the harmonic mean's eps in the denominator."""
    probabilities = (noisy_logits(2) + 3 * logits_for(vessel(5).repeat(2, 1, 1)).sign()).sigmoid()
    target = vessel(5)[:, None].float().repeat(2, 1, 1, 1)
    ours = cldice_loss(probabilities, target, iterations=4).flatten()
    monai = SoftclDiceLoss(iter_=4, smooth_nr=0.0, smooth_dr=1e-6, smooth=1e-6)
    theirs = torch.stack([monai(probabilities[i : i + 1], target[i : i + 1]) for i in range(2)])
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_the_target_skeleton_is_scikit_images_unless_given():
    logits, labels = noisy_logits(1), vessel(6)
    own = TopoLoss()(logits, labels)
    given = TopoLoss()(logits, labels, skeleton=hard_skeletons(labels[:, None].float())[:, 0].bool())
    assert torch.equal(own.total, given.total)
    elsewhere = torch.zeros(1, 64, 64, dtype=torch.bool)
    elsewhere[:, 50, 6:-6] = True
    assert not torch.equal(TopoLoss()(logits, labels, skeleton=elsewhere).total, own.total)
    assert not torch.equal(TopoLoss(target_skeleton="soft")(logits, labels).cldice, own.cldice)


def test_dice_of_empty_and_empty_costs_nothing():
    empty = torch.zeros(1, 1, 8, 8)
    assert dice_loss(empty, empty).item() == 0


# Per sample, inside the valid mask, in float32


def test_a_batch_costs_the_mean_of_its_samples():
    logits, labels = noisy_logits(2), torch.cat([vessel(2), vessel(8)])
    criterion = TopoLoss(iterations=4)
    both = criterion(logits, labels)
    singles = [criterion(logits[i : i + 1], labels[i : i + 1]) for i in range(2)]
    for name in both._fields:
        mean = sum(getattr(single, name) for single in singles) / 2
        assert getattr(both, name).item() == pytest.approx(mean.item(), rel=1e-5), name


def test_a_sample_without_a_target_is_left_out_of_the_cldice_mean():
    logits, labels = noisy_logits(2), torch.cat([vessel(4), torch.zeros_like(vessel(4))])
    alone = TopoLoss()(logits[:1], labels[:1]).cldice
    assert TopoLoss()(logits, labels).cldice.item() == pytest.approx(alone.item(), rel=1e-6)


@pytest.mark.parametrize("weight, labels", [(0, vessel(4)), (0.5, torch.zeros_like(vessel(4)))])
def test_a_cldice_that_was_not_computed_is_not_a_number_and_costs_nothing(weight, labels):
    losses = TopoLoss(cldice_weight=weight)(noisy_logits(1), labels)
    assert losses.cldice.isnan()
    assert losses.total.item() == pytest.approx((losses.bce + losses.dice).item())


@pytest.mark.parametrize("target_skeleton", ["hard", "soft"])
def test_nothing_outside_the_valid_mask_counts(target_skeleton):
    labels = vessel(4)
    valid = torch.ones(1, 64, 64, dtype=torch.bool)
    valid[:, :, 40:] = False
    logits = noisy_logits(1).requires_grad_()
    criterion = TopoLoss(iterations=4, target_skeleton=target_skeleton)
    loss = criterion(logits, labels, valid_mask=valid).total
    loss.backward()
    assert not logits.grad[..., 40:].any() and logits.grad[..., :40].any()

    other_logits = torch.where(valid[:, None], logits.detach(), 7.0)
    other_labels = torch.where(valid, labels, 1)
    assert torch.equal(criterion(other_logits, other_labels, valid_mask=valid).total, loss)


def test_the_valid_mask_does_not_dilute_the_loss():
    """BCE is a mean over valid pixels: padding to a tile changes nothing."""
    logits, labels = noisy_logits(1), vessel(4)
    padded_logits = F.pad(logits, (0, 32, 0, 32), value=5.0)
    valid = F.pad(torch.ones(1, 64, 64, dtype=torch.bool), (0, 32, 0, 32))
    inside = TopoLoss()(logits, labels)
    padded = TopoLoss()(padded_logits, F.pad(labels, (0, 32, 0, 32)), valid_mask=valid)
    assert padded.bce.item() == pytest.approx(inside.bce.item(), rel=1e-5)
    assert padded.dice.item() == pytest.approx(inside.dice.item(), rel=1e-5)


def test_an_empty_valid_mask_costs_nothing_and_stays_finite():
    logits = noisy_logits(1).requires_grad_()
    losses = TopoLoss()(logits, vessel(4), valid_mask=torch.zeros(1, 64, 64, dtype=torch.bool))
    losses.total.backward()
    assert losses.total.item() == 0 and not logits.grad.any()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_logits_give_a_float32_loss(dtype):
    logits = noisy_logits(1).to(dtype).requires_grad_()
    loss = TopoLoss()(logits, vessel(4)).total
    assert loss.dtype == torch.float32
    assert torch.equal(loss, TopoLoss()(logits.detach().float(), vessel(4)).total)
    loss.backward()
    assert logits.grad.isfinite().all() and logits.grad.any()


def test_very_sure_wrong_logits_stay_finite():
    logits = (-10 * logits_for(vessel(4))).requires_grad_()
    loss = TopoLoss()(logits, vessel(4)).total
    loss.backward()
    assert loss.isfinite() and logits.grad.isfinite().all()


def test_three_maps_are_three_classes():
    labels = vessel(4)
    labels[:, 40:44, 6:-6] = 2
    labels[:, 50:52, 6:-6] = 3
    logits = noisy_logits(1, maps=3)
    losses = TopoLoss(iterations=3)(logits, labels)
    single = [TopoLoss(iterations=3)(logits[:, k : k + 1], (labels == k + 1).long()) for k in range(3)]
    for name in losses._fields:
        mean = sum(getattr(one, name) for one in single) / 3
        assert getattr(losses, name).item() == pytest.approx(mean.item(), rel=1e-5), name


def test_a_skeleton_for_several_maps_must_say_which():
    with pytest.raises(ValueError, match=r"skeleton of shape \(1, 64, 64\) .* 3 maps"):
        TopoLoss()(noisy_logits(1, maps=3), vessel(4), skeleton=vessel(1).bool())


def test_masks_and_class_indices_say_the_same():
    logits, labels = noisy_logits(1), vessel(4)
    expected = TopoLoss()(logits, labels).total
    assert torch.equal(TopoLoss()(logits, labels[:, None].float()).total, expected)
    assert torch.equal(TopoLoss()(logits, labels.to(torch.uint8)).total, expected)


# Schedules


def test_the_fixed_weight_does_not_move():
    criterion = TopoLoss(cldice_weight=0.3, schedule="fixed")
    criterion.progress = 0.0
    assert criterion.weight_now() == 0.3


def test_the_ramp_rises_linearly_and_then_stays():
    criterion = TopoLoss(cldice_weight=0.5, schedule="ramp", ramp_fraction=0.2)
    weights = []
    for progress in (0.0, 0.1, 0.2, 1.0):
        criterion.progress = progress
        weights.append(criterion.weight_now())
    assert weights == pytest.approx([0.0, 0.25, 0.5, 0.5])
    criterion.progress = 0.1
    losses = criterion(noisy_logits(1), vessel(4))
    assert losses.total.item() == pytest.approx((losses.bce + losses.dice + 0.25 * losses.cldice).item(), rel=1e-6)
    assert TopoLoss(schedule="ramp", ramp_fraction=0.0).weight_now() == 0.5


def test_the_adaptive_schedule_learns_its_weights():
    criterion = TopoLoss(schedule="adaptive", cldice_weight=0.5)
    losses = criterion(noisy_logits(1), vessel(4))
    assert losses.total.item() == pytest.approx((losses.bce + losses.dice + 0.5 * losses.cldice).item(), rel=1e-6)
    losses.total.backward()
    # d/ds of w (exp(-s) L + s) at s = 0
    expected = [1 - losses.bce.item(), 1 - losses.dice.item(), 0.5 * (1 - losses.cldice.item())]
    assert criterion.log_variances.grad.tolist() == pytest.approx(expected, rel=1e-5)
    with torch.no_grad():
        criterion.log_variances.copy_(torch.tensor([0.0, math.log(2), 0.0]))
    again = criterion(noisy_logits(1), vessel(4))
    expected_total = again.bce + again.dice / 2 + math.log(2) + 0.5 * again.cldice
    assert again.total.item() == pytest.approx(expected_total.item(), rel=1e-6)


def test_only_the_adaptive_schedule_has_parameters():
    assert len(list(TopoLoss(schedule="adaptive").parameters())) == 1
    assert not list(TopoLoss(schedule="ramp").parameters())


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"schedule": "cosine"}, "one of fixed, ramp, adaptive; got 'cosine'"),
        ({"target_skeleton": "thin"}, "one of hard, soft; got 'thin'"),
        ({"cldice_weight": -1}, "must not be negative, got -1"),
    ],
)
def test_wrong_settings_are_named(settings, message):
    with pytest.raises(ValueError, match=message):
        TopoLoss(**settings)


# What does not fit, and what would be misread without a word

TILE = torch.zeros(1, 64, 64, dtype=torch.long)


@pytest.mark.parametrize(
    "truth, message",
    [
        ({"labels": TILE[:, :32, :32]}, r"labels of shape \(1, 32, 32\) do not fit logits of shape \(1, 1, 64, 64\)"),
        ({"labels": TILE[None].repeat(1, 3, 1, 1)}, r"labels of shape \(1, 3, 64, 64\) do not fit logits"),
        ({"labels": TILE, "valid_mask": torch.ones(1, 1, 1)}, r"valid_mask of shape \(1, 1, 1\) does not fit logits"),
        ({"labels": TILE, "valid_mask": torch.ones(1, 1, 64, 64)}, r"valid_mask of shape .*: it must be \(B, H, W\)"),
        ({"labels": TILE, "skeleton": TILE[:, :32]}, r"skeleton of shape \(1, 32, 64\) do not fit logits"),
        ({"labels": TILE + 2}, r"labels must be 0 to 1, or 255 for pixels to leave out; got \[2\]"),
        ({"labels": TILE - 1}, r"labels must be 0 to 1, .* got \[-1\]"),
        ({"labels": TILE + 0.3}, r"labels must be 0 to 1, .* got \[0\.3"),
        ({"labels": TILE[:, None] + 2}, r"labels must be 0 to 1, .* got \[2\]"),
        ({"labels": TILE[:, None] + 255.0}, r"masks of floats must lie in \[0, 1\]; got \[255\.0\]"),
        ({"labels": TILE[:, None] * torch.nan}, r"masks of floats must lie in \[0, 1\]; got \[nan"),
    ],
)
def test_truth_that_does_not_fit_is_refused(truth, message):
    with pytest.raises(ValueError, match=message):
        TopoLoss()(noisy_logits(1), **truth)


@pytest.mark.parametrize("as_masks", [False, True])
def test_pixels_of_255_are_outside_the_valid_mask(as_masks):
    logits, labels = noisy_logits(1), vessel(4)
    valid = torch.ones(1, 64, 64, dtype=torch.bool)
    valid[:, :, 40:] = False
    ignored = torch.where(valid, labels, 255)
    losses = TopoLoss()(logits, ignored[:, None] if as_masks else ignored)
    assert all(map(torch.equal, losses, TopoLoss()(logits, labels, valid_mask=valid)))
    half = torch.ones_like(valid)
    half[:, 21] = False
    both = TopoLoss()(logits, ignored, valid_mask=half)
    assert all(map(torch.equal, both, TopoLoss()(logits, labels, valid_mask=valid & half)))


def test_labels_of_0_and_255_alone_are_told():
    with pytest.warns(UserWarning, match="labels of 0 and 255 alone: 255 is left out, and nothing is foreground"):
        TopoLoss()(noisy_logits(1), 255 * vessel(4))


def test_classes_of_several_maps_are_known():
    logits = noisy_logits(1, maps=3)
    assert TopoLoss()(logits, 2 * vessel(4)).total.isfinite()
    with pytest.raises(ValueError, match="labels must be 0 to 3, or 255"):
        TopoLoss()(logits, 4 * vessel(4))


# Batches that share an optimizer step


@pytest.mark.parametrize("target_skeleton", ["hard", "soft"])
@pytest.mark.parametrize("schedule", ["fixed", "adaptive"])
def test_batches_that_share_a_step_cost_what_one_batch_of_all_their_samples_costs(schedule, target_skeleton):
    empty, cut = torch.zeros_like(vessel(4)), vessel(3)
    valid = torch.ones(4, 64, 64, dtype=torch.bool)
    valid[3, :30] = False  # hides the vessel
    logits, labels = noisy_logits(4), torch.cat([vessel(4), empty, vessel(7), cut])
    criterion = TopoLoss(iterations=4, schedule=schedule, target_skeleton=target_skeleton)
    expected = criterion(logits, labels, valid)
    for parts in ((2, 2), (1, 1, 1, 1), (1, 3)):
        batches = list(zip(*(tensor.split(parts) for tensor in (logits, labels, valid)), strict=True))
        counts = [criterion.count_centrelines(*batch[1:]) for batch in batches]
        assert torch.stack(counts).sum() == 2
        if len(set(parts)) == 1:
            shared = [criterion(*batch, count=torch.stack(counts).mean()) for batch in batches]
            for name in expected._fields:
                mean = torch.stack([getattr(losses, name) for losses in shared]).mean()
                torch.testing.assert_close(mean, getattr(expected, name), rtol=1e-6, atol=1e-6)


def test_a_step_without_any_centreline_has_no_cldice():
    labels = torch.zeros(1, 64, 64, dtype=torch.long)
    criterion = TopoLoss()
    losses = criterion(noisy_logits(1), labels, count=criterion.count_centrelines(labels))
    assert losses.cldice.isnan() and losses.total.item() == pytest.approx((losses.bce + losses.dice).item())


def test_a_given_skeleton_decides_what_is_counted():
    labels = vessel(4).repeat(3, 1, 1)
    skeleton = hard_skeletons(labels[:, None].float())[:, 0].bool()
    skeleton[1] = False
    assert TopoLoss().count_centrelines(labels, skeleton=skeleton) == 2
    assert TopoLoss(target_skeleton="soft").count_centrelines(labels, skeleton=skeleton) == 3
    assert TopoLoss().count_centrelines(2 * labels, maps=3) == 3  # of class 2


def test_a_skeleton_that_a_gpu_has_to_wait_for_is_said():
    with pytest.warns(UserWarning, match="made on the CPU in every step"), pytest.raises(NotImplementedError):
        hard_skeletons(torch.ones(1, 1, 8, 8, device="meta"))  # a device without values
