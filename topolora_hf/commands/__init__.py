"""What the command lines do: predict, score, compare graders, publish."""
