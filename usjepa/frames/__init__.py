"""Frames to train on: where they come from, which are left out, how they lie on disk."""
