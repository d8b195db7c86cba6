"""Images that show the same, found by what they show: copies, however processed.

`signatures` (what is remembered of an image) -> `search` (hashes that are alike) -> `align` (is it
the same picture?) -> `duplicates` (pairs with grades). The audit of the harness and the guard of
the trainer both stand on it.
"""
