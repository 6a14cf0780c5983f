"""``rs-segment doctor``: what is installed, what computes, what is missing."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import click

from .command import Command, Told, answer

PACKAGES = (
    "rs-segment",
    "rasterio",
    "numpy",
    "shapely",
    "geopandas",
    "pyogrio",
    "pyproj",
    "torch",
    "segmentation-models-pytorch",
    "safetensors",
    "click",
    "tqdm",
)


@click.command(cls=Command)
@click.option("--json", "as_json", is_flag=True, help="The same as JSON.")
def doctor(as_json: bool) -> None:
    """What is installed, what computes, what is missing and how to get it. Exit code 1 where something is missing."""
    found = examine()
    answer(found, "\n".join(told(found)), as_json, err=False)
    if found["problems"]:
        raise Told("\n".join(found["problems"]), 1)


def told(found: Mapping[str, Any]) -> Iterator[str]:
    """What was found, for people, line by line."""
    yield f"Python {found['python']} on {found['system']}, {found['cores']} cores"
    for name, number in found["packages"].items():
        yield f"  {name:<28} {number or 'MISSING'}"
    for name, number in found["libraries"].items():
        yield f"  {name:<28} {number}"
    for device in found["devices"]:
        yield f"  {device}"
    yield f"  models                       {', '.join(found['models']) or 'none'}"
    yield f"  free disk here               {found['free_gb']:.1f} GB"
    if not found["problems"]:
        yield "all is well"


def examine(devices: bool = True) -> dict[str, Any]:
    """What is known of this installation, as plain data; ``problems`` are sentences with what to do.

    Args:
        devices: Whether to ask what can compute, which loads the network libraries.
    """
    packages = {name: _version(name) for name in PACKAGES}
    problems = [f"{name} is not installed; get it with: pip install {name}" for name, v in packages.items() if not v]
    found: dict[str, Any] = {
        "python": platform.python_version(),
        "executable": sys.executable,
        "system": f"{platform.system()} {platform.machine()}",
        "cores": os.cpu_count(),
        "packages": packages,
        "libraries": {},
        "devices": [],
        "models": [],
        "free_gb": shutil.disk_usage(os.curdir).free / 1e9,
        "problems": problems,
    }
    try:
        import rasterio
        import shapely

        found["libraries"] = {
            "GDAL in rasterio": rasterio.__gdal_version__,
            "GEOS in shapely": shapely.geos_version_string,
        }
        from rs_segment import registry

        problems.extend(registry.problems())
        found["models"] = [m.card.name for m in registry.models()]
        found["devices"] = registry.devices() if devices else []
    except (ImportError, OSError) as error:
        problems.append(f"{error}; reinstall rs-segment: pip install --force-reinstall rs-segment")
    if not found["models"] and not problems:
        problems.append("no model was found; reinstall rs-segment, or name a folder of models in RS_SEGMENT_MODELS")
    return found


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
