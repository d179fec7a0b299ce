"""Losses of several classes, exclusive and overlapping, against PyTorch's and MONAI's."""

import pytest
import torch
import torch.nn.functional as F
from monai.losses import DiceLoss

from topolora_hf.objective.losses import TopoLoss, class_probabilities, hard_skeletons

K = 3
SMALL = {"iterations": 2, "cldice_weight": 0.5}


def logits_of(batch: int = 2, maps: int = K, side: int = 24, dtype=torch.float32) -> torch.Tensor:
    return torch.randn(batch, maps, side, side, generator=torch.Generator().manual_seed(0), dtype=dtype)


def indices(batch: int = 2, side: int = 24) -> torch.Tensor:
    """(B, H, W): three bars on background, of classes 1 to 3."""
    labels = torch.zeros(batch, side, side, dtype=torch.long)
    for k in range(K):
        labels[:, 3 + 7 * k : 6 + 7 * k, 2:-3] = k + 1
    return labels


def masks(labels: torch.Tensor) -> torch.Tensor:
    return F.one_hot(labels, K + 1)[..., 1:].permute(0, 3, 1, 2)


def with_background(logits: torch.Tensor) -> torch.Tensor:
    return F.pad(logits, (0, 0, 0, 0, 1, 0))


def test_probabilities_of_exclusive_classes_are_a_softmax_with_a_background_of_logit_0():
    probabilities = class_probabilities(logits_of(), exclusive=True)
    torch.testing.assert_close(probabilities, with_background(logits_of()).softmax(1)[:, 1:])
    assert (probabilities.sum(1) < 1).all()
    assert torch.equal(class_probabilities(logits_of()), logits_of().sigmoid())
    one = logits_of(maps=1)
    torch.testing.assert_close(class_probabilities(one, exclusive=True), one.sigmoid())


def test_exclusive_classes_cost_pytorchs_cross_entropy_and_monais_dice():
    logits, labels = logits_of(), indices()
    losses = TopoLoss(exclusive=True, **SMALL)(logits, labels)
    assert losses.bce.item() == pytest.approx(F.cross_entropy(with_background(logits), labels).item(), rel=1e-5)
    dice = DiceLoss(include_background=False, softmax=True, smooth_nr=1.0, smooth_dr=1.0)
    target = F.one_hot(labels, K + 1).permute(0, 3, 1, 2)
    assert losses.dice.item() == pytest.approx(dice(with_background(logits), target).item(), rel=1e-5)
    total = losses.bce + losses.dice + 0.5 * losses.cldice
    assert losses.total.item() == pytest.approx(total.item(), rel=1e-6)


def test_overlapping_classes_cost_pytorchs_binary_cross_entropy_and_monais_dice_with_sigmoids():
    logits, target = logits_of(), masks(indices())
    target[:, 1, 3:6] = 1  # of two classes
    losses = TopoLoss(**SMALL)(logits, target)
    expected = F.binary_cross_entropy_with_logits(logits, target.float())
    assert losses.bce.item() == pytest.approx(expected.item(), rel=1e-5)
    dice = DiceLoss(sigmoid=True, smooth_nr=1.0, smooth_dr=1.0)(logits, target)
    assert losses.dice.item() == pytest.approx(dice.item(), rel=1e-5)


def test_cross_entropy_counts_valid_pixels_alone_and_each_sample_alike():
    logits, labels = logits_of(), indices()
    labels[0, :12], labels[1, 20:] = 255, 255
    expected = [
        F.cross_entropy(with_background(logits[i : i + 1]), labels[i : i + 1], ignore_index=255) for i in (0, 1)
    ]
    losses = TopoLoss(exclusive=True, **SMALL)(logits, labels)
    assert losses.bce.item() == pytest.approx((sum(expected) / 2).item(), rel=1e-5)
    outside = TopoLoss(exclusive=True, **SMALL)(logits, indices(), valid_mask=labels != 255)
    assert torch.equal(outside.total, losses.total)


@pytest.mark.parametrize("exclusive", [False, True])
def test_one_class_costs_the_same_in_both_forms_and_masks_what_indices_cost(exclusive):
    criterion, labels = TopoLoss(exclusive=exclusive, **SMALL), indices()
    as_masks = criterion(logits_of(), masks(labels), skeleton=hard_skeletons(masks(labels).float()))
    torch.testing.assert_close(criterion(logits_of(), labels), as_masks)
    one = (labels == 1).long()
    both = [TopoLoss(exclusive=form, **SMALL)(logits_of(maps=1), one) for form in (exclusive, False)]
    torch.testing.assert_close(*both)


@pytest.mark.parametrize("exclusive", [False, True])
def test_gradients_are_those_of_finite_differences_in_double_precision(exclusive):
    logits = logits_of(1, side=8, dtype=torch.float64).requires_grad_()
    labels = torch.zeros(1, 8, 8, dtype=torch.long)
    labels[:, 1:3, 1:7], labels[:, 4:6, 1:7], labels[:, 7, 1:7] = 1, 2, 3
    criterion = TopoLoss(exclusive=exclusive, **SMALL)
    assert torch.autograd.gradcheck(lambda given: criterion(given, labels).total, (logits,))


def test_a_pixel_of_two_exclusive_classes_is_refused_unless_it_is_left_out():
    target, valid = masks(indices()), torch.ones(2, 24, 24, dtype=torch.bool)
    target[0, 1, 3, 4:9] = 1
    criterion = TopoLoss(exclusive=True, **SMALL)
    for given in (target, target.float(), target.bool()):
        with pytest.raises(ValueError, match="5 pixels are of two classes or more, and the classes are exclusive"):
            criterion(logits_of(), given, valid)
    valid[0, 3, 4:9] = False
    left_out = criterion(logits_of(), target, valid).total
    target[0, 2, 3, 4:9] = 255  # of any map
    assert torch.equal(criterion(logits_of(), target).total, left_out)
    assert TopoLoss(**SMALL)(logits_of(), masks(indices())).total.isfinite()


def test_only_thin_classes_have_a_cldice():
    logits, labels = logits_of(), indices()
    thin = TopoLoss(thin=[True, False, True], **SMALL)
    losses, every = thin(logits, labels), TopoLoss(**SMALL)(logits, labels)
    single = [TopoLoss(**SMALL)(logits[:, k : k + 1], (labels == k + 1).long()).cldice for k in (0, 2)]
    assert losses.cldice.item() == pytest.approx((sum(single) / 2).item(), rel=1e-5)
    assert torch.equal(losses.bce, every.bce) and torch.equal(losses.dice, every.dice)
    assert thin.count_centrelines(labels, maps=K) == 4 == thin.count_centrelines(masks(labels))
    none = TopoLoss(thin=[False] * K, schedule="adaptive", **SMALL)(logits, labels)
    assert none.cldice.isnan() and none.total.item() == pytest.approx((none.bce + none.dice).item())
    assert TopoLoss(thin=[False] * K).count_centrelines(labels, maps=K) == 0
    with pytest.raises(ValueError, match="thin says of 2 classes whether they are, the logits have 3"):
        TopoLoss(thin=[True, True])(logits, labels)


def test_labels_that_do_not_fit_the_number_of_maps_are_refused():
    for labels in (masks(indices())[:, :2], masks(indices())[:, :1]):
        with pytest.raises(ValueError, match=r"labels of shape \(2, [12], 24, 24\) do not fit logits of shape \(2, 3"):
            TopoLoss()(logits_of(), labels)
    with pytest.raises(ValueError, match=r"labels must be 0 to 3, or 255 for pixels to leave out; got \[4\]"):
        TopoLoss()(logits_of(), indices() + 1)


@pytest.mark.parametrize("exclusive", [False, True])
def test_batches_that_share_a_step_cost_what_one_batch_of_their_samples_costs(exclusive):
    logits, labels = logits_of(4), indices(4)
    labels[1][labels[1] == 2], labels[3] = 0, 0
    criterion = TopoLoss(exclusive=exclusive, thin=[True, True, False], **SMALL)
    expected = criterion(logits, labels)
    batches = list(zip(logits.split(2), masks(labels).split(2), strict=True))
    counts = torch.stack([criterion.count_centrelines(target) for _, target in batches])
    assert counts.tolist() == [3, 2]
    shared = [torch.stack(criterion(*batch, count=counts.mean())) for batch in batches]
    torch.testing.assert_close(torch.stack(shared).mean(0), torch.stack(expected), rtol=1e-6, atol=1e-6)
