"""What the tests print about the machine, and where real imagery lies."""

from __future__ import annotations

import os
from importlib.metadata import version
from pathlib import Path

import pytest


def pytest_report_header() -> list[str]:
    import rasterio

    names = ("rasterio", "shapely", "pyogrio", "torch", "segmentation-models-pytorch")
    return [
        ", ".join(f"{n} {version(n)}" for n in names) + f", GDAL {rasterio.__gdal_version__}",
        f"RS_SEGMENT_DATA: {os.environ.get('RS_SEGMENT_DATA', 'not set: tests on real imagery are left out')}",
    ]


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder of real imagery; tests that need it run where RS_SEGMENT_DATA names it."""
    place = os.environ.get("RS_SEGMENT_DATA")
    if not place:
        pytest.skip("RS_SEGMENT_DATA is not set")
    return Path(place)
