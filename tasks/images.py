"""`tasks.samples.images` under its former name, for plugins."""

from tasks.samples.images import *  # noqa: F403
