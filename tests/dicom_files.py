"""DICOM files for tests, made of arrays; SYNTHETIC, as everything in them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import openpyxl
import PIL.Image
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, UltrasoundMultiFrameImageStorage


def save_dicom(path: Path, pixels: np.ndarray, kind: str = "MONOCHROME2", **tags: Any) -> Path:
    """A DICOM file of [H, W], of frames [N, H, W], or of colours [H, W, 3]."""
    path.parent.mkdir(parents=True, exist_ok=True)
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = UltrasoundMultiFrameImageStorage
    meta.MediaStorageSOPInstanceUID = "1.2.3"
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data = FileDataset(path, {}, file_meta=meta, preamble=b"\0" * 128)
    data.SOPClassUID, data.SOPInstanceUID = meta.MediaStorageSOPClassUID, "1.2.3"
    colour = pixels.shape[-1] == 3
    data.SamplesPerPixel = 3 if colour else 1
    if colour:
        data.PlanarConfiguration = 0
    elif pixels.ndim == 3:
        data.NumberOfFrames = len(pixels)
    data.Rows, data.Columns = pixels.shape[-3:-1] if colour else pixels.shape[-2:]
    data.PhotometricInterpretation = kind
    data.BitsAllocated = data.BitsStored = 8 * pixels.dtype.itemsize
    data.HighBit = data.BitsStored - 1
    data.PixelRepresentation = 0
    data.PixelData = pixels.tobytes()
    for key, value in tags.items():
        setattr(data, key, value)
    data.save_as(path, enforce_file_format=True)
    return path


def make_examinations(folder: Path, count: int = 60) -> None:
    """DICOM files without a suffix in folder/dicom, and folder/list.xlsx; SYNTHETIC.

    One file per patient, in turn of 8 bits, of 12 bits in MONOCHROME1 with a window, and a clip of
    three frames. Speckle that is stretched sideways or downwards is all that tells the two classes.
    """
    (folder / "dicom").mkdir(parents=True)
    book = openpyxl.Workbook()
    sheet = book.active
    sheet.title = "Findings"
    sheet.append(["Ultrasound study (SYNTHETIC)"])
    sheet.append(["File", "Age (y)", "Diagnosis", "Patient ID "])
    book.create_sheet("Codes").append(["lesion", "biopsy-proven"])
    generator = np.random.default_rng(0)
    for number in range(count):
        lesion = number % 2
        scan = _speckle(generator, sideways=bool(lesion))
        path = folder / "dicom" / f"IM{number:04d}"
        if number % 3 == 0:
            save_dicom(path, scan)
        elif number % 3 == 1:
            deep = 4095 - 16 * scan.astype(np.uint16)
            window = {"WindowCenter": 2048, "WindowWidth": 4096}
            save_dicom(path, deep, "MONOCHROME1", BitsStored=12, HighBit=11, **window)
        else:
            save_dicom(path, np.stack([np.roll(scan, by, axis=0) for by in (-1, 0, 1)]))
        sheet.append(
            [path.name, 40 + number / 2, ("normal", "lesion")[lesion], f"PAT {number:03d}"]
        )
    book.save(folder / "list.xlsx")


def _speckle(generator: np.random.Generator, sideways: bool) -> np.ndarray:
    """A sector of smooth speckle, uint8 [80, 96]."""
    shape = (24, 8) if sideways else (8, 24)
    coarse = PIL.Image.fromarray(generator.integers(40, 200, shape, np.uint8))
    scan = np.array(coarse.resize((96, 80), PIL.Image.Resampling.BICUBIC))
    rows, columns = np.indices(scan.shape)
    scan[abs(columns - 48) > 12 + rows / 2] = 0
    return scan
