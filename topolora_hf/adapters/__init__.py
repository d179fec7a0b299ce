"""Adapters: from a preset to a PEFT model, and back from a directory or the Hub."""
