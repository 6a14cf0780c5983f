"""A training set: images with labels, read by window, whoever made them."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from ..card import DTYPES, ClassInfo, Scaling
from ..errors import DatasetError, RsSegmentError
from ..geobox import GeoBox
from ..scene import Scene
from ..types import NODATA, Track, silent
from .classes import only_classes
from .files import Files, refuse_cut_off
from .guess import guess
from .layers import Layer
from .look import Found, Match, group_by_pattern, groups_by_folder, match_patterns, wrong_files
from .masks import Legend, MaskFile, palette_of
from .pair import Image, Pair, Polygons, bands_of
from .spec import FILE_NAME, DatasetSpec, SplitSpec, read_spec
from .split import Split, make_split, parse_split
from .survey import Survey, take_survey

_OFF = 0.1
_CUT = 0.01


@dataclass(frozen=True, slots=True)
class Dataset:
    """A training set.

    Args:
        source: The folder or ``dataset.toml`` that it was opened from.
        spec: What the ``dataset.toml`` says, or would say.
        pairs: All images with their labels, in the order of their names.
        dtype: Pixel type of all images.
        band_names: For a model's card, one for each band.
        notes: Sentences about what was decided by looking.
    """

    source: Path
    spec: DatasetSpec
    pairs: tuple[Pair, ...]
    dtype: str
    band_names: tuple[str, ...]
    notes: tuple[str, ...] = ()
    _files: Files = field(default_factory=Files, compare=False, repr=False)

    @property
    def name(self) -> str:
        """What it is called."""
        return self.spec.name

    @property
    def classes(self) -> tuple[ClassInfo, ...]:
        """The classes, with values 0, 1, 2 and so on."""
        return self.spec.infos

    @property
    def bands(self) -> int:
        """Number of bands that are read."""
        return len(self.band_names)

    @property
    def ignore(self) -> int:
        """The label of pixels from which nothing is learnt."""
        return NODATA

    @property
    def groups(self) -> tuple[str, ...]:
        """What pairs are grouped by, in their order."""
        return tuple(dict.fromkeys(p.group for p in self.pairs))

    @property
    def resolution(self) -> float | None:
        """Ground resolution in metres, the median of all pairs; None where it is not known."""
        if self.spec.images.resolution is not None:
            return self.spec.images.resolution
        sizes = [np.sqrt(np.prod(size)) for p in self.pairs if (size := p.geobox.ground_resolution) is not None]
        return float(np.median(sizes)) if len(sizes) == len(self.pairs) else None

    @property
    def scaling(self) -> Scaling:
        """How pixels are scaled: as the file says, or by mean and standard deviation, for which all is read once."""
        if self.spec.scaling is not None:
            kind, a, b = self.spec.scaling
            return Scaling(kind, a, b, clip=kind == "percentile")  # type: ignore[arg-type]
        return self.survey().scaling()

    @property
    def weights(self) -> tuple[float, ...] | None:
        """Of the classes, one each; for "balanced" ones all is read once. None where none were asked for."""
        weights = self.spec.weights
        return self.survey().balanced() if weights == "balanced" else weights

    def survey(self, track: Track = silent) -> Survey:
        """What all pairs hold; the first call reads everything once.

        Raises:
            SceneError: A block cannot be decoded.
            DatasetError: Labels cannot be placed.
        """
        threads = min(4, os.cpu_count() or 1)
        return self._files.once("survey", lambda: take_survey(self.pairs, threads, track))

    def split(self, spec: SplitSpec | str | None = None) -> Split:
        """The pairs, dealt out.

        Args:
            spec: How; a text as ``parse_split`` reads it; None takes that of the file, or else holds out a tenth of the
                groups, or a tenth of blocks where there are fewer than three groups.

        Raises:
            DatasetError: It cannot be done with these pairs.
            OptionError: The text is no split.
        """
        if isinstance(spec, str):
            spec = parse_split(spec)
        if spec is None:
            spec = self.spec.split or SplitSpec("group" if len(self.groups) > 2 else "blocks")
        return make_split(self.pairs, spec)

    def close(self) -> None:
        """Forget what is kept in memory, and close this thread's files."""
        self._files.close()


@dataclass(frozen=True, slots=True)
class Examined:
    """A training set as far as it is whole, and what is wrong with the rest.

    Args:
        dataset: The pairs that can be read; None where there are none.
        problems: Sentences, each with the name of a file.
        notes: Sentences that a careful reader should know.
    """

    dataset: Dataset | None
    problems: tuple[str, ...]
    notes: tuple[str, ...]


def open_dataset(source: str | Path, track: Track = silent, classes: str = "") -> Dataset:
    """The training set in a folder, or that a ``dataset.toml`` describes.

    Args:
        source: A ``dataset.toml``, or a folder. A folder that has none is looked at: which images and masks belong
            together, and which classes there are.
        track: Told of what takes long.
        classes: Only these, in this order, as ``only_classes`` reads them; "" are all.

    Raises:
        DatasetError: Something is wrong with it; the sentence names the file.
        OptionError: It has no such classes.
        SceneError: A file cannot be opened.
    """
    found = examine(source, track, classes)
    if found.problems:
        more = len(found.problems) - 1
        others = f" (and {more} more; rs-segment data {source} lists them all)" if more else ""
        raise DatasetError(found.problems[0] + others)
    assert found.dataset is not None
    return found.dataset


def examine(source: str | Path, track: Track = silent, classes: str = "") -> Examined:
    """The training set as far as it is whole, with everything that is wrong with it.

    Raises:
        DatasetError: Nothing can be made of it.
        OptionError: It has no such ``classes``.
    """
    path = Path(source)
    try:
        toml = path / FILE_NAME if path.is_dir() else path
        described = toml.is_file()
    except OSError as error:
        raise DatasetError(f"{path} cannot be looked at: {error.strerror or error}") from error
    if described:
        spec = read_spec(toml)
        match = match_patterns(spec)
        notes: tuple[str, ...] = ()
    else:
        if not path.is_dir():
            raise DatasetError(f"{path} does not exist; name a folder with images and labels, or a {FILE_NAME}")
        spec, match, notes = guess(path, track)
    if classes:
        spec, more = only_classes(spec, classes)
        notes += more
    if not described:
        notes += _nameless(spec)
    return _build(path, spec, match, notes)


def _nameless(spec: DatasetSpec) -> tuple[str, ...]:
    """A note where a mask's classes are called by what stands for them."""
    what = {"colors": "colours", "values": "values"}.get(spec.labels.kind)
    if what is None or any(c.name not in (f"class {c.labels[0]}", c.labels[0]) for c in spec.classes):
        return ()
    return (f"classes are called by their {what}; name them in a dataset.toml (--write makes one) or with --classes",)


def _build(source: Path, spec: DatasetSpec, match: Match, notes: Sequence[str]) -> Examined:
    files = Files()
    legend = Legend.of(spec.labels.kind, spec.classes, spec.labels.ignore, spec.labels.unknown)
    problems = [f"{source}: {sentence}" for sentence in wrong_files(match)]
    told = list(notes)
    if match.lonely_images:
        first, count = match.lonely_images[0].path, len(match.lonely_images)
        told.append(f"{count} images have no labels and are left out, the first is {first}")
    groups = _groups(spec, match)
    names = _names([image for image, _ in match.pairs], spec)
    pairs: list[Pair] = []
    for image, labels in match.pairs:
        try:
            opened = _open_image(spec, image)
            if pairs:
                _like(opened, pairs[0].image)
            name = names[image.path]
            pairs.append(_open_pair(spec, opened, labels, legend, (name, groups[image.path]), files))
        except RsSegmentError as error:
            problems.append(str(error))
    if not match.pairs:
        problems.append(f"{source} holds no image with labels")
    if not pairs:
        return Examined(None, tuple(problems), tuple(told))
    if sum(p.memory for p in pairs) <= files.cache_bytes:
        pairs = [replace(p, kept=True) for p in pairs]
    pairs.sort(key=lambda p: _natural(p.name))
    names_of_bands = _band_names(spec, pairs)
    if spec.scaling is not None and {len(v) for v in spec.scaling[1:]} - {1, len(names_of_bands)}:
        problems.append(
            f"{source}: the scaling is for another number of bands than the {len(names_of_bands)} that are read"
        )
    dataset = Dataset(source, spec, tuple(pairs), pairs[0].image.dtype, names_of_bands, tuple(told), files)
    return Examined(dataset, tuple(problems), tuple(told))


def _open_image(spec: DatasetSpec, found: Found) -> Image:
    path = spec.root / found.path
    refuse_cut_off(path)
    with Scene.open(path, spec.images.nodata) as scene:
        palette = palette_of(scene)
        if palette is not None:
            scene = replace(scene, palette=palette)
            names: tuple[str, ...] = ("red", "green", "blue")
        else:
            scene = replace(scene, indexes=bands_of(scene, spec.images.bands))
            names = tuple(scene.bands[i - 1].name for i in scene.indexes)
        if scene.bands[scene.indexes[0] - 1].dtype not in DTYPES or scene.dtype.name not in DTYPES:
            raise DatasetError(f"{path} holds {scene.dtype} values; a network reads {', '.join(DTYPES)}")
        return Image(
            str(path), scene.geobox, scene.indexes, scene.dtype.name, names, scene.block, spec.images.nodata, palette
        )


def _like(image: Image, first: Image) -> None:
    """Raises where an image cannot be in one set with another."""
    if (image.count, image.dtype) != (first.count, first.dtype):
        raise DatasetError(
            f"{image.path} has {image.count} bands of {image.dtype}, but {first.path} has {first.count} of "
            f"{first.dtype}; images of a set are alike: choose bands = [...] in [images], or convert them"
        )


def _open_pair(
    spec: DatasetSpec, image: Image, labels: Found, legend: Legend, named: tuple[str, str], files: Files
) -> Pair:
    path = spec.root / labels.path
    box = image.geobox
    area = str(spec.root / spec.labels.area) if spec.labels.area else ""
    if spec.labels.kind == "polygons":
        if not labels.vector:
            raise DatasetError(f'{path} is no file of polygons, which kind = "polygons" in [labels] promises')
        layer = files.once(("layer", str(path)), lambda: Layer.read(path, spec.labels))
        if layer.crs is None and box.crs is not None:
            raise DatasetError(f"{path} has no CRS, so its polygons cannot be placed on {image.path}; give it one")
        if box.crs is None and layer.crs is not None:
            raise DatasetError(
                f"{image.path} has no CRS, so the polygons of {path} cannot be placed on it; give it one"
            )
        outside = next((i for i, c in enumerate(spec.classes) if c.name == spec.labels.outside), NODATA)
        only = None if spec.labels.field else next((i for i in range(len(spec.classes)) if i != outside), NODATA)
        source: MaskFile | Polygons = Polygons(layer, outside, only)
    else:
        if labels.vector:
            raise DatasetError(f'{path} holds polygons; say kind = "polygons" in [labels]')
        source = MaskFile.open(path, spec.labels.kind)
        box = _common(image, source, spec.labels.cut)
    return Pair(*named, box, image, source, legend, spec.labels.border, area, _files=files)


def _common(image: Image, mask: MaskFile, cut: bool) -> GeoBox:
    """The grid of an image and its mask.

    Raises:
        DatasetError: Their sizes differ, and are not to be cut; or they lie in different places.
    """
    mine, its = image.geobox, mask.geobox
    shape = min(mine.shape[0], its.shape[0]), min(mine.shape[1], its.shape[1])
    if mine.shape != its.shape:
        off = max(abs(a - b) for a, b in zip(mine.shape, its.shape, strict=True))
        near = off <= max(2, _CUT * max(mine.shape))
        if not (cut and near):
            advice = 'sizes = "cut" in [labels] takes what both have' if near else "they are not of one image"
            raise DatasetError(
                f"{image.path} has {mine.shape[1]} x {mine.shape[0]} px, but its labels {mask.path} have "
                f"{its.shape[1]} x {its.shape[0]}; {advice}"
            )
    if mine.crs is None:
        return (
            replace(its, shape=shape) if its.crs is not None and not mine.georeferenced else replace(mine, shape=shape)
        )
    if its.crs is not None:
        a, b = replace(mine, shape=shape), replace(its, shape=shape)
        if a.crs != b.crs or not np.allclose(a.corners, b.corners, rtol=0, atol=_OFF * min(a.resolution)):
            raise DatasetError(
                f"{mask.path} does not lie on {image.path}: it begins at {b.corners[0]} with pixels of {b.resolution}, "
                f"the image at {a.corners[0]} with {a.resolution}, or its CRS is another; warp the labels first: "
                f"rio warp {Path(mask.path).name} same.tif --like {Path(image.path).name} --resampling nearest"
            )
    return replace(mine, shape=shape)


def _groups(spec: DatasetSpec, match: Match) -> dict[str, str]:
    """The group of each image, by its path."""
    given = {p.image: p.group for p in spec.pairs if p.group}
    images = [image for image, _ in match.pairs]
    if spec.images.group == "folder":
        named = groups_by_folder([image.name for image in images])
        found = {image.path: named[image.name] for image in images}
    elif spec.images.group == "file":
        found = {image.path: image.path for image in images}
    else:
        found = {image.path: group_by_pattern(spec.images.group, image.path) for image in images}
    return found | given


def _names(images: Sequence[Found], spec: DatasetSpec) -> dict[str, str]:
    """A name for each image, by its path: the short one where no other has it."""
    given = {p.image: p.name for p in spec.pairs if p.name}
    short = [given.get(f.path, f.name) for f in images]
    held = Counter(short)
    return {f.path: name if held[name] == 1 else f.path for f, name in zip(images, short, strict=True)}


def _band_names(spec: DatasetSpec, pairs: Sequence[Pair]) -> tuple[str, ...]:
    count = pairs[0].image.count
    if spec.images.names:
        if len(spec.images.names) != count:
            raise DatasetError(f"names in [images] are {len(spec.images.names)}, but {count} bands are read")
        return spec.images.names
    names = pairs[0].image.names
    if all(names) and len(set(names)) == count and all(p.image.names == names for p in pairs):
        return names
    if count == 3 and pairs[0].image.dtype == "uint8":
        return "red", "green", "blue"
    return tuple(f"band{i + 1}" for i in range(count))


def _natural(name: str) -> list[tuple[int, int, str]]:
    """A key that sorts part_2 before part_10."""
    return list(_pieces(name))


def _pieces(name: str) -> Iterator[tuple[int, int, str]]:
    for piece in re.split(r"(\d+)", name):
        yield (0, int(piece), piece) if piece.isdecimal() else (1, 0, piece)
