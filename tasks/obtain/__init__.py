"""Original releases: where they are had from, fetched, unpacked."""
