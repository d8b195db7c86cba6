"""The trainer of US-JEPA and USrc-JEPA (arXiv 2602.19322)."""
