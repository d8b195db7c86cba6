"""Data of one's own: a table of images, or a folder with a sub-folder for each class.

`reading` (what the user says of it) -> `tables` (cells of CSV, Excel and Parquet files) or
`class_folders` -> `image_files` (the images in one file) -> `manifest` (the task). `draw` splits
one that has no splits.
"""
