"""Probes: small classifiers on frozen features. Pure functions of arrays."""
