"""How does the plugin become a zip for QGIS? ``python qgis_plugin/package.py`` writes dist/rs_segment_qgis.zip."""

from __future__ import annotations

import sys
import zipfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
FOLDER = "rs_segment_qgis"
"""Name of the plugin's folder. One called rs_segment would hide the engine from a QGIS that has it in its Python."""
WANTED = ("*.py", "*.md", "metadata.txt", "LICENSE", "icons/*.svg")
TARGET = HERE.parent / "dist" / f"{FOLDER}.zip"


def files() -> list[Path]:
    """What belongs to the plugin, in order."""
    found = {path for pattern in WANTED for path in HERE.glob(pattern)}
    return sorted(found - {Path(__file__).resolve()})


def package(target: Path = TARGET) -> Path:
    """Write the zip; the same sources give the same bytes, on any machine and at any time."""
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.partial")
    with zipfile.ZipFile(partial, "w") as archive:
        for path in files():
            entry = zipfile.ZipInfo(f"{FOLDER}/{path.relative_to(HERE).as_posix()}", (1980, 1, 1, 0, 0, 0))
            # Stored, not deflated: versions of zlib compress differently.
            entry.compress_type, entry.create_system = zipfile.ZIP_STORED, 3
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, path.read_bytes())
    partial.replace(target)
    return target


if __name__ == "__main__":
    print(package(*map(Path, sys.argv[1:2])))
