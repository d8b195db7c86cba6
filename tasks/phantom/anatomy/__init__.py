"""Bodies: functions that paint a scene for one class of a task and say where things are."""
