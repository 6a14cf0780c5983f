"""What a person at a terminal meets: help, summaries, sentences, exit codes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path, PureWindowsPath
from typing import Any

import pytest
from click.testing import CliRunner, Result
from fakes import NORTH_UP, FakePredictor, make_card, make_scene

from rs_segment import Scene, Segmentation, registry
from rs_segment.errors import CancelledError
from rs_segment.geobox import GeoBox
from rs_segment.result import ClassArea, without_secrets
from rs_segment_cli import COMMANDS, main
from rs_segment_cli.command import Terminated
from rs_segment_cli.predict import summary

CARD = make_card(resolution_limits=(0.01, 10.0))


@pytest.fixture
def rs_segment(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The command line, run in this process with one more model, "fake"."""
    find = registry.find

    def find_fake(name: Any) -> Any:
        return registry.ModelFolder(Path("fake"), CARD, shipped=True) if str(name) == "fake" else find(name)

    monkeypatch.setattr(registry, "find", find_fake)
    monkeypatch.setattr(registry, "load", lambda folder, compute, tta="none": FakePredictor(CARD))
    return lambda *args: CliRunner().invoke(main, [str(a) for a in args])


def told(result: Result) -> str:
    assert "Traceback" not in result.output
    return str(result.stderr)


def test_help_is_instant_and_loads_nothing_heavy() -> None:
    program = (
        "import sys, time; t = time.perf_counter(); from rs_segment_cli import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "assert time.perf_counter() - t < 5\n"
        "heavy = {'torch', 'rasterio', 'geopandas', 'numpy', 'rs_segment'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for name in COMMANDS:
        assert name in done.stdout


@pytest.mark.parametrize("name", [*COMMANDS, "models list", "models show"])
def test_every_command_has_help(name: str) -> None:
    result = CliRunner().invoke(main, [*name.split(), "--help"])
    assert result.exit_code == 0
    assert len(result.output.splitlines()) > 5


def test_predict_says_what_there_is_and_where(tmp_path: Path, rs_segment: Any) -> None:
    scene = make_scene(tmp_path / "scene.tif")
    result = rs_segment("predict", scene, "--model", "fake", "--tile", 32)
    assert result.exit_code == 0, result.output
    assert result.stdout == ""
    summary = told(result)
    assert "class 2" in summary
    assert " ha " in summary
    assert "scene_classes.tif" in summary
    assert {p.name for p in tmp_path.iterdir()} == {
        "scene.tif",
        "scene_classes.tif",
        "scene_classes.tif.aux.xml",
        "scene_classes.qml",
        "scene_classes.gpkg",
    }
    assert (
        rs_segment("predict", scene, "-o", tmp_path / "b.tif", "-m", "fake", "--tile", 32, "--confidence").exit_code
        == 0
    )
    assert (tmp_path / "b_confidence.qml").exists()


def test_json_is_the_only_thing_on_stdout(tmp_path: Path, rs_segment: Any) -> None:
    scene = make_scene(tmp_path / "scene.tif")
    result = rs_segment("predict", scene, "-o", tmp_path, "-m", "fake", "--tile", 32, "--json", "--progress", "jsonl")
    found = json.loads(result.stdout)
    assert found["device"] == "cpu"
    assert sum(a["pixels"] for a in found["areas"]) == 61 * 47
    lines = [json.loads(line) for line in result.stderr.splitlines()]
    assert lines[-1]["done"] == lines[-1]["total"] == 61 * 47


def test_the_progress_bar_shows_stage_speed_and_time_left(tmp_path: Path, rs_segment: Any) -> None:
    scene = make_scene(tmp_path / "scene.tif", (300, 300))
    shown = told(rs_segment("predict", scene, "-m", "fake", "--tile", 32, "--progress", "bar"))
    assert "segment" in shown
    assert "px/s" in shown
    assert "left" in shown


@pytest.mark.parametrize(
    ("options", "code", "sentence"),
    [
        (["nowhere.tif"], 4, "does not exist"),
        ([""], 2, "it is empty"),
        (["scene.tif", "--bidx", "²,1,3"], 4, "no band ²"),
        (["scene.tif", "--bidx", "7,1,2"], 4, "no band 7"),
        (["scene.tif", "--bidx", "1"], 4, "reads 3"),
        (["scene.tif", "--tile", "33"], 2, "multiples"),
        (["scene.tif", "--overlap", "7"], 2, "multiples"),
        (["scene.tif", "--aoi", "1,2,3,4"], 4, "does not meet"),
        (["scene.tif", "--aoi", "nowhere.gpkg"], 4, "nowhere.gpkg"),
        (["scene.tif", "--rescale", "5"], 2, "2 are needed"),
        (["scene.tif", "-o", "missing/map.tif"], 1, "no folder"),
        (["scene.tif", "-o", "scene.tif"], 2, "the scene itself"),
        (["scene.tif", "--model", "dubai-landcofer"], 4, "there is no model"),
        (["scene.tif", "--model", "net.pth"], 4, "can run code"),
        (["scene.tif", "--model", "."], 4, "no model folder"),
        (["four.tif"], 4, "--bidx 1,2,3"),
        (["deep.tif"], 4, "--rescale"),
        (["coarse.tif"], 4, "--resolution"),
    ],
)
def test_bad_input_ends_in_a_sentence_and_an_exit_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rs_segment: Any, options: list[str], code: int, sentence: str
) -> None:
    from affine import Affine

    monkeypatch.chdir(tmp_path)
    make_scene(tmp_path / "scene.tif")
    make_scene(tmp_path / "four.tif", bands=4, photometric="MINISBLACK")
    make_scene(tmp_path / "deep.tif", dtype="uint16")
    make_scene(tmp_path / "coarse.tif", transform=Affine(30, 0, 300000, 0, -30, 2800000))
    before = {p.name for p in tmp_path.iterdir()}
    result = rs_segment("predict", *(["--model", "fake"] if "--model" not in options else []), *options)
    assert result.exit_code == code, result.output
    assert sentence in told(result)
    assert {p.name for p in tmp_path.iterdir()} == before


def test_results_that_are_there_are_kept(tmp_path: Path, rs_segment: Any) -> None:
    scene = make_scene(tmp_path / "scene.tif")
    assert rs_segment("predict", scene, "-m", "fake", "--tile", 32).exit_code == 0
    refused = rs_segment("predict", scene, "-m", "fake", "--tile", 32)
    assert refused.exit_code == 4
    assert "--overwrite" in told(refused)
    assert rs_segment("predict", scene, "-m", "fake", "--tile", 32, "--overwrite").exit_code == 0


def test_an_unexpected_error_is_one_sentence_and_a_traceback_only_on_demand(
    tmp_path: Path, rs_segment: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: Any) -> Any:
        raise ZeroDivisionError("by chance")

    monkeypatch.setattr(registry, "load", fail)
    scene = make_scene(tmp_path / "scene.tif")
    result = rs_segment("predict", scene, "-m", "fake")
    assert result.exit_code == 1
    assert "--debug" in told(result)
    assert isinstance(rs_segment("predict", scene, "-m", "fake", "--debug").exception, ZeroDivisionError)


@pytest.mark.parametrize(("error", "code"), [(KeyboardInterrupt(), 130), (CancelledError(), 130), (Terminated(), 143)])
@pytest.mark.parametrize("kept", [False, True])
def test_an_interrupted_command_promises_only_what_is_kept(
    tmp_path: Path, rs_segment: Any, monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int, kept: bool
) -> None:
    def fail(*args: Any) -> Any:
        error.kept = kept  # type: ignore[attr-defined]
        raise error

    monkeypatch.setattr(registry, "load", fail)
    result = rs_segment("predict", make_scene(tmp_path / "scene.tif"), "-m", "fake")
    assert result.exit_code == code
    assert ("--resume" in told(result)) == kept
    assert told(result).count("stopped") == 1


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_a_termination_is_told_once(tmp_path: Path, rs_segment: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "load", lambda *args: signal.raise_signal(signal.SIGTERM))
    result = rs_segment("predict", make_scene(tmp_path / "scene.tif"), "-m", "fake")
    assert result.exit_code == 143
    assert told(result) == "Error: stopped\n"


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX pipes")
def test_a_reader_that_has_heard_enough_is_no_error() -> None:
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "rs_segment_cli", "models", "show", "dubai-landcover"]
    done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True)
    os.close(write)
    assert done.stderr == ""


def test_an_address_is_told_without_what_signs_it() -> None:
    box = GeoBox((2, 2), NORTH_UP)
    areas = (ClassArea(0, "water", 4, None, 1.0),)
    for source in (
        "https://me:secret@example.org/a/scene.tif?sig=secret/x",
        "/vsicurl/https://example.org/a/scene.tif?sig=secret",
    ):
        found = Segmentation(source, "fake", Path("c.tif"), None, None, None, box, areas, 0, 1.0, "cpu", "fp32")
        assert summary(found).startswith("scene.tif, fake")
        assert found.to_dict()["scene"].endswith("example.org/a/scene.tif")
        assert "secret" not in summary(found) + json.dumps(found.to_dict())
    assert without_secrets("odd?name@here.tif") == "odd?name@here.tif"


def test_a_scene_on_windows_is_named_by_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Scene.open(make_scene(tmp_path / "scene.tif")) as scene:
        assert scene.name == "scene.tif"
        monkeypatch.setattr("rs_segment.scene.Path", PureWindowsPath)
        assert replace(scene, source="C:\\maps\\dubai.tif").name == "dubai.tif"
        assert replace(scene, source="https://example.org/a/dubai.tif?sig=1/2").name == "dubai.tif"


def test_info_tells_what_a_scene_is_and_whether_a_model_fits(tmp_path: Path, rs_segment: Any) -> None:
    scene = make_scene(tmp_path / "scene.tif", nodata=0)
    result = rs_segment("info", scene, "--model", "fake")
    assert result.exit_code == 0
    for part in ("47 x 61", "EPSG:32640", "nodata 0", "north-up", "0.5 x 0.5 m", "fake fits"):
        assert part in result.stdout
    four = make_scene(tmp_path / "four.tif", bands=4, photometric="MINISBLACK")
    refused = rs_segment("info", four, "--model", "fake", "--json")
    assert refused.exit_code == 4
    assert json.loads(refused.stdout)["model"]["fits"] is False
    assert rs_segment("info", four, "--model", "fake", "--bidx", "1,2,3").exit_code == 0
    odd = rs_segment("info", four, "--model", "fake", "--bidx", "²,2,3")
    assert odd.exit_code == 4
    assert "no band ²" in told(odd)
    empty = rs_segment("info", "")
    assert empty.exit_code == 2
    assert "it is empty" in told(empty)


def test_models_and_doctor_answer(rs_segment: Any) -> None:
    listed = rs_segment("models", "list")
    assert listed.exit_code == 0
    assert "dubai-landcover" in listed.stdout
    shown = rs_segment("models", "show", "dubai-landcover")
    assert "Vegetation" in shown.stdout
    assert json.loads(rs_segment("models", "show", "dubai-landcover", "--json").stdout)["type"] == "Feature"
    assert rs_segment("models", "show", "nothing").exit_code == 4
    healthy = rs_segment("doctor", "--json")
    assert healthy.exit_code == 0, healthy.output
    assert "cpu" in " ".join(json.loads(healthy.stdout)["devices"])


def test_it_is_a_command_of_rio(tmp_path: Path) -> None:
    from rasterio.rio.main import main_group

    result = CliRunner().invoke(main_group, ["segment", str(tmp_path / "nowhere.tif")])
    assert result.exit_code == 4, result.output
    assert "does not exist" in result.stderr


def test_the_shell_completes_commands_and_options() -> None:
    env = {**os.environ, "_RS_SEGMENT_COMPLETE": "bash_complete", "COMP_WORDS": "rs-segment pr", "COMP_CWORD": "1"}
    command = [str(Path(sys.executable).with_name("rs-segment"))]
    assert "predict" in subprocess.run(command, env=env, capture_output=True, text=True).stdout
    env |= {"COMP_WORDS": "rs-segment predict --mod", "COMP_CWORD": "2"}
    assert "--model" in subprocess.run(command, env=env, capture_output=True, text=True).stdout
