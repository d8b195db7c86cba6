"""Simulated videos that are tasks of this project: nothing stands for a release of others."""
