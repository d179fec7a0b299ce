"""From images to masks and pictures."""

import lazy_loader as lazy

__getattr__, __dir__, __all__ = lazy.attach(
    __name__,
    submod_attrs={
        "centreline": ["Centreline"],
        "files": ["find_images"],
        "prediction": ["Prediction"],
        "predictor": ["Predictor"],
    },
)
