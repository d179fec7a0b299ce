"""From settings to a run directory."""
