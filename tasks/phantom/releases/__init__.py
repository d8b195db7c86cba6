"""Writers of the eight original release layouts, one module a task, each with a `plan`."""
