"""What the commands do, a file each: settings, and a function of the command's name."""
