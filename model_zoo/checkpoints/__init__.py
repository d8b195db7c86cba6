"""Released files of weights: found, opened safely, understood, and written."""
