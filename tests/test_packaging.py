"""The house is in order: layers, wheel, README, licences."""

from __future__ import annotations

import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def test_imports_run_downward() -> None:
    lint = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([str(lint), "--no-cache"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_plugin_imports_nothing_of_the_engine() -> None:
    heavy = re.compile(r"^\s*(from|import) (rs_segment|torch|numpy|rasterio)", re.M)
    for path in (ROOT / "qgis_plugin").rglob("*.py"):
        assert not heavy.search(path.read_text("utf-8")), path


def test_the_wheel_holds_what_it_should_and_nothing_else(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "pip", "wheel", str(ROOT), "--no-deps", "-q", "-w", str(tmp_path)]
    done = subprocess.run(build, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    names = zipfile.ZipFile(next(tmp_path.glob("*.whl"))).namelist()
    assert {n.split("/")[0] for n in names if ".dist-info" not in n} == {
        "rs_segment",
        "rs_segment_cli",
        "rs_segment_models",
    }
    for wanted in ("model.json", "model.safetensors", "config.json", "README.md"):
        assert f"rs_segment_models/dubai-landcover/{wanted}" in names
    assert "rs_segment/py.typed" in names


def test_the_readme_has_its_two_commands() -> None:
    blocks = re.findall(r"^```bash\n(.*?)^```", (ROOT / "README.md").read_text("utf-8"), re.S | re.M)
    assert "rs-segment predict examples/" in blocks[0]
    assert "pytest" in blocks[1]
    for block in blocks[:2]:
        assert "pip install" in block


def test_pictures_and_links_of_the_documents_are_there() -> None:
    for document in ROOT.glob("*.md"):
        for link in re.findall(r"\]\((?!https?:|#)([^)#]+)", document.read_text("utf-8")):
            assert (ROOT / link).exists(), f"{document.name} points to {link}"


@pytest.mark.parametrize(("path", "words"), [("LICENSE", "MIT License"), ("qgis_plugin/LICENSE", "GNU GENERAL PUBLIC")])
def test_licences(path: str, words: str) -> None:
    assert words in (ROOT / path).read_text("utf-8")


def test_nothing_large_is_in_the_tree() -> None:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    large = {f: (ROOT / f).stat().st_size for f in listed.splitlines() if (ROOT / f).exists()}
    assert not {f: size for f, size in large.items() if size > (16e6 if f.endswith(".safetensors") else 3e6)}
