"""Laws of borders that are simplified or smoothed: they are still those of the same polygons, none of which is lost."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from rs_segment.errors import GridError
from rs_segment.polygons.arcs import Arcs
from rs_segment.polygons.generalise import simplify, smooth
from rs_segment.polygons.places import Places

Raster = NDArray[np.uint8]
Vertex = tuple[int, int]
LAW = settings(deadline=None, max_examples=40)
TOLERANCES = st.sampled_from([0.0, 0.5, 0.8, 1.0, 1.5, 2.0, 3.0, 10.0, 1000.0])
DISTANCES = st.sampled_from([0.1, 0.3, 0.5, 0.75, 1.0, 2.5, 100.0])


def spiral(size: int) -> Raster:
    raster = np.zeros((size, size), np.uint8)
    row, col, step, turn = 0, -1, (0, 1), size
    while turn > 0:
        for _ in range(turn):
            row, col = row + step[0], col + step[1]
            raster[row, col] = 1
        step = (step[1], -step[0])
        turn -= 1 if step[0] else 2
    return raster


def rings(size: int, classes: int) -> Raster:
    near = np.minimum(np.arange(size), np.arange(size)[::-1])
    return (np.minimum.outer(near, near) % classes).astype(np.uint8)


def discs(size: int, classes: int) -> Raster:
    far = np.hypot(*np.indices((size, size)) - size / 2)
    return (far.astype(int) % classes).astype(np.uint8)


def comb(size: int) -> Raster:
    raster = np.zeros((size, size), np.uint8)
    raster[:-1, ::2] = raster[-1] = 1
    return raster


def corridor(size: int, slope: int) -> Raster:
    rows, cols = np.indices((size, size))
    raster = np.digitize(slope * rows - cols, [0, slope + 1]).astype(np.uint8)
    return raster


def lens(size: int) -> Raster:
    """Two classes with a third in a bulge of their border, wavy on both sides."""
    rows, cols = np.indices((size, size))
    wave = cols % 3
    raster = (rows > size // 2).astype(np.uint8)
    raster[(rows > 2 + wave) & (rows < size // 2 + 4 + wave) & (cols > 3) & (cols < size - 4)] = 2
    return raster


SHAPES = {
    "one class": np.zeros((5, 6), np.uint8),
    "one pixel": np.zeros((1, 1), np.uint8),
    "one row": np.array([[0, 0, 1, 255, 1, 2, 2]], np.uint8),
    "checkerboard": (np.indices((8, 9)).sum(0) % 2).astype(np.uint8),
    "islands": np.where(np.indices((9, 9)).sum(0) % 3, 0, 1).astype(np.uint8),
    "spiral": spiral(21),
    "rings of two": rings(18, 2),
    "rings of three": rings(17, 3),
    "discs": discs(24, 2),
    "comb": comb(12),
    "comb on its side": comb(13).T.copy(),
    "corridor": corridor(16, 1),
    "steep corridor": corridor(18, 2).T.copy(),
    "lens": lens(22),
    "stairs": (np.subtract.outer(np.arange(15), np.arange(15)) > 0).astype(np.uint8),
    "loop at a node": np.array([[0, 0, 0, 0], [0, 1, 1, 0], [0, 1, 1, 0], [0, 0, 0, 2]], np.uint8),
    "ring closed at a corner": np.array([[1, 1, 1, 0], [1, 0, 1, 0], [1, 1, 0, 1], [0, 1, 1, 1]], np.uint8),
}


@st.composite
def rasters(draw: st.DrawFn, largest: int = 22) -> Raster:
    """Noise or blobs of one to five classes, perhaps with nodata, perhaps one of the shapes within."""
    height, width = draw(st.integers(1, largest)), draw(st.integers(1, largest))
    labels = draw(st.lists(st.sampled_from([0, 1, 2, 7, 255]), min_size=1, max_size=5, unique=True))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    grain = draw(st.sampled_from([0, 0, 1, 2, 3]))
    score = rng.random((len(labels), height, width))
    for _ in range(grain):
        score = sum(np.roll(score, (i, j), (1, 2)) for i in (-1, 0, 1) for j in (-1, 0, 1))
    raster = np.array(labels, np.uint8)[score.argmax(0)]
    if draw(st.booleans()):
        shape = SHAPES[draw(st.sampled_from(sorted(SHAPES)))][:height, :width]
        raster[: shape.shape[0], : shape.shape[1]] = shape
    return raster


def borders(raster: Raster, strip: int = 10**6, bends_only: bool = True) -> list[Arcs]:
    """The arcs of each strip of rows, found by walking along the sides of pixels."""
    padded = np.pad(raster, 1, constant_values=255)
    near: dict[Vertex, list[tuple[Vertex, int]]] = {}
    for row, col in np.argwhere(padded[:-1, :-1] != padded[1:, :-1]).tolist():
        link(near, (row, col - 1), (row, col), row // strip)
    for row, col in np.argwhere(padded[:-1, :-1] != padded[:-1, 1:]).tolist():
        link(near, (row - 1, col), (row, col), (row - 1) // strip)
    nodes = {v for v, links in near.items() if len(links) != 2 or links[0][1] != links[1][1]}
    found: dict[int, list[tuple[list[Vertex], bool]]] = {}
    done: set[frozenset[Vertex]] = set()
    for begin in [*sorted(nodes), *sorted(set(near) - nodes)]:
        for after, part in near[begin]:
            if frozenset((begin, after)) in done:
                continue
            path = [begin, after]
            while path[-1] not in nodes and path[-1] != begin:
                path.append(next(v for v, _ in near[path[-1]] if v != path[-2]))
            done |= {frozenset(pair) for pair in zip(path, path[1:], strict=False)}
            found.setdefault(part, []).append((path, begin not in nodes))
    return [listed(paths, bends_only) for _, paths in sorted(found.items())]


def link(near: dict[Vertex, list[tuple[Vertex, int]]], a: Vertex, b: Vertex, part: int) -> None:
    near.setdefault(a, []).append((b, part))
    near.setdefault(b, []).append((a, part))


def listed(paths: Iterable[tuple[list[Vertex], bool]], bends_only: bool) -> Arcs:
    kept, loops = [], []
    for path, loop in paths:
        xy = np.array(path, float)[:, ::-1]
        bends = np.ones(len(xy), bool)
        if bends_only:
            bends[1:-1] = (xy[2:] - xy[1:-1] != xy[1:-1] - xy[:-2]).any(axis=1)
        kept.append(xy[bends])
        loops.append(loop)
    return join(kept, loops)


def join(paths: list[NDArray[np.float64]], loops: list[bool]) -> Arcs:
    start = np.cumsum([0, *map(len, paths)])
    return Arcs(np.concatenate([np.empty((0, 2)), *paths]), start, np.array(loops, bool))


def paths(arcs: Arcs) -> list[NDArray[np.float64]]:
    return [arcs.xy[i:j] for i, j in zip(arcs.start[:-1], arcs.start[1:], strict=True)]


def whole(raster: Raster, bends_only: bool = True) -> Arcs:
    parts = borders(raster, bends_only=bends_only)
    return parts[0] if parts else join([], [])


def lines(arcs: Arcs) -> Any:
    owner = np.repeat(np.arange(len(arcs)), np.diff(arcs.start))
    return shapely.linestrings(arcs.xy, indices=owner)


def faces(arcs: Arcs) -> list[Any]:
    """Which arcs are around each face: those of its exterior, and those of each hole.

    Fails where arcs are no borders of a coverage.
    """
    if not len(arcs):
        return []
    polygons, *rest = shapely.polygonize_full(lines(arcs))
    assert all(shapely.is_empty(rest))
    polygons = shapely.get_parts(polygons)
    assert shapely.is_valid(polygons).all()
    assert (shapely.area(polygons) > 1e-6).all()
    assert shapely.coverage_is_valid(polygons)
    arc = {}
    for number, path in enumerate(paths(arcs)):
        for pair in zip(path.tolist(), path.tolist()[1:], strict=False):
            key = frozenset(map(tuple, pair))
            assert len(key) == 2
            assert key not in arc
            arc[key] = number
    return sorted(
        [sorted(arcs_of(polygon.exterior, arc)), sorted(sorted(arcs_of(hole, arc)) for hole in polygon.interiors)]
        for polygon in polygons
    )


def arcs_of(ring: Any, arc: dict[frozenset[Any], int]) -> set[int]:
    corners = shapely.get_coordinates(ring).tolist()
    return {arc[frozenset(map(tuple, pair))] for pair in zip(corners, corners[1:], strict=False)}


def turned(arcs: Arcs, order: NDArray[np.int64], back: NDArray[np.bool_]) -> Arcs:
    old = paths(arcs)
    return join([old[i][::-1] if back[i] else old[i] for i in order], arcs.loop[order].tolist())


def same(a: Arcs, b: Arcs) -> bool:
    return np.array_equal(a.xy, b.xy) and np.array_equal(a.start, b.start) and np.array_equal(a.loop, b.loop)


@st.composite
def changes(draw: st.DrawFn) -> Callable[[Arcs], Arcs]:
    tolerance, distance = draw(TOLERANCES), draw(DISTANCES)
    steps = draw(st.sampled_from(["simplify", "smooth", "both"]))
    if steps == "simplify":
        return lambda arcs: simplify(arcs, tolerance)
    if steps == "smooth":
        return lambda arcs: smooth(arcs, distance)
    return lambda arcs: smooth(simplify(arcs, tolerance), distance)


@LAW
@given(rasters(), changes(), st.booleans())
def test_all_faces_stay_and_fit_together(raster: Raster, change: Callable[[Arcs], Arcs], bends_only: bool) -> None:
    arcs = whole(raster, bends_only)
    after = change(arcs)
    assert faces(after) == faces(arcs)
    for old, new in zip(paths(arcs), paths(after), strict=True):
        closed = (old[0] == old[-1]).all()
        assert (new[0] == new[-1]).all() == closed
        assert len(new) >= (4 if closed else 2)
    fixed = ~arcs.loop
    for ends in (slice(None, -1), slice(1, None)):
        at = -1 if ends.start else 0
        assert np.array_equal(arcs.xy[arcs.start[ends] + at][fixed], after.xy[after.start[ends] + at][fixed])


@pytest.mark.parametrize("tolerance", [1.0, 2.0, 5.0, 1000.0])
@pytest.mark.parametrize("name", SHAPES)
def test_shapes_that_are_hard_to_simplify(name: str, tolerance: float) -> None:
    arcs = whole(SHAPES[name])
    thin = simplify(arcs, tolerance)
    assert faces(thin) == faces(arcs)
    for distance in (0.5, 1.0, 50.0):
        assert faces(smooth(arcs, distance)) == faces(arcs)
        assert faces(smooth(thin, distance)) == faces(arcs)


@LAW
@given(rasters(), changes(), st.integers(0, 2**32 - 1))
def test_neither_order_nor_direction_of_arcs_matters(raster: Raster, change: Callable[[Arcs], Arcs], seed: int) -> None:
    arcs = whole(raster)
    rng = np.random.default_rng(seed)
    order, back = rng.permutation(len(arcs)), rng.random(len(arcs)) < 0.5
    assert same(change(turned(arcs, order, back)), turned(change(arcs), order, back))


@LAW
@given(rasters(), changes(), st.integers(1, 9))
def test_strips_fit_together(raster: Raster, change: Callable[[Arcs], Arcs], height: int) -> None:
    parts = borders(raster, height)
    changed = [change(arcs) for arcs in parts]
    pieces = [path for arcs in parts for path in paths(arcs)]
    loops = [loop for arcs in parts for loop in arcs.loop.tolist()]
    after = [path for arcs in changed for path in paths(arcs)]
    assert faces(join(after, loops)) == faces(join(pieces, loops))


@LAW
@given(rasters(18), TOLERANCES)
def test_what_stays_has_a_reason(raster: Raster, tolerance: float) -> None:
    arcs = whole(raster)
    vertices = np.unique(arcs.xy, axis=0)
    for old, new in zip(paths(arcs), paths(simplify(arcs, tolerance)), strict=True):
        place = [next(i for i, v in enumerate(old[:-1].tolist()) if v == w) for w in new[:-1].tolist()]
        place.append(len(old) - 1)
        assert place == sorted(place)
        if len(new) == (4 if (old[0] == old[-1]).all() else 3):
            continue
        for i in range(1, len(new) - 1):
            p, q, r = new[i - 1 : i + 2]
            if twice(p, q, r) <= 2 * tolerance**2:
                own = old[place[i - 1] : place[i + 1] + 1]
                assert inside(vertices, p, q, r) > inside(np.unique(own, axis=0), p, q, r)


def twice(p: Any, q: Any, r: Any) -> float:
    return abs(float((p[0] - q[0]) * (r[1] - q[1]) - (r[0] - q[0]) * (p[1] - q[1])))


def inside(vertices: NDArray[np.float64], *corners: NDArray[np.float64]) -> int:
    """How many vertices lie in a triangle or on it."""
    sides = [
        (b[0] - a[0]) * (vertices[:, 1] - a[1]) - (b[1] - a[1]) * (vertices[:, 0] - a[0])
        for a, b in zip(corners, corners[1:] + corners[:1], strict=True)
    ]
    box = ((vertices >= np.min(corners, axis=0)) & (vertices <= np.max(corners, axis=0))).all(axis=1)
    return int(np.count_nonzero(box & ((np.min(sides, axis=0) >= 0) | (np.max(sides, axis=0) <= 0))))


@LAW
@given(rasters())
def test_without_tolerance_only_straight_vertices_go(raster: Raster) -> None:
    arcs = whole(raster)
    assert same(simplify(arcs, 0), arcs)
    assert same(simplify(whole(raster, bends_only=False), 0), arcs)
    assert same(smooth(arcs, 0), arcs)


@LAW
@given(rasters(), TOLERANCES, DISTANCES)
def test_smoothing_moves_nothing_farther_than_its_distance(raster: Raster, tolerance: float, distance: float) -> None:
    for arcs in (whole(raster), simplify(whole(raster), tolerance)):
        after = smooth(arcs, distance)
        if len(arcs):
            far = shapely.hausdorff_distance(lines(arcs), lines(after), densify=0.1)
            assert far.max() <= distance + 1e-9


@LAW
@given(rasters(), st.sampled_from([0.25, 0.5, 1.0]))
def test_smoothing_cuts_every_corner_of_the_pixels(raster: Raster, distance: float) -> None:
    arcs = whole(raster)
    for old, new, loop in zip(paths(arcs), paths(smooth(arcs, distance)), arcs.loop, strict=True):
        corners = set(map(tuple, (old if loop else old[1:-1]).tolist()))
        assert not corners & set(map(tuple, (new if loop else new[1:-1]).tolist()))


@LAW
@given(st.integers(0, 2**32 - 1), st.integers(2, 40), st.booleans())
def test_places_are_counted_as_one_by_one(seed: int, size: int, halves: bool) -> None:
    rng = np.random.default_rng(seed)
    vertices = np.unique(rng.integers(-size, size, (size**2, 2)), axis=0)
    low, high = vertices.min(0), vertices.max(0)
    corners = rng.integers(low, high + 1, (3, 30, 2)).astype(float)
    if halves:
        corners = (corners[[0, 0, 0]] + corners) / 2
    p, q, r = corners
    bent = np.array([twice(*each) > 0 for each in zip(p, q, r, strict=True)])
    corners = corners[:, bent]
    found = Places(vertices[:, 0], vertices[:, 1]).count(corners[:, :, 0], corners[:, :, 1])
    assert found.tolist() == [inside(vertices.astype(float), *each) for each in corners.transpose(1, 0, 2)]


@pytest.mark.parametrize("slope", [1, 2, 5])
def test_even_steps_become_straight(slope: int) -> None:
    rows, cols = np.indices((12, 60))
    arcs = whole((cols > slope * rows).astype(np.uint8))
    inner = max(range(len(arcs)), key=lambda i: len(paths(arcs)[i]))
    assert len(paths(arcs)[inner]) > 20
    one_step = (slope / 2) ** 0.5
    assert len(paths(simplify(arcs, one_step))[inner]) <= 4
    assert len(paths(smooth(arcs, slope))[inner]) <= 4


def test_a_pixel_alone_becomes_a_diamond() -> None:
    raster = np.zeros((3, 3), np.uint8)
    raster[1, 1] = 1
    arcs = smooth(whole(raster), 1.0)
    island = paths(arcs)[int(np.argmin(np.diff(arcs.start)))]
    assert shapely.Polygon(island).equals(shapely.Polygon([(1.5, 1), (1, 1.5), (1.5, 2), (2, 1.5)]))


@pytest.mark.parametrize(("island", "leg"), [(20, 25.0), (10, 12.5), (5, 6.25), (2, 0.0)])
def test_a_corner_is_cut_as_far_as_there_is_room(island: int, leg: float) -> None:
    raster = np.zeros((60, 60), np.uint8)
    raster[island, island] = 1
    frame = next(path for path in paths(smooth(whole(raster), 25)) if len(path) > 5)
    assert [leg, 0] in frame.tolist()
    assert [0, leg] in frame.tolist()
    assert [60, 35] in frame.tolist()


def blobs(size: int, classes: int, grain: int) -> Raster:
    score = np.random.default_rng(5).random((classes, size, size))
    for _ in range(grain):
        score = sum(np.roll(score, (i, j), (1, 2)) for i in (-1, 0, 1) for j in (-1, 0, 1))
    return score.argmax(0).astype(np.uint8)


def test_simplification_does_not_move_the_map() -> None:
    arcs = whole(blobs(400, 2, 8))
    after = simplify(arcs, 2)
    loops = np.flatnonzero(arcs.loop & (np.diff(arcs.start) > 50))
    assert len(loops) > 10
    old, new = ([shapely.Polygon(paths(a)[i]) for i in loops] for a in (arcs, after))
    area = shapely.area(old)
    shift = shapely.get_coordinates(shapely.centroid(new)) - shapely.get_coordinates(shapely.centroid(old))
    assert np.abs(np.average(shift, axis=0, weights=area)).max() < 0.1
    assert abs(shapely.area(new).sum() / area.sum() - 1) < 0.01


@pytest.mark.parametrize("tolerance", [1.0, 2.0, 4.0])
def test_as_few_vertices_as_geos(tolerance: float) -> None:
    arcs = whole(blobs(160, 3, 4))
    polygons = shapely.get_parts(shapely.polygonize(lines(arcs)))
    ours = shapely.get_num_coordinates(shapely.polygonize(lines(simplify(arcs, tolerance))))
    theirs = shapely.get_num_coordinates(shapely.coverage_simplify(polygons, tolerance)).sum()
    assert 0.7 * theirs < ours < 1.1 * theirs


def test_what_is_already_smooth_is_refused() -> None:
    arcs = smooth(whole(SHAPES["stairs"]), 0.5)
    with pytest.raises(GridError, match="simplify them before"):
        simplify(arcs, 1)
    with pytest.raises(GridError, match="simplify them before"):
        smooth(arcs, 1)


def test_nothing_gives_nothing() -> None:
    nothing = join([], [])
    assert same(simplify(nothing, 1), nothing)
    assert same(smooth(nothing, 1), nothing)
