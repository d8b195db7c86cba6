"""What is kept of the study's trainings: checksums and logs.

    python results/video/collect.py WORK results/video

Writes `exports.csv` (a line for each network: seed, configuration, epochs, last loss,
SHA-256 of the exported weights) and `logs.tar.xz` (all logs, without what tells speed). Equal
trainings give equal bytes.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import sys
import tarfile
from pathlib import Path
from typing import Any


def collect(work: Path, out: Path) -> None:
    rows = []
    with tarfile.open(out / "logs.tar.xz", "w:xz", preset=9) as tar:
        for folder in sorted((work / "exports").iterdir()):
            weights, header = folder / "encoder.safetensors", folder / "encoder.json"
            known = json.loads(header.read_text())
            log = work / "runs" / folder.name / "log.jsonl"
            lines = [_without_speed(json.loads(line)) for line in log.read_text().splitlines()]
            held_out = [line["loss"] for line in lines if line["kind"] == "validation"]
            rows.append(
                {
                    "name": folder.name,
                    "seed": known["seed"],
                    "objective": known["objective"],
                    "localisation": (known["config"].get("localisation") or {}).get("weight", 0),
                    "start": known["model"].get("start", "").rpartition("/")[2],
                    "config": known["config_id"],
                    "frames": known["frames"]["fingerprint"],
                    "epochs": known["epoch"],
                    "steps": known["step"],
                    "held_out_loss": round(held_out[-1], 5),
                    "sha256": hashlib.sha256(weights.read_bytes()).hexdigest(),
                }
            )
            data = "".join(f"{json.dumps(line)}\n" for line in lines).encode()
            entry = tarfile.TarInfo(f"{folder.name}.jsonl")
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    with (out / "exports.csv").open("w", newline="") as file:
        table = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        table.writeheader()
        table.writerows(rows)


def _without_speed(line: dict[str, Any]) -> dict[str, Any]:
    timed = ("images_per_second", "model_share", "ceiling_share")
    return {name: value for name, value in line.items() if name not in timed}


if __name__ == "__main__":
    collect(Path(sys.argv[1]), Path(sys.argv[2]))
