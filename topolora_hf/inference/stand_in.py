"""Until settings have `exclusive` and `thresholds`."""

import torch


def class_probabilities(logits, exclusive):
    """As the objective's."""
    if not exclusive:
        return logits.sigmoid()
    return torch.cat([torch.zeros_like(logits[:, :1]), logits], 1).softmax(1)[:, 1:]


def classes_of(settings):
    """thresholds, labels, exclusive."""
    given = settings.threshold
    thresholds = tuple(given) if isinstance(given, (tuple, list)) else (given,) * settings.num_labels
    return thresholds, settings.labels, getattr(settings, "exclusive", False)
