"""The audit: is anything of the test set in train, or in what an encoder was pretrained on?

`signatures` (what is remembered of an image) -> `search` (hashes that are alike) -> `align` (is it
the same picture?) -> `duplicates` (pairs with grades) -> `audit` (where they stand) -> `clean`
(split files and scores without them), `report` (tables and the gallery).
"""
