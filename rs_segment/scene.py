"""What is in the image? The only place that opens imagery.

A ``Scene`` is a raster seen through a choice of bands and a grid. Its windows come back in the file's own pixel type,
with one validity for each pixel. Missing pixels are what the file says they are: nodata tag, mask, alpha or NaN. They
are never guessed from black.
"""

from __future__ import annotations

import os
import re
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.enums import ColorInterp, MaskFlags
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.windows import Window

from .card import ModelCard
from .errors import BandError, GridError, OptionError, PixelTypeError, SceneError
from .geobox import GeoBox
from .resample import resample
from .types import Mask, Pixels, View

MAX_BLOCK_BYTES = 256 * 2**20
MIN_CACHE_BYTES, MAX_CACHE_BYTES = 64 * 2**20, 1024 * 2**20
MAX_COARSER, MAX_FINER = 4.0, 64.0

_OPENING = threading.Lock()

GDAL_OPTIONS: dict[str, Any] = {
    "GDAL_HTTP_CONNECTTIMEOUT": 10,
    "GDAL_HTTP_LOW_SPEED_TIME": 30,
    "GDAL_HTTP_LOW_SPEED_LIMIT": 1000,
    "GDAL_HTTP_MAX_RETRY": 3,
    "GDAL_HTTP_RETRY_DELAY": 1,
    "GDAL_HTTP_MERGE_CONSECUTIVE_RANGES": "YES",
    "GDAL_INGESTED_BYTES_AT_OPEN": 32768,
    "VSI_CACHE": "TRUE",
}
"""What every read runs under: a server that says nothing for 30 s fails instead of hanging."""

_IMAGE_SUFFIXES = (".tif", ".tiff", ".jp2", ".png", ".jpg", ".jpeg", ".img", ".bmp", ".gif", ".webp")
_REACHING_DRIVERS = frozenset(
    {"VRT", "GTI", "WMS", "WCS", "WMTS", "STACIT", "STACTA", "DAAS", "EEDAI", "PLMOSAIC", "HTTP", "KMLSUPEROVERLAY"}
)
"""GDAL's formats whose files name other files and servers to be read."""
_COMMON_NAMES = frozenset(
    {"coastal", "blue", "green", "red", "yellow", "pan", "rededge", "nir", "nir08", "nir09", "swir16", "swir22"}
)
""""Common names" of bands in STAC's extension eo; one of them says which light was measured."""


@dataclass(frozen=True, slots=True)
class Band:
    """One band of a file: its 1-based index, its name (lower case, may be empty), its pixel type."""

    index: int
    name: str
    dtype: str
    alpha: bool = False


@dataclass(frozen=True, slots=True)
class Chip:
    """The pixels under a window.

    Args:
        pixels: (band, row, col) in the scene's pixel type; zero outside the scene.
        valid: (row, col), False where there is no data.
    """

    pixels: Pixels
    valid: Mask


@dataclass(frozen=True, slots=True)
class Scene:
    """A raster, open for reading from any number of threads.

    Args:
        source: Path or address, as rasterio takes it.
        driver: GDAL's name of the format.
        source_box: The file's own grid.
        geobox: The grid that windows are counted in; another one than the file's where it is warped.
        bands: All bands of the file.
        indexes: The bands that ``read`` returns, 1-based.
        validity: How missing pixels are known, for people: "nodata 0", "alpha", "mask", "NaN", "all valid".
        nodata: Value of missing pixels of each band of the file, or None.
        masked: Whether the file has a mask, inside or beside it.
        palette: uint8 (256, 4) where a colour table is to be read as red, green, blue; alpha 0 is no data.
        rescale: (low, high, target low, target high) of a linear map over the values, to float32.
        block: (rows, cols) of the file's blocks.
        ground_control: "" for an affine grid, else what the file has instead.
    """

    source: str
    driver: str
    source_box: GeoBox
    geobox: GeoBox
    bands: tuple[Band, ...]
    indexes: tuple[int, ...]
    validity: str
    nodata: tuple[float | None, ...]
    block: tuple[int, int]
    masked: bool = False
    ground_control: str = ""
    palette: NDArray[np.uint8] | None = None
    rescale: tuple[float, float, float, float] | None = None
    _files: _Handles = field(default_factory=lambda: _Handles(), compare=False, repr=False)

    @classmethod
    def open(cls, source: str | Path, nodata: float | None = None) -> Scene:
        """The scene at a path or address.

        Args:
            source: Anything that rasterio opens: a file, a ``/vsi`` path, an http(s) or s3 address.
            nodata: Value of missing pixels, for a file that does not say it.

        Raises:
            SceneError: It does not exist, is no raster, or reaches for files outside its own folder.
        """
        name = os.fspath(source)
        with gdal_settings(), opened(name) as dataset:
            _refuse_disguise(name, dataset)
            bands = tuple(_band(dataset, i) for i in dataset.indexes)
            values = tuple(nodata if nodata is not None else v for v in dataset.nodatavals)
            box = GeoBox(dataset.shape, dataset.transform, dataset.crs or None)
            return cls(
                source=name,
                driver=dataset.driver,
                source_box=box,
                geobox=box,
                bands=bands,
                indexes=tuple(b.index for b in bands if not b.alpha) or (1,),
                validity=_validity(dataset, bands, values),
                nodata=values,
                block=dataset.block_shapes[0],
                masked=_masked(dataset),
                ground_control=_ground_control(dataset),
            )

    def __enter__(self) -> Scene:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file in all threads."""
        self._files.close()

    @property
    def name(self) -> str:
        """The last part of the path, for people."""
        if not _remote(self.source):
            return Path(self.source).name or self.source
        return self.source.split("?")[0].rstrip("/").rsplit("/", 1)[-1] or self.source

    @property
    def dtype(self) -> np.dtype[Any]:
        """Pixel type that ``read`` returns."""
        if self.rescale is not None:
            return np.dtype(np.float32)
        if self.palette is not None:
            return np.dtype(np.uint8)
        return self._stored_dtype

    @property
    def _stored_dtype(self) -> np.dtype[Any]:
        return np.result_type(*(_dtype(self.bands[i - 1].dtype) for i in self.indexes))

    @property
    def count(self) -> int:
        """Number of bands that ``read`` returns."""
        return 3 if self.palette is not None else len(self.indexes)

    @property
    def warped(self) -> bool:
        """Whether pixels are resampled on the way in."""
        return self.geobox.shape != self.source_box.shape

    def cache_bytes(self, tile: int) -> int:
        """Size of GDAL's block cache that spares decoding a block again for the next tile of a row, in bytes."""
        rows, cols = self.block
        item = sum(_dtype(self.bands[i - 1].dtype).itemsize for i in self.indexes)
        down, across = (s / t for s, t in zip(self.source_box.shape, self.geobox.shape, strict=True))
        reach = -(-int(tile * down) // rows) + 1
        width = self.source_box.shape[1] if cols >= self.source_box.shape[1] else int(2 * tile * across)
        return min(MAX_CACHE_BYTES, max(MIN_CACHE_BYTES, int(1.25 * reach * rows * width * item)))

    def read(self, window: Window) -> Chip:
        """The pixels under a window of ``geobox``, which may hang over its edges.

        Raises:
            SceneError: A block cannot be decoded; the message names the window.
        """
        height, width = self.geobox.shape
        top, left = max(0, window.row_off), max(0, window.col_off)
        bottom, right = min(height, window.row_off + window.height), min(width, window.col_off + window.width)
        if (bottom - top, right - left) == (window.height, window.width):
            return Chip(*self._read_inside(window))
        pixels = np.zeros((self.count, window.height, window.width), self.dtype)
        valid = np.zeros((window.height, window.width), np.bool_)
        if bottom > top and right > left:
            rows = slice(top - window.row_off, bottom - window.row_off)
            cols = slice(left - window.col_off, right - window.col_off)
            inside = Window(left, top, right - left, bottom - top)
            pixels[:, rows, cols], valid[rows, cols] = self._read_inside(inside)
        return Chip(pixels, valid)

    def fit(self, card: ModelCard, view: View | None = None) -> Scene:
        """The same scene as a model reads it: its bands in its order, on its ground resolution.

        Raises:
            BandError: The scene's bands are not those of the model, or a chosen band does not exist.
            PixelTypeError: The values are of another type than the model was made for.
            GridError: There is no affine grid, or no usable ground resolution where the model needs one.
        """
        view = view or View()
        if self.ground_control:
            raise GridError(
                f"{self.name} has {self.ground_control} instead of a regular grid, so no pixel of a result would have "
                f"a place; warp it first, for example: rio warp {self.name} ortho.tif --dst-crs EPSG:4326"
            )
        rows, cols = self.block
        if rows * cols * max(_dtype(b.dtype).itemsize for b in self.bands) > MAX_BLOCK_BYTES:
            raise SceneError(
                f"{self.name} is stored in blocks of {rows} x {cols} px, more than {MAX_BLOCK_BYTES >> 20} MiB each; "
                "store it in tiles first: rio convert --profile tiled=true --profile blockxsize=512 ..."
            )
        chosen = self._choose_bands(card, view.bands)
        return chosen._check_values(card, view.rescale)._at_resolution(card, view.resolution)

    def percentiles(self, low: float, high: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Percentiles of the valid pixels of each band, (band,) each, from a thinned-out read of the whole scene."""
        height, width = self.geobox.shape
        step = max(1, -(-max(height, width) // 1024))
        rows = range(0, height, step)
        found = []
        for row in rows if step > 1 else rows[:1]:
            tall = 1 if step > 1 else height
            chip = self.read(Window(0, row, width, tall))
            found.append(chip.pixels[:, chip.valid][:, ::step])
        values = np.concatenate(found, axis=1) if found else np.zeros((self.count, 0))
        if values.shape[1] == 0:
            return np.zeros(self.count), np.ones(self.count)
        ends = np.percentile(values.astype(np.float64), [low, high], axis=1)
        return ends[0], ends[1]

    def _choose_bands(self, card: ModelCard, wanted: tuple[int | str, ...] | None) -> Scene:
        need = f"{card.name} reads {len(card.bands)} ({', '.join(card.bands)})"
        names = {b.name: b.index for b in reversed(self.bands) if b.name}
        if wanted is not None:
            indexes = tuple(self._find_band(w, names) for w in wanted)
            if len(indexes) != len(card.bands):
                raise BandError(f"{len(indexes)} bands were chosen from {self.name}, but {need}")
            return replace(self, indexes=indexes)
        colors = [b for b in self.bands if not b.alpha]
        lowered = [b.lower() for b in card.bands]
        if all(b in names for b in lowered):
            return replace(self, indexes=tuple(names[b] for b in lowered))
        palette = self._read_palette()
        if palette is not None and lowered == ["red", "green", "blue"]:
            return replace(self, indexes=(1,), palette=palette)
        pairs = list(zip((b.name for b in colors), lowered, strict=False))
        if len(colors) == len(lowered) and not any(_contradict(name, want, lowered) for name, want in pairs):
            return replace(self, indexes=tuple(b.index for b in colors))
        listed = ", ".join(f"{b.index} {b.name}".strip() for b in self.bands)
        example = ",".join(str(i + 1) for i in range(len(lowered)))
        advice = (
            f"choose them with --bidx {example}"
            if len(self.bands) >= len(lowered)
            else "stack the missing bands into one file first: rio stack --help"
        )
        raise BandError(f"{self.name} has {_count(len(colors), 'band')} ({listed}) but {need}; {advice}")

    def _find_band(self, wanted: int | str, names: dict[str, int]) -> int:
        if isinstance(wanted, str) and not wanted.isdecimal():
            if wanted.lower() in names:
                return names[wanted.lower()]
        elif 1 <= int(wanted) <= len(self.bands):
            return int(wanted)
        listed = ", ".join(f"{b.index} {b.name}".strip() for b in self.bands)
        raise BandError(f"{self.name} has no band {wanted}; it has {listed}")

    def _check_values(self, card: ModelCard, rescale: tuple[float, float] | None) -> Scene:
        if any(_dtype(self.bands[i - 1].dtype).kind not in "uif" for i in self.indexes):
            kinds = ", ".join(sorted({self.bands[i - 1].dtype for i in self.indexes}))
            raise PixelTypeError(f"{self.name} holds {kinds} values; a model reads real numbers only")
        if rescale is not None:
            if not (rescale[0] < rescale[1] and np.isfinite(rescale).all()):
                raise OptionError(f"--rescale {rescale[0]:g},{rescale[1]:g}: the first value must be the lower one")
            return replace(self, rescale=(*rescale, *card.pixel_range))
        if card.scaling.kind == "percentile" or self.dtype == np.dtype(card.dtype):
            return self
        low, high = card.pixel_range
        ends = self.percentiles(2, 98)
        raise PixelTypeError(
            f"{self.name} holds {self.dtype} values, but {card.name} was made for {card.dtype} ({low:g} to {high:g}); "
            f"if its values only need stretching, say which are mapped onto that range, for example "
            f"--rescale {ends[0].min():.6g},{ends[1].max():.6g} (the middle 96 % of this scene)"
        )

    def _at_resolution(self, card: ModelCard, told: float | None) -> Scene:
        if told is not None and not 0 < told < float("inf"):
            raise OptionError(f"--resolution {told:g}: the size of a pixel must be metres above 0")
        ground = self.geobox.ground_resolution if told is None else (told, told)
        if ground is None and card.resolution is None:
            return self
        if ground is None:
            raise GridError(
                f"{self.name} has no CRS, so its ground resolution is unknown, but {card.name} needs "
                f"{card.resolution:g} m pixels; say how large its pixels are with --resolution METRES"
            )
        size = f"{self.name} has pixels of {ground[0]:.3g} x {ground[1]:.3g} m, but {card.name} was trained on"
        if card.resolution is None:
            finest, coarsest = card.resolution_limits or (0.0, float("inf"))
            if finest <= min(ground) and max(ground) <= coarsest:
                return self
            raise GridError(
                f"{size} imagery between {finest:g} and {coarsest:g} m, and sees nothing that it knows in this; "
                "choose another model, or insist with --resolution METRES (taken as the size of its pixels)"
            )
        across, down = (g / card.resolution for g in ground)
        if all(abs(f - 1) <= card.resolution_tolerance for f in (across, down)):
            return self
        if max(across, down) > MAX_COARSER or min(across, down) < 1 / MAX_FINER:
            raise GridError(
                f"{size} {card.resolution:g} m; imagery more than {MAX_COARSER:g} times coarser or {MAX_FINER:g} times "
                "finer shows other things than the model knows: choose another model, or resample it yourself first"
            )
        height, width = self.geobox.shape
        shape = max(1, round(height * down)), max(1, round(width * across))
        return replace(self, geobox=self.source_box.zoom_to(shape))

    def _read_palette(self) -> NDArray[np.uint8] | None:
        if self.bands[0].name != "palette" or self.bands[0].dtype != "uint8":
            return None
        with gdal_settings(), opened(self.source) as dataset:
            table = dataset.colormap(1)
        return np.array([table.get(i, (0, 0, 0, 255)) for i in range(256)], np.uint8)

    def _read_inside(self, window: Window) -> tuple[Pixels, Mask]:
        if not self.warped:
            return self._read_source(window)
        return resample(self._read_source, self.source_box.shape, self.geobox.shape, window)

    def _read_source(self, window: Window) -> tuple[Pixels, Mask]:
        with gdal_settings():
            dataset = self._files.get(lambda: _open(self.source))
            try:
                pixels = self._bands(dataset, window)
                valid = self._valid(dataset, pixels, window)
            except (RasterioError, OSError, MemoryError) as error:
                raise SceneError(
                    f"{self.source} cannot be read at rows {window.row_off} to {window.row_off + window.height}, "
                    f"columns {window.col_off} to {window.col_off + window.width}: {_cause(error)}"
                ) from error
        if self.palette is not None:
            valid &= self.palette[pixels[0], 3] > 0
            pixels = self.palette[pixels[0], :3].transpose(2, 0, 1)
        if self.rescale is not None:
            low, high, target_low, target_high = self.rescale
            scaled = (pixels.astype(np.float32) - low) * ((target_high - target_low) / (high - low)) + target_low
            pixels = np.clip(scaled, target_low, target_high)
        return pixels, valid

    def _bands(self, dataset: Any, window: Window) -> Pixels:
        if len({self.bands[i - 1].dtype for i in self.indexes}) == 1:
            return np.asarray(dataset.read(self.indexes, window=window))
        # rasterio reads bands of several types one by one only.
        return np.stack([dataset.read(i, window=window).astype(self._stored_dtype) for i in self.indexes])

    def _valid(self, dataset: Any, pixels: Pixels, window: Window) -> Mask:
        values = [self.nodata[i - 1] for i in self.indexes]
        valid: Mask = np.ones(pixels.shape[1:], np.bool_)
        if any(v is not None for v in values):
            missing = [_equals(p, v) for p, v in zip(pixels, values, strict=True)]
            # In unsigned imagery the nodata value, mostly 0, is also an ordinary dark value of a single band.
            valid = ~(np.all if pixels.dtype.kind == "u" else np.any)(missing, axis=0)
        if self.masked:
            valid &= dataset.read_masks(self.indexes[0], window=window) > 0
        for band in self.bands:
            if band.alpha:
                valid &= dataset.read(band.index, window=window) > 0
        if pixels.dtype.kind == "f":
            valid &= np.isfinite(pixels).all(axis=0)
        return valid


class _Handles:
    """One open dataset a thread, because GDAL's are not to be shared."""

    def __init__(self) -> None:
        self._here = threading.local()
        self._all: list[Any] = []
        self._lock = threading.Lock()

    def get(self, opener: Any) -> Any:
        found = getattr(self._here, "dataset", None)
        if found is None or found.closed:
            found = self._here.dataset = opener()
            with self._lock:
                self._all.append(found)
        return found

    def close(self) -> None:
        with self._lock:
            for dataset in self._all:
                dataset.close()
            self._all.clear()


@contextmanager
def gdal_settings() -> Iterator[None]:
    """GDAL's settings while imagery is opened and read."""
    with rasterio.Env(**GDAL_OPTIONS):
        yield


@contextmanager
def opened(source: str) -> Iterator[Any]:
    """A raster as rasterio opens it, closed in the end.

    Raises:
        SceneError: It cannot be opened.
    """
    dataset = _open(source)
    try:
        yield dataset
    finally:
        dataset.close()


def _remote(source: str) -> bool:
    return "://" in source or source.startswith("/vsi")


def _open(source: str) -> Any:
    path = Path(source)
    # "NETCDF:cube.nc:rain" is how GDAL names a raster inside a file; one letter would be a Windows drive.
    named = _remote(source) or (re.match(r"[A-Za-z]\w+:", source) is not None and not path.exists())
    if not named:
        if not path.exists():
            raise SceneError(f"{source} does not exist" + _or_did_you_mean(path))
        if path.is_file():
            _refuse_text(path)
    try:
        # Filters of warnings belong to the process, so only one thread may change them at a time.
        with _OPENING, warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            dataset = rasterio.open(source if named else path)
    except (RasterioError, OSError, ValueError, TypeError) as error:
        if not named and path.is_dir():
            raise SceneError(f"{source} is a folder that GDAL cannot read as a raster; name a file in it") from error
        raise SceneError(f"{source} cannot be opened as a raster: {_cause(error)}") from error
    if dataset.count == 0:
        inside = dataset.subdatasets[:3]
        dataset.close()
        raise SceneError(f"{source} holds no bands" + (f"; open one of {', '.join(inside)}" if inside else ""))
    return dataset


def _or_did_you_mean(path: Path) -> str:
    import difflib

    there = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
    near = difflib.get_close_matches(path.name, there, 1)
    return f"; did you mean {path.parent / near[0]}?" if near else ""


def _cause(error: BaseException) -> str:
    """The innermost reason, which is GDAL's own sentence, without rasterio's 'see previous exception'."""
    reasons: list[str] = []
    here: BaseException | None = error
    while here is not None and len(reasons) < 8:
        reasons.append(str(here))
        here = here.__cause__ or here.__context__
    told = [r for r in reasons if r and "previous exception" not in r]
    return (told or reasons)[-1].strip()[:300]


def _refuse_text(path: Path) -> None:
    """A page sent by a server instead of an image, and XML that sends GDAL elsewhere, are text from the first byte."""
    try:
        with path.open("rb") as file:
            head = file.read(1024)
    except OSError as error:
        raise SceneError(f"{path} cannot be read: {error.strerror or error}") from error
    if not head:
        raise SceneError(f"{path} is empty (0 bytes); copy or download it again")
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if text.startswith(b"<") and path.suffix.lower() in _IMAGE_SUFFIXES:
        start = text[:30].decode("ascii", "replace").splitlines()[0]
        raise SceneError(f"{path} is no image but text that starts with {start!r}; a failed download leaves such files")


def _refuse_disguise(name: str, dataset: Any) -> None:
    """A file must be what its name says, and read nothing but itself and what lies beside it.

    A VRT that calls itself .tif, or hides as a sidecar, reads any file on the machine and shows it as pixels.
    """
    suffix = PurePosixPath(name.split("?")[0] if _remote(name) else name).suffix.lower()
    if dataset.driver in _REACHING_DRIVERS:
        if suffix in ("", *_IMAGE_SUFFIXES) and not name.lower().startswith(f"{dataset.driver.lower()}:"):
            raise SceneError(f"{name} is a {dataset.driver} under another name, which can reach for any file; refused")
        return
    files = dataset.files
    if Path(name).exists():
        homes = {Path(name).resolve(), Path(name).resolve().parent, Path(name).absolute().parent.resolve()}
        outside = [f for f in files if f.startswith("/vsi") or not homes & set(Path(f).resolve().parents)]
    else:
        home = files[0].rsplit("/", 1)[0] + "/" if files else ""
        outside = [f for f in files if not f.startswith(home)]
    if outside:
        raise SceneError(f"{name} reads {outside[0]}, which lies outside its own folder; refused")
    for other in files[1:]:
        if not other.startswith("/vsi") and Path(other).is_file():
            with open(other, "rb") as file:
                head = file.read(4096)
            if b"<VRTDataset" in head or b"<GDAL_WMS" in head:
                raise SceneError(f"{name} reads {other}, which can reach for any file; refused")


def _band(dataset: Any, index: int) -> Band:
    kind = dataset.colorinterp[index - 1]
    name = (dataset.descriptions[index - 1] or "").strip().lower()
    if not name and kind not in (ColorInterp.undefined, ColorInterp.gray):
        name = kind.name
    return Band(index, name, dataset.dtypes[index - 1], kind == ColorInterp.alpha)


def _dtype(name: str) -> np.dtype[Any]:
    """The numpy type of a band; GDAL knows complex integers, numpy does not."""
    return np.dtype(np.complex64 if name.startswith("complex_int") else name)


def _masked(dataset: Any) -> bool:
    flags = {flag for band in dataset.mask_flag_enums for flag in band}
    return MaskFlags.per_dataset in flags and MaskFlags.alpha not in flags


def _validity(dataset: Any, bands: tuple[Band, ...], nodata: tuple[float | None, ...]) -> str:
    told = ["mask"] if _masked(dataset) else []
    if any(b.alpha for b in bands):
        told.append("alpha")
    values = sorted({f"{v:.10g}" for v in nodata if v is not None})
    if values:
        told.append("nodata " + ", ".join(values))
    elif any(_dtype(b.dtype).kind == "f" for b in bands):
        told.append("NaN")
    return " and ".join(told) or "all valid"


def _contradict(name: str, want: str, wanted: list[str]) -> bool:
    """Whether a band called one thing cannot be read, by its position, as another."""
    return name != want and (name in wanted or (name in _COMMON_NAMES and want in _COMMON_NAMES))


def _ground_control(dataset: Any) -> str:
    if not dataset.transform.is_identity:
        return ""
    if dataset.gcps[0]:
        return f"{len(dataset.gcps[0])} ground control points"
    return "rational polynomial coefficients (RPC)" if dataset.rpcs is not None else ""


def _equals(values: Pixels, nodata: float | None) -> Mask:
    if nodata is None:
        return np.zeros(values.shape, np.bool_)
    if np.isnan(nodata):
        return np.isnan(values) if values.dtype.kind == "f" else np.zeros(values.shape, np.bool_)
    if values.dtype.kind in "ui":
        info = np.iinfo(values.dtype)
        if not np.isfinite(nodata) or nodata != int(nodata) or not info.min <= nodata <= info.max:
            return np.zeros(values.shape, np.bool_)
        return np.asarray(values == int(nodata))
    with np.errstate(over="ignore"):
        return np.asarray(values == np.asarray(nodata).astype(values.dtype))


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
