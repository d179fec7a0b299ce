"""What goes to the Hugging Face Hub with an adapter."""

import lazy_loader as lazy

__getattr__, __dir__, __all__ = lazy.attach(
    __name__,
    submod_attrs={
        "model_card": ["render_model_card"],
        "push": ["PushError", "open_repository", "push_adapter"],
    },
)
