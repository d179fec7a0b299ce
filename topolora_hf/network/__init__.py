"""What a forward pass runs through."""
