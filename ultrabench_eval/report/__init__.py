"""What a run shows: tables of its cells."""
