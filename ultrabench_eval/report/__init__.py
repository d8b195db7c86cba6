"""What a run shows: pages, tables and figures of its cells."""
