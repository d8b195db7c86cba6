"""The ultrasound region of an image, its shape, and coordinates along and across its beams."""
