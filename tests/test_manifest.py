"""What a manifest remembers, whatever happened to those who wrote it."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rs_segment.archive.manifest import FOLDER, Manifest, Output, Record, now
from rs_segment.errors import DiskFullError

RECORDS = st.builds(
    Record,
    id=st.text(max_size=20),
    status=st.sampled_from(["begun", "done", "failed"]),
    source=st.text(max_size=20),
    key=st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=5), max_size=3),
    time=st.just("2026-01-01T00:00:00.000+00:00"),
    seconds=st.floats(0, 1e6),
    outputs=st.lists(st.builds(Output, st.text(max_size=9), st.integers(0), st.integers(0), st.text(max_size=9))).map(
        tuple
    ),
    result=st.just({}) | st.just({"shape": [3, 4], "areas": []}),
    message=st.text(max_size=30),
)


def line(number: int) -> Record:
    return Record(f"scene-{number}", "done", message="x" * (number % 97), time=now())


@settings(deadline=None)
@given(RECORDS)
def test_a_line_says_all_of_a_record(record: Record) -> None:
    text = record.to_json()
    assert "\n" not in text
    assert Record.from_json(text) == record


@settings(deadline=None)
@given(st.binary(max_size=60) | st.text(max_size=60) | st.from_regex(r'\{"id": .{0,9}, "status": .{0,9}\}'))
def test_what_is_no_record_is_none(text: bytes | str) -> None:
    found = Record.from_json(text)
    assert found is None or found.status in ("begun", "done", "failed")


@pytest.mark.parametrize(
    "text",
    [
        '{"id": 3, "status": "done"}',
        '{"id": "a", "status": "done", "outputs": [{"path": "x"}]}',
        '{"id": "a", "status": "done", "result": {"shape": "no"}}',
        '{"id": "a", "status": "done", "time": 5}',
        '{"id": "a", "status": "finished"}',
        '{"status": "done"}',
        "[" * 100_000,
        "null",
    ],
)
def test_a_line_that_somebody_edited_is_passed_over(text: str) -> None:
    assert Record.from_json(text) is None


@settings(deadline=None, max_examples=60)
@given(st.lists(RECORDS, min_size=1, max_size=5), st.data())
def test_a_file_that_is_cut_anywhere_has_all_its_whole_lines(
    tmp_path_factory: pytest.TempPathFactory, records: list[Record], data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("cut")
    with Manifest(folder) as manifest:
        manifest.add(*records)
    file = folder / FOLDER / "0001.jsonl"
    whole = file.read_bytes()
    cut = data.draw(st.integers(0, len(whole)))
    file.write_bytes(whole[:cut])
    lines = whole[:cut].count(b"\n")
    with Manifest(folder) as again:
        assert again.records == {r.id: r for r in records[:lines]}
        again.add(line(7))
    assert Manifest(folder).records == {r.id: r for r in records[:lines]} | {"scene-7": again.records["scene-7"]}


def test_the_last_word_counts_whoever_said_it(tmp_path: Path) -> None:
    with Manifest(tmp_path) as first, Manifest(tmp_path) as second:
        first.add(replace(line(1), time="2026-01-01", message="early"))
        second.add(replace(line(1), time="2026-01-03", message="late"))
        first.add(replace(line(1), time="2026-01-02", message="between"))
        assert first.records["scene-1"].message == "between"
        first.refresh()
        assert first.records["scene-1"].message == "late"
        first.refresh()
    assert Manifest(tmp_path).records["scene-1"].message == "late"
    assert len(list((tmp_path / FOLDER).iterdir())) == 2


def test_nothing_is_made_where_nothing_is_said(tmp_path: Path) -> None:
    with Manifest(tmp_path / "nowhere") as manifest:
        manifest.add()
    assert not list(tmp_path.iterdir())


WRITER = """
import sys
from pathlib import Path
from rs_segment.archive.manifest import Manifest, Record, now
first, count = int(sys.argv[2]), int(sys.argv[3])
with Manifest(Path(sys.argv[1])) as manifest:
    for number in range(first, first + count):
        manifest.add(Record(f"scene-{number}", "done", message="x" * (number % 97), time=now()))
        print(number, flush=True)
"""


def writer(folder: Path, first: int, count: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", WRITER, str(folder), str(first), str(count)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_runs_at_the_same_time_do_not_meet(tmp_path: Path) -> None:
    children = [writer(tmp_path, 1000 * k, 150) for k in range(2)]
    assert [child.wait(60) for child in children] == [0, 0]
    for child in children:
        child.communicate()
    assert len(Manifest(tmp_path).records) == 300
    assert len(list((tmp_path / FOLDER).iterdir())) == 2


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_what_was_said_before_a_kill_is_known_after_it(tmp_path: Path) -> None:
    said: set[str] = set()
    for k in range(3):
        child = writer(tmp_path, 100_000 * k, 100_000)
        assert child.stdout is not None
        told = [child.stdout.readline()]
        time.sleep(random.uniform(0, 0.2))
        child.send_signal(signal.SIGKILL)
        told += child.communicate()[0].splitlines()
        said |= {f"scene-{int(number)}" for number in told if number.strip()}
        known = Manifest(tmp_path).records
        assert said <= known.keys()
        assert len(known) <= len(said) + k + 1


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX limits")
def test_a_full_disk_is_said_and_what_follows_is_not_spoilt(tmp_path: Path) -> None:
    import resource

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    with Manifest(tmp_path) as manifest:
        manifest.add(line(1))
        resource.setrlimit(resource.RLIMIT_FSIZE, (200, before[1]))
        try:
            with pytest.raises(DiskFullError):
                manifest.add(replace(line(2), message="y" * 500))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        assert "scene-2" not in manifest.records
        manifest.add(line(3))
    assert Manifest(tmp_path).records.keys() == {"scene-1", "scene-3"}


def test_a_file_is_looked_at_as_closely_as_asked(tmp_path: Path) -> None:
    file = tmp_path / "a.tif"
    file.write_bytes(b"abc")
    output = Output.of(file)
    assert output.holds(tmp_path)
    assert output.holds(tmp_path, full=True)
    shutil.copy(file, tmp_path / "copy")
    os.utime(tmp_path / "copy", ns=(1, 1))
    os.replace(tmp_path / "copy", file)
    assert output.holds(tmp_path), "a copy has another time, and the same checksum"
    file.write_bytes(b"abd")
    assert not output.holds(tmp_path)
    os.utime(file, ns=(1, output.modified))
    assert output.holds(tmp_path), "a quick look sees size and time only"
    assert not output.holds(tmp_path, full=True)
    file.write_bytes(b"abcd")
    assert not output.holds(tmp_path)
    file.unlink()
    assert not output.holds(tmp_path)
