"""Laws of writing: a raster is whole or absent, the same bytes however it came about."""

from __future__ import annotations

import json
import os
import pickle
import random
import shutil
import subprocess
import sys
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import rasterio
from affine import Affine
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from rasterio.crs import CRS
from rasterio.errors import NotGeoreferencedWarning
from rio_cogeo.cogeo import cog_validate

from rs_segment import tiff
from rs_segment.card import ClassInfo
from rs_segment.errors import OptionError, OutputError, OutputExistsError
from rs_segment.geobox import GeoBox
from rs_segment.types import NODATA, Labels
from rs_segment.writer import (
    RasterSpec,
    RasterWriter,
    WorkFolder,
    publish,
    refuse_existing,
    sidecars,
    write_confidence_style,
    write_styles,
)

ROOT = Path(__file__).resolve().parents[1]
UTM = CRS.from_epsg(32640)
NORTH_UP = Affine(0.3, 0, 500_000.1, 0, -0.3, 2_780_000.7)
CLASSES = (ClassInfo(0, 'Land & <"bare">', "#123456"), ClassInfo(1, "Wässer", "#00FF00"), ClassInfo(4, "x", "#FFFFFF"))
modest = settings(deadline=None, max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])


def spec_of(shape: tuple[int, int], bands: int = 1, **more: Any) -> RasterSpec:
    more = {"tags": {"RS_SEGMENT": '{"a": 1}'}, "reducer": "mode" if bands == 1 else "mean"} | more
    return RasterSpec(GeoBox(shape, NORTH_UP, UTM), tuple(f"b{i}" for i in range(bands)), **more)


def noise(shape: tuple[int, int], bands: int = 1, seed: int = 0) -> Labels:
    """Patches of classes, some of them nodata, with a corner that is wholly empty."""
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 7, (bands, -(-shape[0] // 9), -(-shape[1] // 9)), dtype=np.uint8)
    rows = np.kron(small, np.ones((1, 9, 9), np.uint8))[:, : shape[0], : shape[1]].copy()
    rows[rows == 6] = NODATA
    rows[:, :513, :600] = NODATA
    return rows


def feed(writer: RasterWriter, rows: Labels, heights: Sequence[int], commit: bool = False) -> None:
    """Writes what is missing, in bands of these heights, over and over."""
    turn = 0
    while writer.rows_done < rows.shape[1]:
        at, height = writer.rows_done, heights[turn % len(heights)]
        writer.write(rows[:, at : at + height])
        turn += 1
        if commit:
            writer.commit()


def make(path: Path, spec: RasterSpec, rows: Labels, heights: Sequence[int] = (512,), bigtiff: bool = False) -> bytes:
    """The bytes of a raster that was written without interruption."""
    folder = WorkFolder.open(path, {})
    writer = RasterWriter(folder, "r", spec)
    feed(writer, rows, heights)
    made = writer.finish(bigtiff)
    shutil.copy(made, path)
    folder.close(keep=False)
    return path.read_bytes()


def opened(path: Path, **options: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        return rasterio.open(path, **options)


@given(
    st.tuples(st.integers(1, 1700), st.integers(1, 1300)),
    st.integers(1, 3),
    st.lists(st.integers(1, 1300), min_size=1, max_size=4),
    st.sampled_from(["cog", "gtiff"]),
    st.integers(0, 99),
)
@example((1, 1), 1, [1], "cog", 0)
@example((1600, 1), 1, [700], "cog", 0)
@example((1, 1600), 1, [1], "cog", 0)
@example((2048, 1024), 1, [512], "cog", 0)
@example((2049, 1025), 1, [511], "cog", 0)
@modest
def test_what_is_written_is_read(
    tmp_path: Path, shape: tuple[int, int], bands: int, heights: list[int], kind: str, seed: int
) -> None:
    rows = noise(shape, bands, seed)
    spec = spec_of(shape, bands, format=kind)
    make(tmp_path / "a.tif", spec, rows, heights)
    level = rows
    shapes = tiff.level_shapes(shape, overviews=kind == "cog")
    for index, expected in enumerate(shapes):
        with opened(tmp_path / "a.tif", **({"overview_level": index - 1} if index else {})) as dataset:
            np.testing.assert_array_equal(dataset.read(), level)
            assert dataset.shape == expected
            assert dataset.nodata == NODATA
            assert dataset.descriptions == spec.bands or index
            assert dataset.crs == UTM
            assert tuple(dataset.transform) == tuple(NORTH_UP) or index
            assert dataset.tags()["RS_SEGMENT"] == '{"a": 1}' or index
            assert len(dataset.overviews(1)) == len(shapes) - 1 or index
        level = np.stack([tiff.REDUCERS[spec.reducer](band) for band in level])
    # rio-cogeo takes a level that is one block wide for one that is not tiled, and asks for overviews of a line.
    if kind == "cog" and min(shape) > 1 and tiff.BLOCK not in [width for _, width in shapes]:
        assert cog_validate(tmp_path / "a.tif", strict=True, quiet=True)[0]


@given(st.lists(st.integers(1, 1500), min_size=1, max_size=5), st.booleans(), st.integers(1, 3))
@modest
def test_the_bytes_depend_neither_on_band_heights_nor_on_commits_nor_on_threads(
    tmp_path: Path, heights: list[int], commit: bool, threads: int
) -> None:
    rows, spec = noise((1400, 700)), spec_of((1400, 700))
    expected = make(tmp_path / "a.tif", spec, rows)
    folder = WorkFolder.open(tmp_path / "b.tif", {})
    with RasterWriter(folder, "r", spec, threads) as writer:
        feed(writer, rows, heights, commit)
        assert writer.finish().read_bytes() == expected
    folder.close(keep=False)


@pytest.mark.parametrize(
    "transform",
    [
        Affine.identity(),
        Affine.scale(2),
        Affine(0.5, 0, 10, 0, 0.5, 20),
        Affine(1 / 3, 0.1, 1e6 / 7, 0.2, -1 / 3, 4e6 / 7),
        Affine(-1, 0, 5, 0, -1, 5),
        Affine(1e-5, 0, 55.1, 0, -1.1e-5, 25.2),
    ],
)
@pytest.mark.parametrize("crs", [None, UTM, CRS.from_epsg(4326), CRS.from_user_input("EPSG:25832+7837")])
def test_any_grid_comes_back_exactly(tmp_path: Path, transform: Affine, crs: CRS | None) -> None:
    spec = RasterSpec(GeoBox((3, 5), transform, crs), ("b",))
    make(tmp_path / "a.tif", spec, np.zeros((1, 3, 5), np.uint8))
    with opened(tmp_path / "a.tif") as dataset:
        assert tuple(dataset.transform) == tuple(transform)
        assert dataset.crs == crs


def test_colours_names_and_tags_are_in_the_file(tmp_path: Path) -> None:
    colors = {0: (1, 2, 3), 4: (255, 254, 0)}
    spec = spec_of((600, 20), colors=colors, names={0: "Wässer & <x>", 4: "y"}, tags={"A": 'b"&<'})
    make(tmp_path / "a.tif", spec, np.full((1, 600, 20), 4, np.uint8))
    for options in ({}, {"overview_level": 0}):
        with rasterio.open(tmp_path / "a.tif", **options) as dataset:
            table = dataset.colormap(1)
            assert [table[v][:3] for v in colors] == list(colors.values())
            assert table[NODATA][3] == 0
    with rasterio.open(tmp_path / "a.tif") as dataset:
        assert dataset.tags()["A"] == 'b"&<'
        assert json.loads(dataset.tags()["CLASS_NAMES"]) == {"0": "Wässer & <x>", "4": "y"}


@pytest.mark.parametrize("bands", [1, 2])
def test_a_bigtiff_holds_the_same(tmp_path: Path, bands: int) -> None:
    rows = noise((1100, 1300), bands)
    assert make(tmp_path / "a.tif", spec_of((1100, 1300), bands), rows)[2] == 42
    assert make(tmp_path / "b.tif", spec_of((1100, 1300), bands), rows, bigtiff=True)[2] == 43
    for options in ({}, {"overview_level": 0}, {"overview_level": 1}):
        with rasterio.open(tmp_path / "a.tif", **options) as a, rasterio.open(tmp_path / "b.tif", **options) as b:
            np.testing.assert_array_equal(a.read(), b.read())
            assert a.transform == b.transform
    assert cog_validate(tmp_path / "b.tif", strict=True, quiet=True)[0]


def test_emptiness_takes_no_room(tmp_path: Path) -> None:
    rows = np.full((1, 3000, 3000), NODATA, np.uint8)
    assert len(make(tmp_path / "a.tif", spec_of((3000, 3000)), rows)) < 5000
    for options in ({}, {"overview_level": 2}):
        with rasterio.open(tmp_path / "a.tif", **options) as dataset:
            assert (dataset.read() == NODATA).all()
            assert not dataset.read_masks().any()


@pytest.mark.parametrize(
    "rows",
    [
        np.zeros((2, 11), np.uint8),
        np.zeros((2, 10), np.int16),
        np.zeros((2, 2, 10), np.uint8),
        np.zeros(10, np.uint8),
        np.zeros((601, 10), np.uint8),
    ],
)
def test_rows_that_do_not_fit_are_refused(tmp_path: Path, rows: Labels) -> None:
    folder = WorkFolder.open(tmp_path / "a.tif", {})
    with RasterWriter(folder, "r", spec_of((600, 10))) as writer, pytest.raises(OptionError):
        writer.write(rows)
    folder.close(keep=False)


def test_a_raster_that_lacks_rows_is_not_finished(tmp_path: Path) -> None:
    folder = WorkFolder.open(tmp_path / "a.tif", {})
    with RasterWriter(folder, "r", spec_of((600, 10))) as writer:
        writer.write(np.zeros((599, 10), np.uint8))
        with pytest.raises(OutputError, match="599 of 600"):
            writer.finish()
    folder.close(keep=False)


@pytest.mark.parametrize("wrong", [{"nodata": 0}, {"reducer": "median"}, {"format": "png"}, {"colors": {0: (1, 2, 3)}}])
def test_a_spec_that_cannot_work_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(OptionError):
        spec_of((5, 5), bands=2, **wrong)


SHAPE = (2300, 1500)
ROWS = noise(SHAPE, seed=3)


def interrupted(target: Path, heights: Sequence[int], stop: int) -> Path:
    """A work folder as a process leaves it that dies after so many rows."""
    folder = WorkFolder.open(target, {"p": 1})
    writer = RasterWriter(folder, "r", spec_of(SHAPE))
    feed(writer, ROWS[:, :stop], heights, commit=True)
    writer.close()
    folder.close(keep=True)
    return folder.path


def resumed(target: Path) -> tuple[bytes, int]:
    """Resumes, checks what is read back, finishes; the bytes and how many rows were there."""
    folder = WorkFolder.open(target, {"p": 1}, resume=True)
    writer = RasterWriter(folder, "r", spec_of(SHAPE))
    done = writer.rows_done
    np.testing.assert_array_equal(writer.read_back(0, done), ROWS[:, :done])
    feed(writer, ROWS, (400,))
    made = writer.finish().read_bytes()
    folder.close(keep=False)
    return made, done


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The bytes of the raster that all interrupted runs must end in."""
    return make(tmp_path_factory.mktemp("whole") / "a.tif", spec_of(SHAPE), ROWS)


@given(st.integers(0, SHAPE[0]), st.integers(1, 1100))
@modest
def test_a_resumed_run_ends_in_the_same_bytes(tmp_path: Path, whole: bytes, stop: int, height: int) -> None:
    interrupted(tmp_path / "a.tif", (height,), stop)
    made, done = resumed(tmp_path / "a.tif")
    assert made == whole
    assert done == (stop if stop == SHAPE[0] else stop // 512 * 512)


@given(st.integers(513, SHAPE[0]), st.floats(0, 1), st.booleans(), st.integers(0, 2), st.binary(max_size=50))
@modest
def test_a_torn_journal_or_spool_costs_rows_but_no_truth(
    tmp_path: Path, whole: bytes, stop: int, cut: float, in_spool: bool, level: int, junk: bytes
) -> None:
    path = interrupted(tmp_path / "a.tif", (512,), stop)
    victim = path / ("r.journal" if not in_spool else f"r.{level}.blocks")
    kept = victim.read_bytes()
    victim.write_bytes(kept[: int(len(kept) * cut)] + (b"" if in_spool else junk))
    if not in_spool:
        spool = path / f"r.{level}.blocks"
        spool.write_bytes(spool.read_bytes() + junk)
    made, _ = resumed(tmp_path / "a.tif")
    assert made == whole


def test_a_flipped_byte_in_a_spool_is_noticed_and_not_resumed_from(tmp_path: Path, whole: bytes) -> None:
    path = interrupted(tmp_path / "a.tif", (512,), SHAPE[0])
    spool = bytearray((path / "r.0.blocks").read_bytes())
    spool[len(spool) // 2] ^= 1
    (path / "r.0.blocks").write_bytes(spool)
    folder = WorkFolder.open(tmp_path / "a.tif", {"p": 1}, resume=True)
    with RasterWriter(folder, "r", spec_of(SHAPE)) as writer, pytest.raises(OutputError, match="does not hold"):
        writer.finish()
    folder.close(keep=True)
    assert resumed(tmp_path / "a.tif") == (whole, 0)


def test_a_flipped_byte_is_noticed_when_rows_are_read_back(tmp_path: Path) -> None:
    path = interrupted(tmp_path / "a.tif", (512,), 1024)
    spool = bytearray((path / "r.0.blocks").read_bytes())
    spool[200] ^= 1
    (path / "r.0.blocks").write_bytes(spool)
    folder = WorkFolder.open(tmp_path / "a.tif", {"p": 1}, resume=True)
    with RasterWriter(folder, "r", spec_of(SHAPE)) as writer, pytest.raises(OutputError, match="does not hold"):
        writer.read_back(0, 10)
    folder.close(keep=False)


def test_rows_are_read_back_by_any_window(tmp_path: Path) -> None:
    folder = WorkFolder.open(tmp_path / "a.tif", {})
    rows = noise((1200, 700), bands=2)
    with RasterWriter(folder, "r", spec_of((1200, 700), bands=2)) as writer:
        writer.write(rows[:, :1100])
        for start, stop in ((0, 0), (0, 1), (511, 513), (3, 1024), (1024, 1024)):
            np.testing.assert_array_equal(writer.read_back(start, stop), rows[:, start:stop])
        with pytest.raises(OptionError, match="are not there"):
            writer.read_back(0, 1025)
    folder.close(keep=False)


def run(code: str, *args: object) -> subprocess.Popen[str]:
    """A process of its own, in the project's folder."""
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, args)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def heard(child: subprocess.Popen[str], line: str) -> None:
    """Waits until a process has said this."""
    assert child.stdout is not None
    if child.stdout.readline() != line + "\n":
        raise AssertionError(child.communicate()[1])


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The raster to be written by another process, as a file."""
    path = tmp_path_factory.mktemp("job") / "job.pickle"
    path.write_bytes(pickle.dumps((spec_of(SHAPE), ROWS)))
    return path


BEGIN = """
import pickle, sys
from pathlib import Path
from rs_segment.errors import DiskFullError, OutputExistsError
from rs_segment.writer import RasterWriter, WorkFolder, publish
target = Path(sys.argv[1])
"""

WRITE = (
    BEGIN
    + """
spec, rows = pickle.loads(Path(sys.argv[2]).read_bytes())
folder = WorkFolder.open(target, {"p": 1}, resume=True)
writer = RasterWriter(folder, "r", spec)
print("go", flush=True)
while writer.rows_done < rows.shape[1]:
    writer.write(rows[:, writer.rows_done : writer.rows_done + 100])
    writer.commit()
publish([(writer.finish(), target)], overwrite=True)
folder.close(keep=False)
print("done", flush=True)
"""
)


def test_a_process_killed_at_any_moment_leaves_all_or_nothing(tmp_path: Path, whole: bytes, job: Path) -> None:
    target, luck = tmp_path / "a.tif", random.Random(4)
    for pause in [luck.uniform(0, 0.12) for _ in range(3)]:
        child = run(WRITE, target, job)
        heard(child, "go")
        time.sleep(pause)
        child.kill()
        child.communicate()
        if target.exists():
            assert target.read_bytes() == whole
    child = run(WRITE, target, job)
    out, err = child.communicate(timeout=60)
    assert "done" in out, err
    assert target.read_bytes() == whole
    assert [p.name for p in tmp_path.iterdir()] == ["a.tif"]


FULL = (
    BEGIN
    + """
import resource
spec, rows = pickle.loads(Path(sys.argv[2]).read_bytes())
folder = WorkFolder.open(target, {"p": 1})
writer = RasterWriter(folder, "r", spec, threads=int(sys.argv[4]))
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]),) * 2)
try:
    while writer.rows_done < rows.shape[1]:
        writer.write(rows[:, writer.rows_done : writer.rows_done + 512])
        writer.commit()
    writer.finish()
except DiskFullError as error:
    assert str(folder.path) in str(error)
    folder.close(keep=True)
    print("full")
"""
)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no limit on the size of files")
@pytest.mark.parametrize("share", [0.01, 0.9])
def test_no_room_is_said_and_can_be_resumed_from(tmp_path: Path, whole: bytes, job: Path, share: float) -> None:
    child = run(FULL, tmp_path / "a.tif", job, int(len(whole) * share), 1 + (share > 0.5))
    out, err = child.communicate(timeout=60)
    assert out.strip() == "full", err
    assert not (tmp_path / "a.tif").exists()
    assert not list(tmp_path.glob(".*/*.tif"))
    assert resumed(tmp_path / "a.tif")[0] == whole


HOLD = (
    BEGIN
    + """
folder = WorkFolder.open(target, {"p": 1})
print("held", flush=True)
sys.stdin.readline()
"""
)


def test_two_processes_do_not_share_a_target(tmp_path: Path) -> None:
    child = run(HOLD, tmp_path / "a.tif")
    heard(child, "held")
    with pytest.raises(OutputExistsError, match=r"another process is writing .*a\.tif"):
        WorkFolder.open(tmp_path / "a.tif", {"p": 1}, resume=True)
    WorkFolder.open(tmp_path / "b.tif", {"p": 1}).close(keep=False)
    child.kill()
    child.communicate()
    folder = WorkFolder.open(tmp_path / "a.tif", {"p": 1}, resume=True)
    assert folder.resumed
    folder.close(keep=False)
    assert list(tmp_path.iterdir()) == []


RACE = (
    BEGIN
    + """
print("go", flush=True)
sys.stdin.readline()
for _ in range(60):
    try:
        folder = WorkFolder.open(target, {})
    except OutputExistsError:
        continue
    (folder.path / "mine").touch(exist_ok=False)
    folder.close(keep=False)
print("fair", flush=True)
"""
)


def test_processes_that_race_for_a_target_take_turns(tmp_path: Path) -> None:
    children = [run(RACE, tmp_path / "a.tif") for _ in range(2)]
    for child in children:
        heard(child, "go")
    for child in children:
        assert child.stdin is not None
        child.stdin.write("\n")
        child.stdin.flush()
    for child in children:
        out, err = child.communicate(timeout=60)
        assert "fair" in out, err


def test_another_plan_is_not_resumed(tmp_path: Path) -> None:
    WorkFolder.open(tmp_path / "a.tif", {"model": "x", "tile": (1, 2)}).close(keep=True)
    with pytest.raises(OptionError, match=r"model was 'x', now 'y'"):
        WorkFolder.open(tmp_path / "a.tif", {"model": "y", "tile": (1, 2)}, resume=True)
    folder = WorkFolder.open(tmp_path / "a.tif", {"model": "x", "tile": (1, 2)}, resume=True)
    assert folder.resumed
    (folder.path / "deep" / "er").mkdir(parents=True)
    folder.close(keep=True)
    folder = WorkFolder.open(tmp_path / "a.tif", {"model": "x", "tile": (1, 2)})
    assert not folder.resumed
    assert sorted(p.name for p in folder.path.iterdir()) == ["lock", "plan.json"]
    folder.close(keep=False)
    folder.close(keep=False)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '"x"', "\x00"])
def test_a_damaged_plan_is_started_afresh(tmp_path: Path, text: str) -> None:
    folder = WorkFolder.open(tmp_path / "a.tif", {"p": 1})
    folder.close(keep=True)
    (folder.path / "plan.json").write_text(text)
    folder = WorkFolder.open(tmp_path / "a.tif", {"p": 1}, resume=True)
    assert not folder.resumed
    folder.close(keep=False)


def test_a_work_folder_does_not_lead_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "file").touch()
    (tmp_path / ".a.tif.partial").symlink_to(tmp_path / "precious")
    with pytest.raises(OutputError, match="symbolic link"):
        WorkFolder.open(tmp_path / "a.tif", {})
    folder = WorkFolder.open(tmp_path / "b.tif", {})
    (folder.path / "link").symlink_to(tmp_path / "precious")
    folder.close(keep=False)
    assert (tmp_path / "precious" / "file").exists()


def test_a_place_that_cannot_be_written_to_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="is no folder"):
        WorkFolder.open(tmp_path / "missing" / "a.tif", {})
    with pytest.raises(OutputError, match="is no folder"):
        refuse_existing([tmp_path / "missing" / "a.tif"], overwrite=True)
    (tmp_path / ".a.tif.partial").touch()
    with pytest.raises(OutputError, match="cannot be written"):
        WorkFolder.open(tmp_path / "a.tif", {})
    with pytest.raises(OutputError, match="is a folder"):
        refuse_existing([tmp_path], overwrite=True)
    with pytest.raises(OutputError, match="cannot be written"):
        WorkFolder.open(tmp_path / ("a" * 250), {})


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(OutputError, match="cannot be written"):
            refuse_existing([tmp_path / "a.tif"], overwrite=True)
        with pytest.raises(OutputError, match="cannot be written"):
            WorkFolder.open(tmp_path / "a.tif", {})
    finally:
        tmp_path.chmod(0o700)


def test_publishing_replaces_only_when_allowed_and_takes_stale_sidecars_away(tmp_path: Path) -> None:
    final, layer = tmp_path / "a.tif", tmp_path / "a.gpkg"
    final.write_text("old")
    for path in (final, layer, *sidecars(final), *sidecars(layer), tmp_path / "a.txt"):
        path.write_text("old")
    made = [(tmp_path / "new.tif", final), (tmp_path / "new.gpkg", layer)]
    for path, _ in made:
        path.write_text("new")
    with pytest.raises(OutputExistsError, match="already there"):
        publish(made, overwrite=False)
    assert (tmp_path / "a.qml").exists()
    publish(made, overwrite=True)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.gpkg", "a.tif", "a.txt"]
    assert final.read_text() == layer.read_text() == "new"


def test_no_old_sidecar_beside_a_new_raster_when_publishing_breaks_off(tmp_path: Path) -> None:
    final, blocked = tmp_path / "a.tif", tmp_path / "b.tif"
    final.write_text("old")
    for path in (final, blocked, *sidecars(final)):
        path.write_text("old")
    (tmp_path / "new.tif").write_text("new")
    with pytest.raises(OutputError):
        publish([(tmp_path / "new.tif", final), (tmp_path / "absent.tif", blocked)], overwrite=True)
    assert final.read_text() == "old"
    sidecars(blocked)[0].mkdir()
    (tmp_path / "new2.tif").write_text("new")
    with pytest.raises(OutputError):
        publish([(tmp_path / "new.tif", final), (tmp_path / "new2.tif", blocked)], overwrite=True)
    assert final.read_text() == "old"
    assert not any(p.exists() for p in sidecars(final))


def test_sidecars_name_exactly_the_classes(tmp_path: Path) -> None:
    aux, qml = write_styles(tmp_path / "a.tif", CLASSES)
    assert (aux.name, qml.name) == ("a.tif.aux.xml", "a.qml")
    pam = ElementTree.parse(aux).getroot()
    assert [c.text or "" for c in pam.iter("Category")] == [CLASSES[0].name, CLASSES[1].name, "", "", "x"]
    rows = [[f.text for f in row] for row in pam.iter("Row")]
    assert rows == [[str(c.value), c.name, *map(str, c.rgb)] for c in CLASSES]
    entries = [dict(e.attrib) for e in ElementTree.parse(qml).getroot().iter("paletteEntry")]
    assert [(int(e["value"]), e["label"], e["color"].upper()) for e in entries] == [
        (c.value, c.name, c.color) for c in CLASSES
    ]
    gray = ElementTree.parse(write_confidence_style(tmp_path / "b.tif")).getroot()
    assert [r.get("type") for r in gray.iter("rasterrenderer")] == ["singlebandgray"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.qml", "a.tif.aux.xml", "b.qml"]


QGIS = """
import json, sys
from qgis.core import QgsApplication, QgsRasterLayer
app = QgsApplication([], False)
app.initQgis()
found = {}
for path in sys.argv[1:]:
    layer = QgsRasterLayer(path)
    renderer = layer.renderer()
    legend = [[label, color.name()] for label, color in renderer.legendSymbologyItems()]
    found[path] = [layer.isValid(), renderer.type(), legend]
print(json.dumps(found))
"""


def qgis(*paths: Path) -> Any:
    clean = {"PATH": "/usr/local/bin:/usr/bin:/bin", "QT_QPA_PLATFORM": "offscreen", "HOME": str(paths[0].parent)}
    done = subprocess.run(
        ["/usr/bin/python3", "-c", QGIS, *map(str, paths)], env=clean, capture_output=True, text=True, timeout=60
    )
    return json.loads(done.stdout.strip().splitlines()[-1]) if done.returncode == 0 else None


@pytest.mark.qgis
@pytest.mark.skipif(not Path("/usr/bin/qgis_process").exists(), reason="QGIS is not installed")
def test_qgis_shows_exactly_the_classes(tmp_path: Path) -> None:
    colors = {c.value: c.rgb for c in CLASSES}
    make(tmp_path / "a.tif", spec_of((600, 40), colors=colors), noise((600, 40)))
    make(tmp_path / "b.tif", spec_of((600, 40), reducer="mean"), noise((600, 40)))
    write_styles(tmp_path / "a.tif", CLASSES)
    write_confidence_style(tmp_path / "b.tif")
    found = qgis(tmp_path / "a.tif", tmp_path / "b.tif")
    assert found[str(tmp_path / "a.tif")] == [True, "paletted", [[c.name, c.color.lower()] for c in CLASSES]]
    assert found[str(tmp_path / "b.tif")][:2] == [True, "singlebandgray"]
