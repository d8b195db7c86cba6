"""The lowest layer: registry, hashing, errors and atomic files. Imports nothing else of ours."""
