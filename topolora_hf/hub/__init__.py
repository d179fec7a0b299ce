"""What goes to the Hugging Face Hub with an adapter."""

from .model_card import render_model_card
from .push import PushError, open_repository, push_adapter

__all__ = ["PushError", "open_repository", "push_adapter", "render_model_card"]
