"""What goes to the Hugging Face Hub with an adapter."""
