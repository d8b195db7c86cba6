"""The audit: is anything of the test set in train, or in what an encoder was pretrained on?

`tasks.near_duplicates` (pairs with grades) -> `audit` (where they stand) -> `clean` (split files
and scores without them), `report` (tables and the gallery).
"""
