"""`ubench compare`: anyone's predictions per item, through the harness's own statistics.

`predictions.read` reads and verifies the files, `result.compare` compares the models in them.
"""
