"""Scenes on a server that is slow, breaks off or refuses: tried again or named, never a hang."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.request import urlopen

import pytest
from archives import HERE, run
from archives import fake_model as fake_model
from fakes import make_scene

from rs_segment import Query, Source, find_scenes, scene
from rs_segment.archive import fingerprint, network

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """(address of a web server that misbehaves as its paths say, its folder with a.tif)."""
    folder = tmp_path_factory.mktemp("web")
    make_scene(folder / "a.tif", (300, 400), tiled=True, blockxsize=128, blockysize=128, compress="deflate")
    command = [sys.executable, str(HERE / "web_server.py"), str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:
        assert server.stdout is not None
        yield f"http://127.0.0.1:{server.stdout.readline().strip()}", folder
        server.kill()


@pytest.fixture
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Time limits as short as a test wants them."""
    for name, value in (("LOW_SPEED_TIME", 1), ("MAX_RETRY", 1), ("RETRY_DELAY", 0.05)):
        monkeypatch.setitem(scene.GDAL_OPTIONS, f"GDAL_HTTP_{name}", value)
    monkeypatch.setenv("GDAL_HTTP_TIMEOUT", "2")
    monkeypatch.setattr(fingerprint, "SECONDS", 0.5)
    monkeypatch.setattr(network, "FORGET_SECONDS", 1)


@pytest.mark.usefixtures("hurry")
def test_a_server_may_misbehave(web: tuple[str, Path], tmp_path: Path) -> None:
    address, folder = web
    moods = ["ok", "503x4", "cut2", "404", "403", "416", "500", "norange", "hang", "drip"]
    sources = [Source(mood, f"{address}/{mood}/a.tif") for mood in moods]
    started = time.monotonic()
    report = run(sources, tmp_path / "out", attempts=3)
    assert time.monotonic() - started < 60
    failed = {r.id: r for r in report.failed}
    assert failed.keys() == {"404", "403", "416", "500", "norange", "hang", "drip"}
    attempts = {name: r.attempts for name, r in failed.items()}
    assert attempts == {"404": 1, "403": 1, "norange": 1, "416": 3, "500": 3, "hang": 3, "drip": 3}
    assert "404" in failed["404"].message
    done = {r.id: r for r in report.records if r.status == "done"}
    assert done["ok"].attempts == 1
    assert done["503x4"].attempts > 1
    assert done["cut2"].attempts > 1
    rasters = {(tmp_path / "out" / f"{name}_classes.tif").read_bytes() for name in done}
    assert len(rasters) == 1
    with urlopen(f"{address}/asked/500") as answer:
        asked = int(answer.read())
    assert asked >= 3, "a failure that GDAL remembers is no attempt"
    known = fingerprint.of_files([sources[0].location])
    assert known[0].keys() == {"name", "etag", "bytes"}
    assert not fingerprint.differ(known, fingerprint.of_files([f"{address}/ok/a.tif?sig=other"]))
    make_scene(folder / "a.tif", (301, 400))
    assert fingerprint.differ(known, fingerprint.of_files([sources[0].location]))
    assert not fingerprint.differ(known, [{"name": known[0]["name"]}]), "a server that is away proves nothing"


@pytest.mark.parametrize("scheme", ["s3", "gs", "az"])
def test_stores_of_objects_are_read_where_gdal_is_told_they_are(
    web: tuple[str, Path], tmp_path: Path, scheme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    address, folder = web
    make_scene(folder / f"{scheme}.tif", (300, 400))  # a name of its own: GDAL remembers what an address held
    settings = {
        "s3": {"AWS_S3_ENDPOINT": address.removeprefix("http://"), "AWS_HTTPS": "NO", "AWS_VIRTUAL_HOSTING": "FALSE"},
        "gs": {"CPL_GS_ENDPOINT": f"{address}/"},
        "az": {"AZURE_STORAGE_CONNECTION_STRING": f"AccountName=a;AccountKey=YWJj;BlobEndpoint={address}"},
    }
    for name, value in settings[scheme].items():
        monkeypatch.setenv(name, value)
    for name in ("AWS_NO_SIGN_REQUEST", "GS_NO_SIGN_REQUEST"):
        monkeypatch.setenv(name, "YES")
    there = list(find_scenes([f"{scheme}://ok/{scheme}.tif"], Query()))
    gone = Source("gone", there[0].location.replace("/ok/", "/404/"))
    report = run([*there, gone], tmp_path / "out", attempts=1)
    assert [record.id for record in report.failed] == ["gone"]
    run([Source("web", f"{address}/ok/{scheme}.tif")], tmp_path / "web")
    stored, plain = tmp_path / "out" / f"{scheme}_classes.tif", tmp_path / "web" / "web_classes.tif"
    assert stored.read_bytes() == plain.read_bytes()
