"""The images behind a run's results, to take pictures from."""

from __future__ import annotations

from pathlib import Path

import tasks as task_zoo
from tasks.task import Task
from ultrabench_eval.core.errors import UserError
from ultrabench_eval.request import FOLDER, Request


def load(name: str, data: Path, run: Path | None = None) -> Task:
    """A task of a run, read again.

    Args:
        name: its label in the run's tables.
        data: data root, or the table or folder of own data that the task was.
        run: the results folder, whose requests tell where own data are and how they are read; None
            for a release.

    Raises:
        UserError: its images are not there, or cannot be read.
    """
    if run is None or task_zoo.split_name(name)[0] in task_zoo.registry:
        return task_zoo.load(name, data)
    for path in sorted((run / FOLDER).glob("*.yaml")):
        request = Request.read(path)
        given = [request.tasks] if isinstance(request.tasks, str | Path) else request.tasks
        for task in ",".join(map(str, given)).split(","):
            if task_zoo.is_manifest(task) and task_zoo.label(task) == name:
                moved = task_zoo.is_manifest(str(data)) and task_zoo.label(str(data)) == name
                return task_zoo.load(str(data) if moved else task, None, request.reading)
    raise UserError(f"{run / FOLDER} does not say where the images of {name} are")
