"""`tasks.own_data.manifest` under its former name, for plugins."""

from tasks.own_data.manifest import *  # noqa: F403
