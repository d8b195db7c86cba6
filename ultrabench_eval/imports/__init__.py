"""Entries without a model: features or predictions that somebody made elsewhere.

`given` (what a file holds) -> `joined` (whose rows they are, by key) -> `rows` (are they the rows
of those images?) -> `entry` (the usual probes and scores, marked as imported). docs/import.md has
the formats.
"""
