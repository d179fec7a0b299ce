"""What goes to the Hugging Face Hub with an adapter."""

from .model_card import render_model_card

__all__ = ["render_model_card"]
