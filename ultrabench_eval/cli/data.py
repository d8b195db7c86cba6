"""`ubench data`: make, fetch, prepare and check data."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from ultrabench_eval.cli import options, show
from ultrabench_eval.core.errors import UserError
from ultrabench_eval.request import Request

app = typer.Typer(help="Make, fetch, prepare and check data.", no_args_is_help=True)


@app.command()
def phantom(
    out: Annotated[Path, typer.Option(help="Folder to write; becomes a data root.")],
    size: Annotated[str, typer.Option(help="small, medium or study (ten times small).")] = "small",
    seed: Annotated[int, typer.Option(help="Another seed gives other patients.")] = 0,
    task: Annotated[str, typer.Option(help="Tasks, comma-separated, or 'all'.")] = "all",
    as_json: options.Json = False,
) -> None:
    """Simulate SYNTHETIC datasets in the layouts of the original releases."""
    from tasks import phantom as suite
    from ultrabench_eval.loading import resolve_names
    from ultrabench_eval.pipeline import Step
    from ultrabench_eval.progress import Progress

    with Progress() as progress:
        suite.write(
            out,
            size=size,
            seed=seed,
            tasks=resolve_names(task, suite.TASKS),
            progress=lambda name, done, total: progress(Step("phantom", "", name, done, total)),
        )
    if as_json:
        show.json({"out": out, "synthetic": True})
        return
    print(f"SYNTHETIC data written to {out}; use it with --data {out}")


@app.command("list")
def list_tasks(data: options.DataRoot = None, as_json: options.Json = False) -> None:
    """List the tasks: what is in the data root, and how to get the rest."""
    from tasks import prepare

    found = prepare.overview(Path(data) if data else None)
    if as_json:
        show.json([one._asdict() for one in found])
        return
    show.table(
        ("task", "in the data root", "prepared", "download", "licence"),
        [
            (one.name, one.state, "yes" if one.prepared else "no", one.how, one.licence)
            for one in found
        ],
    )


@app.command()
def download(
    task: Annotated[str, typer.Argument(help="Tasks, comma-separated; 'ultrabench_splits' too.")],
    data: options.DataRoot = None,
    accept_license: Annotated[
        bool, typer.Option("--accept-license", help="Consent to the terms of the releases.")
    ] = False,
    as_json: options.Json = False,
) -> None:
    """Fetch original releases, where their terms allow it, and verify them.

    Files that are already there are not fetched again; an interrupted download resumes. For
    releases that must be requested by hand, the steps are printed.
    """
    import tasks as task_zoo
    from tasks import prepare
    from tasks.obtain.sources import SOURCES
    from ultrabench_eval.loading import resolve_names
    from ultrabench_eval.progress import progress_bar

    folders = {}
    for name in resolve_names(task, SOURCES):
        if task_zoo.home(name) not in SOURCES:
            raise UserError(f"no source of '{name}' is known; there are {', '.join(SOURCES)}")
        with progress_bar(f"fetching {name}, bytes of a file") as progress:
            folder = prepare.download(name, root_folder(data), accept_license, progress)
        folders[name] = str(folder)
        if as_json:
            continue
        print(folder)
        for one in [name] if name in task_zoo.RELEASED else task_zoo.RELEASED:
            if name in (one, task_zoo.home(one)):
                print(f"next: ubench data prepare {one} --data {folder.parent}")
    if as_json:
        show.json(folders)


@app.command("prepare")
def prepare_task(
    task: Annotated[str, typer.Argument(help="Tasks, comma-separated, or 'all'.")],
    data: options.DataRoot = None,
    given: Annotated[
        list[Path] | None,
        typer.Option("--from", help="Archive, file or folder of the release; may be repeated."),
    ] = None,
    as_json: options.Json = False,
) -> None:
    """Make a download into a task: unpack it, read it, check every image, and record what it holds.

    ROOT/prepared/TASK/ then holds splits.csv (every image with label, split, group and hash),
    report.md (counts next to the published ones, and why they differ) and scan_masks.png. Exit
    code 1: something is wrong with the images.
    """
    import tasks as task_zoo
    from tasks import prepare
    from ultrabench_eval.loading import resolve_names
    from ultrabench_eval.progress import progress_bar

    failed, checked = False, []
    names = resolve_names(task, task_zoo.names())
    if given and len(names) > 1:
        raise UserError("--from is for one task; prepare them one by one")
    for name in names:
        with progress_bar(f"preparing {name}") as progress:
            made = prepare.prepare(name, root_folder(data), given or (), progress)
        failed |= bool(made.report.problems)
        if as_json:
            checked.append({**show.check_data(made.report), "files": made.files})
            continue
        show.check(made.report)
        for path in made.files:
            print(path)
    if as_json:
        show.json(checked)
    raise typer.Exit(options.SOME_FAILED if failed else 0)


@app.command()
@options.reads_own_data
def split(
    request: Request,
    source: Annotated[
        Path,
        typer.Argument(metavar="FILE", help="Table of your images, or folder of classes."),
    ],
    out: Annotated[
        Path | None, typer.Option(help="CSV file to write; default: FILE_split.csv beside it.")
    ] = None,
    test: Annotated[float, typer.Option(help="Percent of the patients for test.")] = 20,
    validation: Annotated[float, typer.Option(help="Percent of the patients.")] = 20,
    seed: Annotated[int, typer.Option(help="Another seed draws other patients.")] = 0,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace OUT.")] = False,
    as_json: options.Json = False,
) -> None:
    """Draw train, validation and test of your own data: whole patients, stratified by class.

    OUT is a manifest with the columns image, label (or mask, or target), split and group, to be
    given as --task.
    """
    import tasks as task_zoo
    from tasks.own_data import draw, manifest

    path = out or source.parent / f"{task_zoo.file_label(str(source))}_split.csv"
    if path.suffix.lower() != ".csv":
        raise UserError(f"--out {path} is not a .csv file; give it that suffix")
    if path.resolve() == source.resolve():
        raise UserError(f"{path} is the file that is read; give another --out")
    if path.exists() and not overwrite:
        raise UserError(f"{path} is there already; give another --out, or say --overwrite")
    reading = request.reading
    own = manifest.listed(source, reading, split=False)
    if own.groups == "none" and reading.groups is None:
        raise UserError(
            f"it is not known which images of {source} are of one patient; name the column with "
            "--columns group=NAME, or give a rule with --groups: folder, dicom, a regular "
            "expression, or image if each is of another patient"
        )
    drawn = draw.draw(own, seed=seed, validation=validation / 100, test=test / 100)
    draw.write(drawn.own, path)
    if as_json:
        counts = {
            label: {split: {"images": n, "patients": p} for split, (n, p) in of_class.items()}
            for label, of_class in drawn.counts.items()
        }
        show.json({"files": [path], "counts": counts, "notes": list(own.notes)})
        return
    show.drawn(drawn, own.notes)
    print(path)
    window = "" if request.window is None else f" --window {request.window}"
    print(f"next: ubench data check {path}{window}")


@app.command()
@options.reads_own_data
def check(
    request: Request,
    task: Annotated[
        str,
        typer.Argument(help="Tasks, tables or folders of your own, comma-separated, or all."),
    ],
    data: options.DataRoot = None,
    plugin: options.Plugins = None,
    as_json: options.Json = False,
) -> None:
    """Decode and hash every image in one pass; exit code 1 if something is wrong.

    Reports counts, files that are missing or cannot be read, the same content in several splits
    or with several labels, extremes of size, and what changed since `ubench data prepare`. For your
    own data it also reports what would make a result worthless: few patients, test images that
    are also training images, and labels that can be predicted from the size, the brightness or the
    surround of an image.
    """
    import tasks as task_zoo
    from tasks import check as checking
    from tasks import prepare
    from ultrabench_eval.loading import resolve_names
    from ultrabench_eval.progress import progress_bar

    options.load_plugins(plugin)
    failed, checked = False, []
    names, reading = resolve_names(task, task_zoo.names()), request.reading
    options.check_used(names, reading)
    for name in names:
        root = _root_of(name, data)
        loaded = task_zoo.load(name, root, reading)
        record = prepare.record(name, root) if root else None
        with progress_bar(f"checking {name}") as progress:
            report = checking.check(loaded, record, progress)
        failed |= bool(report.problems)
        own = None
        if task_zoo.is_manifest(name) and not report.unreadable:
            from ultrabench_eval import worth

            with progress_bar(f"looking at {name}") as progress:
                own = worth.look(loaded, progress)
            failed |= bool(own.problems)
            for note in own.notes:
                print(f"note: {note}", file=sys.stderr)
        if as_json:
            checked.append({**show.check_data(report), "worth": own and show.worth_data(own)})
            continue
        show.check(report)
        if own:
            show.worth(own)
    if as_json:
        show.json(checked)
    raise typer.Exit(options.SOME_FAILED if failed else 0)


@app.command()
def splits(
    task: Annotated[str, typer.Argument(help="A task; TASK@HOW for other splits.")],
    data: options.DataRoot = None,
    out: Annotated[
        Path | None, typer.Option(help="Split file (CSV) to write, with a hash for each image.")
    ] = None,
    as_json: options.Json = False,
) -> None:
    """Show a task's splits next to the published counts and lists, and explain each difference."""
    import tasks as task_zoo
    from tasks import check as checking
    from tasks import split_files, ultrabench
    from ultrabench_eval.progress import progress_bar

    root = _root_of(task, data)
    loaded = task_zoo.load(task, root)
    base = task_zoo.split_name(task)[0]
    agreement = ultrabench.agreement(loaded, task_zoo.folder_of(base, root)) if root else []
    ways = task_zoo.ways_to_split(base) if root else {}
    if as_json:
        published = [one._asdict() for one in agreement]
        files = [out] if out else []
        data_of = {"ways": ways, "published": published, "files": files}
        show.json({**show.task_data(loaded), **data_of})
    else:
        show.splits(loaded, ways, agreement)
    if out is not None:
        with progress_bar(f"hashing {task}") as progress:
            report = checking.check(loaded, progress=progress)
        split_files.write(report.rows, out)
        if not as_json:
            print(out)


@app.command()
def export(
    task: Annotated[str, typer.Argument(help="Tasks, comma-separated, or 'all'.")],
    out: Annotated[Path, typer.Option(help="Folder in which the tasks' folders are made.")],
    data: options.DataRoot = None,
    as_json: options.Json = False,
) -> None:
    """Write tasks in UltraBench's processed format, for its tools and others that read it."""
    import tasks as task_zoo
    from tasks import ultrabench
    from ultrabench_eval.loading import resolve_names
    from ultrabench_eval.progress import progress_bar

    folders = {}
    for name in resolve_names(task, task_zoo.BUILT_IN):
        loaded = task_zoo.load(name, root_folder(data))
        with progress_bar(f"writing {name}") as progress:
            folders[name] = ultrabench.export(loaded, out, progress)
        if not as_json:
            print(folders[name])
    if as_json:
        show.json(folders)


@app.command()
def hashes(
    folder: Annotated[Path, typer.Argument(help="Folder of images and videos, or a list of them.")],
    out: Annotated[Path, typer.Option(help="CSV file to write.")],
    cache: options.Cache = None,
    as_json: options.Json = False,
) -> None:
    """Write the hashes of images that a model was trained on, for `ubench run --seen`.

    The list finds equal files and equal pixels, and can be passed on without the images. To find
    near-duplicates as well, give --seen the folder itself. Exit code 1: some cannot be read.
    """
    import sys

    from ultrabench_eval import seen
    from ultrabench_eval.pipeline import Step, default_cache
    from ultrabench_eval.progress import Progress

    with Progress() as progress:
        count, notes = seen.write_hashes(
            folder,
            out,
            cache or default_cache(),
            lambda words, done, total: progress(Step("audit", words, "", done, total)),
        )
    if as_json:
        show.json({"images": count, "notes": notes, "files": [out]})
    else:
        for note in notes:
            print(f"note: {note}", file=sys.stderr)
        print(f"{count} images")
        print(out)
    raise typer.Exit(options.SOME_FAILED if notes else 0)


@app.command()
@options.reads_own_data
def masks(
    request: Request,
    task: Annotated[str, typer.Argument(help="A task.")],
    out: Annotated[Path, typer.Option(help="PNG to write.")],
    data: options.DataRoot = None,
    count: Annotated[int, typer.Option(help="How many images, evenly from all splits.")] = 48,
    as_json: options.Json = False,
) -> None:
    """Draw a contact sheet of images with the contours of scan and label masks, to look at."""
    import tasks as task_zoo
    from tasks import contact_sheet

    reading = request.reading
    options.check_used([task], reading)
    loaded = task_zoo.load(task, _root_of(task, data), reading)
    contact_sheet.of_task(loaded, out, count)
    if as_json:
        show.json({"files": [out]})
    else:
        print(out)


def root_folder(data: str | None) -> Path:
    """The data root as a folder; "phantom" is made if it must be."""
    if data is None:
        raise UserError(
            "no data folder: pass --data ROOT or set UBENCH_DATA, where ROOT/aul, ROOT/busbra ... "
            "hold the releases"
        )
    if data == "phantom":
        import tasks as task_zoo
        from ultrabench_eval.pipeline import default_cache, phantom_root
        from ultrabench_eval.progress import Progress

        with Progress() as progress:
            return phantom_root(default_cache(), task_zoo.BUILT_IN, progress)
    return Path(data)


def _root_of(task: str, data: str | None) -> Path | None:
    """The data root, or None for a manifest, which needs none."""
    import tasks as task_zoo
    from ultrabench_eval.pipeline import chosen_data

    if task_zoo.is_manifest(task):
        return None
    chosen = chosen_data(data, task)
    return root_folder(None if chosen is None else str(chosen))
