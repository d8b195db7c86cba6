"""What papers printed, and ours beside it."""
