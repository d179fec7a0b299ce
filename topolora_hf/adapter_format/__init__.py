"""What lies in an adapter's directory: settings, presets, names, and the checks of its files."""
