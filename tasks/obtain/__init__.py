"""Original releases: their sources, how they are fetched and unpacked."""
