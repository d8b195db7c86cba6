"""Statistics over predictions. Pure functions of arrays."""
