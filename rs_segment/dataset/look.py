"""Which images and labels lie in a folder, and which belong together?

An image and its labels belong together when their paths are equal but for the words that say which is which: a folder
``images`` against ``masks``, a name ending in ``_rgb`` against ``_labels``.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from ..errors import DatasetError
from .layers import SUFFIXES as VECTORS
from .spec import DatasetSpec, PairSpec

RASTERS = (".tif", ".tiff", ".png", ".jpg", ".jpeg", ".jp2", ".img", ".bmp", ".webp")
_IMAGE_WORDS = frozenset(
    ("image", "images", "img", "imgs", "jpegimages", "rgb", "rgba", "sat", "satellite", "ortho", "orthophoto")
    + ("orthophotos", "photo", "photos", "raster", "rasters", "scene", "scenes", "input", "inputs")
)
_LABEL_WORDS = frozenset(
    ("mask", "masks", "label", "labels", "labelled", "labeled", "lbl", "gt", "groundtruth", "truth", "annotation")
    + ("annotations", "target", "targets", "reference", "references", "seg", "segmentation", "segmentationclass")
    + ("class", "classes", "polygons")
)
_PIECE = re.compile(r"(?i)(part|piece|chip|patch|crop)[_\-. ]*\d+$")
_DEPTH = 12


@dataclass(frozen=True, slots=True)
class Found:
    """A file, and what its path says of it.

    Args:
        path: Relative to the root, with slashes.
        role: "image", "labels", or "" where nothing says it.
        key: The path without ending and without the words that tell the role; equal for an image and its labels.
    """

    path: str
    role: str
    key: tuple[str, ...]

    @property
    def vector(self) -> bool:
        """Whether it holds polygons."""
        return self.path.lower().endswith(VECTORS)

    @property
    def name(self) -> str:
        """What the pair is called: folders that say something, and the file's name without its ending."""
        return "/".join((*self.key[:-1], PurePosixPath(self.path).stem))


@dataclass(frozen=True, slots=True)
class Match:
    """What belongs together, and what is left.

    Args:
        pairs: (image, labels) of each pair.
        lonely_images: Images without labels.
        lonely_labels: Labels without an image.
        doubts: Sentences about files of which one must go.
    """

    pairs: tuple[tuple[Found, Found], ...]
    lonely_images: tuple[Found, ...]
    lonely_labels: tuple[Found, ...]
    doubts: tuple[str, ...]


def files_below(root: Path) -> list[str]:
    """All images and layers below a folder, relative and sorted; hidden ones are left out, links are followed.

    Raises:
        DatasetError: It is no folder, or cannot be listed.
    """
    if not root.is_dir():
        raise DatasetError(
            f"{root} is no folder with images and labels" + ("" if root.exists() else ": nothing is there")
        )
    found: list[str] = []
    seen: set[str] = set()

    def refuse(error: OSError) -> None:
        raise DatasetError(f"{error.filename} cannot be listed: {error.strerror or error}") from error

    for folder, folders, names in os.walk(root, onerror=refuse, followlinks=True):
        real, here = os.path.realpath(folder), Path(folder).relative_to(root)
        folders[:] = sorted(f for f in folders if not f.startswith(".") and len(here.parts) < _DEPTH)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        wanted = (n for n in names if n.lower().endswith((*RASTERS, *VECTORS)) and not n.startswith("."))
        found += ((here / n).as_posix() for n in wanted)
    for path in found:
        if any(c < " " or "\ud800" <= c <= "\udfff" for c in path):
            raise DatasetError(f"the name of {path!r} has signs that cannot be written; give the file another name")
    return sorted(found)


def tell(path: str) -> Found:
    """What a relative path says of its file."""
    *folders, last = PurePosixPath(path).parts
    stem = PurePosixPath(last).stem
    by_folder, key = "", []
    for folder in folders:
        role, rest = _role(folder, ends=False)
        by_folder = role or by_folder
        if rest:
            key.append(rest)
    by_name, rest = _role(stem, ends=True)
    role = "labels" if "labels" in (by_folder, by_name) else by_folder or by_name
    if last.lower().endswith(VECTORS):
        role = "labels"
    return Found(path, role, (*key, rest or stem.lower()))


def match(found: Sequence[Found]) -> Match:
    """The pairs among files; what nothing is said of is an image where labels have its key."""
    labelled = {f.key for f in found if f.role == "labels"}
    images: dict[tuple[str, ...], list[Found]] = {}
    labels: dict[tuple[str, ...], list[Found]] = {}
    roles = {f.role for f in found}
    for f in found:
        # Next to files that are called images, others are something else unless labels ask for them.
        is_image = f.role == "image" or (not f.role and (f.key in labelled or "image" not in roles))
        if f.role == "labels":
            labels.setdefault(f.key, []).append(f)
        elif is_image:
            images.setdefault(f.key, []).append(f)
    return _join(images, labels)


def match_patterns(spec: DatasetSpec) -> Match:
    """The pairs that a ``dataset.toml`` names.

    Raises:
        DatasetError: A pattern fits no file.
    """
    there = files_below(spec.root)
    images, labels = (_fitting(files, there, spec.root) for files in (spec.images.files, spec.labels.files))
    images = [image for image in images if image not in labels]
    single = len(labels) == 1 and labels[0].vector
    if single:
        shared = [(image, labels[0]) for image in images]
        found = Match(tuple(shared), (), (), ())
    else:
        found = _join(_by_key(images), _by_key(labels))
    named = tuple(_named(spec, pair) for pair in spec.pairs)
    used = {image.path for image, _ in named}
    return Match(
        (*(p for p in found.pairs if p[0].path not in used), *named),
        tuple(f for f in found.lonely_images if f.path not in used),
        tuple(f for f in found.lonely_labels if f.path not in {m.path for _, m in named}),
        found.doubts,
    )


def _named(spec: DatasetSpec, pair: PairSpec) -> tuple[Found, Found]:
    labels = pair.labels or (spec.labels.files[0] if len(spec.labels.files) == 1 else "")
    if not labels:
        raise DatasetError(f"{pair.image} in [[pairs]] has no labels, and [labels] does not name one file for all")
    return tell(pair.image), tell(labels)


def _fitting(patterns: Iterable[str], there: Sequence[str], root: Path) -> list[Found]:
    found: dict[str, Found] = {}
    for pattern in patterns:
        fits = pattern_filter(pattern, there)
        if not fits and not any(c in pattern for c in "*?[") and (root / pattern).exists():
            fits = [pattern]
        if not fits:
            raise DatasetError(f"no file below {root} fits {pattern!r}")
        found |= {path: tell(path) for path in fits}
    return [found[path] for path in sorted(found)]


def pattern_filter(pattern: str, paths: Iterable[str]) -> list[str]:
    """The paths that fit a pattern: ``*`` is any part of one name, ``**`` any number of folders, ``[...]`` a choice."""
    try:
        fits = re.compile(re.sub(r"\[[^\]/]+\]|\*\*/|\*|\?|.", _translated, pattern))
    except re.error as error:
        raise DatasetError(f"the pattern {pattern!r} cannot be: {error}") from None
    return [path for path in paths if fits.fullmatch(path)]


def _translated(found: re.Match[str]) -> str:
    text = found.group()
    if text.startswith("[") and len(text) > 2:
        return "[" + re.sub(r"([^\w-])", r"\\\1", text[1:-1]) + "]"
    return {"**/": "(?:.*/)?", "*": "[^/]*", "?": "[^/]"}.get(text) or re.escape(text)


def patterns_for(wanted: Sequence[str], there: Sequence[str]) -> tuple[str, ...]:
    """Short patterns that fit the wanted paths and no others of those there."""
    folders = [PurePosixPath(path) for path in wanted]
    tries = [sorted({str(_starred(p, keep)) for p in folders}) for keep in (1, 2, 99)]
    for patterns in tries:
        fits = {path for pattern in patterns for path in pattern_filter(pattern, there)}
        if fits == set(wanted) and len(patterns) < max(2, len(wanted)):
            return tuple(patterns)
    return tuple(_escaped(path) for path in wanted)


def _starred(path: PurePosixPath, keep: int) -> PurePosixPath:
    """A pattern for the files beside a path, in which all but the last folders are any."""
    folders = path.parts[:-1]
    starred = ["*" if i < len(folders) - keep else _escaped(f) for i, f in enumerate(folders)]
    role = _affix(path.stem)
    return PurePosixPath(*starred, f"{role[0]}*{role[1]}{_escaped(path.suffix)}")


def _escaped(text: str) -> str:
    return re.sub(r"([*?[])", r"[\1]", text)


def _affix(stem: str) -> tuple[str, str]:
    """(beginning, end) of a name that tell its role, such as ("", "_rgb")."""
    words = re.split(r"([_\-. ]+)", stem)
    if len(words) > 2:
        if _word(words[-1]):
            return "", _escaped(words[-2] + words[-1])
        if _word(words[0]):
            return _escaped(words[0] + words[1]), ""
    return "", ""


def _word(word: str) -> str:
    return "labels" if word.lower() in _LABEL_WORDS else "image" if word.lower() in _IMAGE_WORDS else ""


def _role(text: str, ends: bool) -> tuple[str, str]:
    """(role that a name tells, the name without the words that do); ``ends`` looks at its first and last word only."""
    words = [w for w in re.split(r"[_\-. ]+", text) if w]
    looked = {0, len(words) - 1} if ends else set(range(len(words)))
    told = {i: _word(words[i]) for i in looked if i < len(words) and _word(words[i])}
    role = "labels" if "labels" in told.values() else "image" if told else ""
    return role, "_".join(w.lower() for i, w in enumerate(words) if i not in told)


def _by_key(found: Iterable[Found]) -> dict[tuple[str, ...], list[Found]]:
    keyed: dict[tuple[str, ...], list[Found]] = {}
    for f in found:
        keyed.setdefault(f.key, []).append(f)
    return keyed


def _join(images: dict[tuple[str, ...], list[Found]], labels: dict[tuple[str, ...], list[Found]]) -> Match:
    pairs, doubts, lonely = [], [], []
    used: set[tuple[str, ...]] = set()
    spare = [f for key, fs in labels.items() if key not in images for f in fs if f.vector]
    for key in sorted(images):
        several = images[key]
        its = labels.get(key, [])
        rasters = [f for f in its if not f.vector]
        its = rasters or its
        if len(several) > 1 and its:
            doubts.append(f"{several[0].path} and {several[1].path} both belong to {its[0].path}; keep one of them")
        elif len(its) > 1:
            doubts.append(f"{its[0].path} and {its[1].path} are both labels of {several[0].path}; keep one of them")
        elif its:
            pairs.append((several[0], its[0]))
        elif len(spare) == 1 and not labels.keys() & images.keys():
            pairs += [(f, spare[0]) for f in several]
        else:
            lonely += several
        used.add(key)
    taken = {f.path for _, f in pairs}
    left = [f for key in sorted(labels) if key not in used for f in labels[key] if f.path not in taken]
    return Match(tuple(pairs), tuple(lonely), tuple(left), tuple(doubts))


def groups_by_folder(names: Sequence[str]) -> dict[str, str]:
    """The group of each pair's name: its folders; where there are none, what its name has before a number.

    Each is a group of its own where names tell nothing.
    """
    folders = {name: name.rsplit("/", 1)[0] if "/" in name else "" for name in names}
    if len(set(folders.values())) > 1 or "" not in folders.values():
        return {name: folder or name for name, folder in folders.items()}
    stems = {name: re.sub(r"([_\-. ]*(part|piece|tile|chip|patch|crop)?[_\-. ]*\d+){1,2}$", "", name) for name in names}
    sizes: dict[str, int] = {}
    for stem in stems.values():
        sizes[stem] = sizes.get(stem, 0) + 1
    pieces = all(_PIECE.search(name) for name in names)
    telling = (len(sizes) > 1 or pieces) and all(stems.values()) and max(sizes.values()) > 1
    return {name: stems[name] if telling else name for name in names}


def group_by_pattern(pattern: str, image: str) -> str:
    """The part of an image's path that a regular expression finds; its first group where it has one."""
    found = re.search(pattern, image)
    if found is None:
        raise DatasetError(f"group = {pattern!r} in [images] finds nothing in {image}")
    return (found.group(1) if found.re.groups else found.group(0)) or image


def wrong_files(found: Match) -> Iterator[str]:
    """What is wrong with files: two where one is wanted, labels without an image."""
    yield from found.doubts
    for labels in found.lonely_labels:
        yield f"{labels.path} has no image; add it, or take the labels out of the folder"
