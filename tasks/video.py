"""`tasks.samples.video` under its former name, for plugins."""

from tasks.samples.video import *  # noqa: F403
