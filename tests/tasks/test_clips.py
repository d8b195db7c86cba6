"""Videos as samples: the right frames of every kind of file, little memory, and broken ones."""

from __future__ import annotations

import dataclasses
import struct
import tracemalloc
import zlib
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import nibabel
import numpy as np
import PIL.Image
import pytest
from dicom_files import save_dicom

import tasks
from tasks import split_files, splits
from tasks.own_data.reading import Reading
from tasks.samples import clip_files
from tasks.samples.clips import Clip
from tasks.samples.grey_levels import GreyLevels
from tasks.samples.images import ImageArray
from tasks.task import SPLITS, Item, Task, TaskCard
from ultrabench_eval.core.errors import UserError

COUNT, HEIGHT, WIDTH = 12, 16, 24


def cine(count: int = COUNT, height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    """Grey frames uint8 [T, H, W]: each with its own level, brighter to the right and below."""
    rows, columns = np.mgrid[:height, :width]
    levels = np.arange(count)[:, None, None] * 200 // max(count, 10)
    return (levels + rows + columns).astype(np.uint8)


def encode(
    path: Path,
    frames: np.ndarray,
    codec: str = "ffv1",
    pix_fmt: str = "gray",
    times: list[int] | None = None,
    **options: str,
) -> Path:
    """A video, without loss by FFV1; `times` in milliseconds."""
    with av.open(str(path), "w", options=options) as container:
        stream = container.add_stream(codec, rate=10)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = pix_fmt
        if times:
            stream.codec_context.time_base = Fraction(1, 1000)
        kind = {1: "gray", 2: "gray16le"}[frames.itemsize] if frames.ndim == 3 else "rgb24"
        for n, pixels in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format=kind)
            if times:
                frame.pts, frame.time_base = times[n], Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def nifti(path: Path, frames: np.ndarray, axis: tuple[int, ...] = ()) -> Path:
    stored = frames.transpose(2, 1, 0).reshape(*frames.shape[:0:-1], *axis, len(frames))
    image = nibabel.Nifti1Image(stored, np.diag([0.4, 0.3, 1, 1]))
    image.header.set_xyzt_units("mm", "sec")
    if axis:
        image.header.set_zooms((0.4, 0.3, 1, 0.02))
    nibabel.save(image, path)
    return path


def metaimage(path: Path, frames: np.ndarray) -> Path:
    size = " ".join(map(str, frames.shape[::-1]))
    head = f"ObjectType = Image\nNDims = 3\nDimSize = {size}\nElementType = MET_UCHAR\n"
    head += "CompressedData = True\nElementDataFile = LOCAL\n"
    path.write_bytes(head.encode() + zlib.compress(frames.tobytes()))
    return path


def folder(path: Path, frames: np.ndarray) -> Path:
    path.mkdir()
    for n, pixels in enumerate(frames):
        PIL.Image.fromarray(pixels).save(path / f"frame {n}.png")
    PIL.Image.fromarray(frames[0]).save(path / "frame 0_mask.png")
    return path


def tiff(path: Path, frames: np.ndarray) -> Path:
    first, *others = map(PIL.Image.fromarray, frames)
    first.save(path, save_all=True, append_images=others)
    return path


KINDS: dict[str, tuple[Callable[[Path], Path], float | None]] = {
    "mkv": (lambda d: encode(d / "a.mkv", cine()), 10),
    "avi": (lambda d: encode(d / "a.avi", cine()), 10),
    "dicom": (lambda d: save_dicom(d / "a.dcm", cine(), FrameTime=40.0), 25),
    "dicom without a suffix or rate": (lambda d: save_dicom(d / "IM01", cine()), None),
    "nifti": (lambda d: nifti(d / "a.nii.gz", cine()), None),
    "nifti of 4 axes": (lambda d: nifti(d / "a.nii", cine(), (1,)), 50),
    "metaimage": (lambda d: metaimage(d / "a.mha", cine()), None),
    "folder": (lambda d: folder(d / "frames", cine()), None),
    "tiff": (lambda d: tiff(d / "a.tif", cine()), None),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_gives_the_frames_that_are_asked_for(tmp_path: Path, kind: str) -> None:
    make, rate = KINDS[kind]
    clip = clip_files.of(make(tmp_path), "a")
    assert (clip.count, clip.size, clip.rate) == (COUNT, (HEIGHT, WIDTH), rate)
    wanted = [11, 0, 5, 5, 10]
    frames = clip.read(clip.digest(), wanted)
    assert frames.shape == (5, HEIGHT, WIDTH, 3)
    assert frames.dtype == np.uint8
    assert (frames == cine()[wanted][..., None]).all()
    assert (clip.read()[..., 0] == cine()).all()
    image = clip.frame(3)
    assert image.name == "a#4"
    assert (image.read(image.digest()) == cine()[3][..., None]).all()
    with pytest.raises(IndexError, match="0 to 11"):
        clip.read(positions=[12])


@pytest.mark.parametrize("kind", ["mkv", "dicom", "nifti", "folder"])
def test_a_changed_file_is_noticed(tmp_path: Path, kind: str) -> None:
    path = KINDS[kind][0](tmp_path)
    clip = clip_files.of(path, "a")
    before = clip.digest(), clip.frame(1).digest()
    changed = path / "frame 7.png" if path.is_dir() else path
    changed.write_bytes(changed.read_bytes() + b"\0")
    assert clip.digest() != before[0]
    with pytest.raises(UserError, match="changed while it was being read"):
        clip.read(before[0], [0])
    with pytest.raises(UserError, match="changed while it was being read"):
        clip.frame(1).read(before[1])


def test_a_digest_tells_what_is_shown() -> None:
    path = Path(__file__)
    kinds = [
        clip_files.CineClip(path, "a"),
        clip_files.CineClip(path, "a", at=3),
        clip_files.CineClip(path, "a", told_rate=50.0),
        clip_files.CineClip(path, "a", mirrored=True),
        clip_files.CineClip(path, "a", levels=GreyLevels.parse("100/50")),
        clip_files.DicomClip(path, "a"),
    ]
    assert len({one.digest() for one in kinds}) == len(kinds)
    assert clip_files.CineClip(path, "b").digest() == kinds[0].digest()
    assert kinds[0].frame(2).digest() == kinds[1].frame(2).digest()


@pytest.mark.parametrize("kind", ["mkv", "dicom", "nii.gz", "mha"])
def test_a_long_cine_never_lies_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr(clip_files, "IN_MEMORY", 1000)  # as if it were large
    frames = cine(1000, 48, 64)
    path = tmp_path / f"a.{kind}"
    match kind:
        case "mkv":
            encode(path, frames)
        case "dicom":
            path = save_dicom(tmp_path / "a.dcm", frames)
        case "nii.gz":
            nifti(path, frames)
        case "mha":
            metaimage(path, frames)
    clip = clip_files.of(path, "a")
    digest = clip.digest()
    clip.read(digest, [0])  # what is loaded once
    tracemalloc.start()
    got = clip.read(digest, [999, 0, 500])
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (got[..., 0] == frames[[999, 0, 500]]).all()
    assert peak < frames.nbytes / 5  # in RGB they would be three times as large


# ---- videos that are not as one would wish -------------------------------------------------------


def cut(path: Path, share: float) -> Path:
    data = path.read_bytes()
    short = path.with_name(f"cut {path.name}")
    short.write_bytes(data[: int(len(data) * share)])
    return short


def x264(path: Path) -> Path:
    return encode(path, cine(40, 64, 64), "libx264", "yuv420p", movflags="faststart")


@pytest.mark.parametrize(
    "make",
    [
        lambda d: cut(x264(d / "a.mp4"), 0.6),
        lambda d: cut(encode(d / "a.mp4", cine(), "mpeg4", "yuv420p"), 0.6),
        lambda d: cut(encode(d / "a.mkv", cine(40, 64, 64)), 0.6),
        lambda d: cut(encode(d / "a.mkv", cine(9, 64, 64)), 0.5),
        lambda d: cut(encode(d / "a.avi", cine(40, 64, 64)), 0.3),
        lambda d: cut(encode(d / "a.gif", cine(), "gif", "gray"), 0.6),
        lambda d: cut(save_dicom(d / "a.dcm", cine()), 0.6),
        lambda d: cut(nifti(d / "a.nii.gz", cine()), 0.6),
        lambda d: cut(nifti(d / "a.nii", cine()), 0.6),
        lambda d: cut(metaimage(d / "a.mha", cine()), 0.6),
        lambda d: cut(tiff(d / "a.tif", cine()), 0.6),
        lambda d: cut(folder(d / "b", cine()) / "frame 3.png", 0.6).replace(
            d / "b" / "frame 3.png"
        ),
    ],
)
def test_a_cine_that_is_cut_off_is_told(tmp_path: Path, make: Callable[[Path], Path]) -> None:
    path = make(tmp_path)
    clip = clip_files.of(path.parent if path.parent.name == "b" else path, "a")
    with pytest.raises(UserError, match="cannot read") as caught:
        clip.read(clip.digest())
    assert "Traceback" not in str(caught.value)


@pytest.mark.parametrize("kind", ["mkv", "dcm", "nii"])
def test_a_cine_of_one_frame_is_a_cine(tmp_path: Path, kind: str) -> None:
    one = cine(1)
    save = {
        "mkv": lambda path: encode(path, one),
        "dcm": lambda path: save_dicom(path, one[0]),
        "nii": lambda path: nifti(path, one),
    }
    path = tmp_path / f"a.{kind}"
    save[kind](path)
    clip = clip_files.of(path, "a")
    assert (clip.count, clip.rate) == (1, None)
    assert (clip.read(positions=[0, 0])[..., 0] == one[[0, 0]]).all()


def test_of_a_variable_rate_all_frames_are_there_and_the_rate_is_the_mean(tmp_path: Path) -> None:
    times = [0, 40, 80, 500, 900, 940, 1000, 1500, 1540, 2000, 2100, 2200]
    clip = clip_files.of(encode(tmp_path / "a.mkv", cine(), times=times), "a")
    assert clip.rate == pytest.approx(11 / 2.2)
    assert (clip.read()[..., 0] == cine()).all()


@pytest.mark.parametrize(
    ("matrix", "upright"),
    [
        ((0, 1, -1, 0), lambda a: np.rot90(a, -1, axes=(1, 2))),
        ((-1, 0, 0, -1), lambda a: np.rot90(a, 2, axes=(1, 2))),
        ((0, -1, 1, 0), lambda a: np.rot90(a, 1, axes=(1, 2))),
        ((-1, 0, 0, 1), lambda a: a[:, :, ::-1]),
        ((0.8, 0.6, -0.6, 0.8), None),
    ],
)
def test_a_phones_cine_is_shown_upright(
    tmp_path: Path,
    matrix: tuple[float, ...],
    upright: Callable[[np.ndarray], np.ndarray] | None,
) -> None:
    path = encode(tmp_path / "a.mov", cine(), "png", "gray")

    def packed(a: float, b: float, c: float, d: float) -> bytes:
        fixed = [int(65536 * x) for x in (a, b, 0, c, d, 0, 0, 0)]
        return struct.pack(">9i", *fixed, 1 << 30)

    data = path.read_bytes()
    at = data.index(packed(1, 0, 0, 1), data.index(b"tkhd"))
    path.write_bytes(data[:at] + packed(*matrix) + data[at + 36 :])
    clip = clip_files.of(path, "a")
    if upright is None:
        with pytest.raises(UserError, match="turned by"):
            clip.read()
        return
    wanted = upright(cine())
    assert clip.size == wanted.shape[1:]
    assert (clip.read()[..., 0] == wanted).all()


@pytest.mark.parametrize("kind", ["mkv", "dcm", "nii", "tif", "folder"])
def test_values_of_16_bits_need_a_window(tmp_path: Path, kind: str) -> None:
    deep = cine().astype(np.uint16) * 10  # a window of each frame would make them look alike
    path = tmp_path / f"a.{kind}"
    match kind:
        case "mkv":
            encode(path, deep, pix_fmt="gray16le")
        case "dcm":
            save_dicom(path, deep)
        case "nii":
            nifti(path, deep)
        case "tif":
            tiff(path, deep)
        case "folder":
            folder(path, deep)
    with pytest.raises(UserError, match=r"cannot read.*window"):
        clip_files.of(path, "a").read()
    told = clip_files.of(path, "a", levels=GreyLevels((1275.0, 2550.0))).read()
    assert np.abs(told[..., 0].astype(int) - cine()).max() <= 1
    whole = clip_files.of(path, "a", levels=GreyLevels.parse("range")).read()[..., 0]
    assert (whole.min(), whole.max()) == (0, 255)
    assert whole[0].max() < whole[-1].min()


@pytest.mark.parametrize("kind", ["mkv", "dcm"])
def test_colour_doppler_keeps_its_colours(tmp_path: Path, kind: str) -> None:
    frames = np.repeat(cine()[..., None], 3, axis=3)
    frames[:, 4:10, 6:12] = (220, 30, 10)
    frames[:, 4:10, 13:19] = (10, 60, 230)
    path = tmp_path / f"a.{kind}"
    if kind == "mkv":
        encode(path, frames, pix_fmt="bgr0")
    else:
        save_dicom(path, frames, "RGB", NumberOfFrames=COUNT)
    assert (clip_files.of(path, "a").read() == frames).all()


def test_what_is_no_cine_is_told(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "a.mp4").write_bytes(b"no video")
    PIL.Image.new("L", (8, 8)).save(tmp_path / "a.png")
    for name in ("empty", "a.mp4", "a.png", "gone.avi"):
        with pytest.raises(UserError):
            clip_files.of(tmp_path / name, "a").read()
    both = folder(tmp_path / "two sizes", cine())
    PIL.Image.new("L", (8, 8)).save(both / "frame 99.png")
    with pytest.raises(UserError, match="frame 13 has 8 x 8 pixels"):
        clip_files.of(both, "a").read()


# ---- tasks of videos -----------------------------------------------------------------------------


def own(folder_: Path, header: str, row: Callable[[int], str]) -> tasks.Task:
    """Own data with six videos, whose first frame has the level of their number."""
    for n in range(6):
        encode(folder_ / f"{n}.mkv", cine(4) + np.uint8(n))
    split = ("train", "train", "train", "validation", "test", "test")
    lines = [header, *(f"{n}.mkv,{row(n)},{split[n]}" for n in range(6))]
    (folder_ / "mine.csv").write_text("\n".join(lines) + "\n")
    return tasks.load(str(folder_ / "mine.csv"), reading=Reading())


def test_own_cines_are_samples(tmp_path: Path) -> None:
    task = own(tmp_path, "video,label,split", lambda n: "ab"[n % 2])
    assert (task.card.samples, task.card.type) == ("clip", "classification")
    first: Clip = task.train.images[0]  # type: ignore[assignment]
    assert (first.name, first.count, first.at) == ("0.mkv", 4, None)
    assert task.train.items[0].scan_mask.read().shape == first.size  # type: ignore[union-attr]
    assert tasks.load(str(tmp_path / "mine.csv")).fingerprint == task.fingerprint


def test_own_cines_with_numbers_or_masks(tmp_path: Path) -> None:
    task = own(tmp_path, "video,target (%),split", lambda n: str(50 + n))
    assert (task.card.type, task.card.unit) == ("regression", "%")
    codes = np.zeros((HEIGHT, WIDTH), np.uint8)
    codes[2:6, 3:9] = 1
    PIL.Image.fromarray(codes).save(tmp_path / "m.png")
    task = own(tmp_path, "video,mask,frame,split", lambda n: "m.png,3")
    (clip, *_), (mask, *_) = task.train.images, task.train.masks
    assert (clip.name, clip.at) == ("0.mkv#3", 2)  # type: ignore[attr-defined]
    assert (mask.read() == codes).all()
    with pytest.raises(UserError, match="which frame it is of"):
        own(tmp_path, "video,mask,split", lambda n: "m.png")
    with pytest.raises(UserError, match=r"4 frame\(s\), so none of number 5"):
        own(tmp_path, "video,mask,frame,split", lambda n: "m.png,5")


def test_two_frames_of_one_own_cine_are_samples_of_a_group(tmp_path: Path) -> None:
    codes = np.zeros((HEIGHT, WIDTH), np.uint8)
    lines = ["video,mask,frame,split"]
    for n, split in enumerate(("train", "validation", "test")):
        encode(tmp_path / f"{n}.mkv", cine(4))
        for frame in (1, 4):
            codes[2:6, 3 + frame + n : 9] = 1
            PIL.Image.fromarray(codes).save(tmp_path / f"{n} {frame}.png")
            lines.append(f"{n}.mkv,{n} {frame}.png,{frame},{split}")
    (tmp_path / "mine.csv").write_text("\n".join(lines))
    task = tasks.load(str(tmp_path / "mine.csv"))
    assert [clip.at for clip in task.test.images] == [0, 3]  # type: ignore[attr-defined]
    assert task.test.groups == ("2.mkv", "2.mkv")
    assert len(set(task.test.digests)) == 2


def test_folds_test_each_sample_once_and_keep_groups_and_classes(tmp_path: Path) -> None:
    labels = [0] * 20 + [1] * 15 + [2] * 6
    items = [
        Item(ImageArray(np.full((2, 2), n, np.uint8), f"{n:02}"), label, f"v{n}")
        for n, label in enumerate(labels)
    ]
    parts = splits.in_folds(items, 5, 42, lambda item: f"p{int(item.image.name) // 2}")
    assert parts == splits.in_folds(items[::-1], 5, 42, lambda i: f"p{int(i.image.name) // 2}")
    assert parts != splits.in_folds(items, 5, 43, lambda i: f"p{int(i.image.name) // 2}")
    card = TaskCard("toy", "Toy", "organ", "target", ("a", "b", "c"))
    task = splits.cross_validated(card, tmp_path, parts)
    assert task.card.folds == len(task.folds) == 5
    names = [image.name for fold in task.folds for image in fold.test.images]
    assert names == [image.name for image in task.test.images]
    assert sorted(names) == [item.image.name for item in items]
    assert (np.ptp([fold.counts()["test"] for fold in task.folds], axis=0) <= 2).all()
    for fold in task.folds:
        persons = {
            name: {int(image.name) // 2 for image in split.images}
            for name, split in fold.splits.items()
        }
        assert not persons["test"] & (persons["train"] | persons["validation"])
    assert not any(map(len, (task.train, task.validation)))
    assert all(fold.synthetic for fold in dataclasses.replace(task, synthetic=True).folds)
    with pytest.raises(ValueError, match="each sample once"):
        Task.of_folds(card, task.folds[:4])
    rows = [row for row, _ in split_files.rows(task)]
    clean = tmp_path / "clean.csv"
    split_files.write([rows[0]._replace(split="unused"), *rows[1:]], clean)
    less = split_files.apply(task, clean)
    assert [len(one.test) for one in less.folds] == [
        len(one.test) - (n == 0) for n, one in enumerate(task.folds)
    ]
    split_files.write([row._replace(split=SPLITS[n % 3]) for n, row in enumerate(rows)], clean)
    other = split_files.apply(task, clean)
    assert (other.folds, other.card.folds, len(other.test)) == ((), 0, len(items) // 3)


def echonet(base: Path, tracings: list[str], count: int = 4) -> Path:
    """A release with videos a, b, c (one each for training, validation and test) and more."""
    listed = ["FileName,EF,ESV,EDV,FrameHeight,FrameWidth,FPS,NumberOfFrames,Split"]
    for n, split in enumerate(("TRAIN", "VAL", "TEST", "TRAIN")[:count]):
        (base / "Videos").mkdir(parents=True, exist_ok=True)
        encode(base / f"Videos/{'abcd'[n]}.avi", cine(6, 32, 32), "mjpeg", "yuvj420p")
        listed.append(f"{'abcd'[n]},{50.5 + n},1,2,32,32,10,6,{split}")
    (base / "FileList.csv").write_text("\n".join(listed) + "\n")
    (base / "VolumeTracings.csv").write_text(
        "\n".join(["FileName,X1,Y1,X2,Y2,Frame", *tracings]) + "\n"
    )
    return base.parent


def chords(name: str, frame: int, half: float) -> list[str]:
    """A long axis, then three chords of a rectangle of rows 8 to 20 around column 16."""
    ends = [(0, 0, 31, 31), *((16 - half, y, 16 + half, y) for y in (8.2, 14, 19.8))]
    return [f"{name}.avi,{','.join(map(str, one))},{frame}" for one in ends]


def test_echonet_has_two_traced_frames_of_each_cine(tmp_path: Path) -> None:
    # The larger is end-diastole, whichever comes first; d has one traced frame alone.
    traced = [
        *chords("a", 4, 6.4),
        *chords("a", 1, 3),
        *chords("b", 0, 3),
        *chords("b", 3, 6),
        *chords("c", 2, 3),
        *chords("c", 5, 6),
        *chords("d", 5, 6),
    ]
    root = echonet(tmp_path / "echonet-dynamic/EchoNet-Dynamic", traced)
    task = tasks.load("echonet-dynamic", root.parent)
    assert [image.name for image in task.train.images] == ["Videos/a.avi#5", "Videos/a.avi#2"]
    assert [image.at for image in task.train.images] == [4, 1]  # type: ignore[attr-defined]
    assert task.test.subgroups == {"phase": ("ED", "ES")}
    assert task.train.groups == ("a", "a")
    assert task.notes == ("1 videos have fewer than two traced frames: not used (first: d)",)
    wanted = np.zeros((32, 32), np.uint8)
    wanted[8:21, 10:23] = 1  # rounded, and without the long axis
    assert (task.train.masks[0].read() == wanted).all()
    assert len(set(task.train.digests)) == 2
    fractions = tasks.load("echonet-dynamic-ef", root.parent)
    assert fractions.train.targets.tolist() == [50.5, 53.5]  # type: ignore[union-attr]
    assert (fractions.card.unit, fractions.card.samples) == ("%", "clip")
    (tmp_path / "echonet-dynamic/EchoNet-Dynamic/Videos/d.avi").unlink()
    less = tasks.load("echonet-dynamic-ef", root.parent)
    assert less.missing == ("Videos/d.avi",)


@pytest.mark.parametrize(
    ("tracing", "told"),
    [("a.avi,1,2,3,4,x", "line 2"), ("z.avi,1,2,3,4,0", "line 2"), ("a.avi,1,2,3,,0", "line 2")],
)
def test_damaged_tracings_of_echonet_are_told(tmp_path: Path, tracing: str, told: str) -> None:
    root = echonet(tmp_path / "echonet-dynamic/EchoNet-Dynamic", [tracing])
    with pytest.raises(UserError, match=f"VolumeTracings.csv, {told}: it is not a chord"):
        tasks.load("echonet-dynamic", root.parent)


def test_camus_clips_are_half_sequences_with_both_ends_scored(phantom_root: Path) -> None:
    task, frames = (tasks.load(name, phantom_root) for name in ("camus-clips", "camus"))
    masks = {
        image.name: mask.read()
        for image, mask in zip(frames.test.images, frames.test.masks, strict=True)
    }
    pixels = {image.name: image.read() for image in frames.test.images}
    for item in task.test.items:
        clip: Clip = item.image  # type: ignore[assignment]
        assert clip.rate == 50
        assert clip.at in (0, clip.count - 1)
        assert dict(item.subgroups)["phase"] == ("ES" if clip.at else "ED")
        assert (clip.frame(clip.at).read() == pixels[clip.name]).all()
        assert (item.target.read() == masks[clip.name]).all()  # type: ignore[union-attr]
    assert len(task.test) == 2 * len(tasks.load("camus-clips-ef", phantom_root).test)
    assert task.test.masks[0].spacing == frames.test.masks[0].spacing


@pytest.mark.shared
def test_the_whole_videos_of_pocus(real_data: Path) -> None:
    task = tasks.load("pocus-clips", real_data)
    assert task.counts()["test"] == [35, 32, 11]
    assert {len(fold.test) for fold in task.folds} == {15, 16}
    assert min(fold.counts()["test"][2] for fold in task.folds) == 2
    set3 = [
        {fold.name for image in fold.test.images if "northumbria_0409_set3" in image.name}
        for fold in task.folds
    ]
    assert len(set().union(*set3)) == 1  # healthy and ill places of one patient
    clip: Clip = next(one for one in task.test.images if one.name.endswith("sliding.MP4"))  # type: ignore[assignment]
    assert clip.read(clip.digest(), [clip.count - 1, 0]).shape == (2, *clip.size, 3)
    assert tasks.load("pocus-clips@fold2", real_data).fingerprint == task.folds[1].fingerprint
