"""The plugin as the store and other QGIS see it: the zip, what is in it, and every name that it uses of Qt and QGIS."""

from __future__ import annotations

import ast
import importlib
import json
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from configparser import ConfigParser
from pathlib import Path
from typing import Any

import pytest
from test_qgis import environment, python

__all__ = ["python"]

ROOT = Path(__file__).resolve().parents[1]
PLUGIN = ROOT / "qgis_plugin"
FOLDER = "rs_segment_qgis"
NEEDED = (
    *("name", "description", "about", "version", "qgisMinimumVersion", "author", "email", "homepage", "tracker"),
    *("repository", "category", "icon", "tags", "changelog"),
)
FORBIDDEN_MODULES = {
    *("subprocess", "urllib", "socket", "http", "requests", "pickle", "ctypes", "importlib", "distutils"),
    *("numpy", "torch", "rasterio", "osgeo", "pkg_resources", "PyQt5", "PyQt6", "rs_segment", "rs_segment_cli"),
}
FORBIDDEN_CALLS = {"exec", "eval", "compile", "print", "exec_", "__import__"}
LATER_THAN_39 = {"slots", "kw_only", "strict"}

# Imports all modules of the plugin, loads it without windows, and looks up what the sources name.
SCRIPT = """
import importlib, json, os, sys

answer, place, *rest = sys.argv[1:]
chains = json.loads(rest[0])
sys.path[:0] = [place, "/usr/share/qgis/python/plugins"]
from qgis.core import QgsApplication

app = QgsApplication([], False)
app.initQgis()


def looked_up(chain):
    value = importlib.import_module(chain[0])
    for name in chain[1:]:
        value = getattr(value, name, None)
    enum = isinstance(value, int) and type(value) not in (int, bool)
    return None if value is None else "enum" if enum else "other"


def ids():
    return [p.id() for p in QgsApplication.processingRegistry().providers()]


loaded = set(sys.modules)
modules = [n[:-3] for n in sorted(os.listdir(os.path.join(place, "rs_segment_qgis"))) if n.endswith(".py")]
for name in modules:
    importlib.import_module(f"rs_segment_qgis.{name}" if name != "__init__" else "rs_segment_qgis")
import rs_segment_qgis

found = {"chains": [looked_up(c) for c in chains], "heavy": sorted({"numpy", "torch"} & set(sys.modules) - loaded)}
plugin = rs_segment_qgis.classFactory(None)
found["before"] = ids()
plugin.initProcessing()
provider = QgsApplication.processingRegistry().providerById("rssegment")
found["algorithms"] = [
    {
        "name": a.name(),
        "group": a.group(),
        "icon": os.path.exists(a.svgIconPath()),
        "tags": len(a.tags()),
        "help": a.shortHelpString(),
        "summary": a.shortDescription(),
        "undescribed": [d.name() for d in a.parameterDefinitions() if len(d.help()) < 10],
        "parameters": [d.description() for d in a.parameterDefinitions()],
    }
    for a in provider.algorithms()
]
plugin.unload()
found["after"] = ids()
with open(answer, "w") as target:
    json.dump(found, target)
os._exit(0)
"""


def sources() -> dict[str, ast.Module]:
    """The modules that QGIS gets, by name."""
    kept = [path for path in sorted(PLUGIN.glob("*.py")) if path.name != "package.py"]
    return {path.name: ast.parse(path.read_text("utf-8"), feature_version=(3, 9)) for path in kept}


def imported(tree: ast.AST) -> Iterator[tuple[str, str]]:
    """(module, name) of all that a module imports; the name of a whole module is ""."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (("." * node.level + (node.module or ""), alias.name) for alias in node.names)


def chain(node: ast.Attribute) -> list[str]:
    """The names in ``A.B.C``, or nothing where it does not begin with a name."""
    names, inner = [node.attr], node.value
    while isinstance(inner, ast.Attribute):
        names, inner = [inner.attr, *names], inner.value
    return [inner.id, *names] if isinstance(inner, ast.Name) else []


def used(package: str) -> set[tuple[str, ...]]:
    """All that the plugin names of a package, as (module, class, attribute, ...)."""
    found: set[tuple[str, ...]] = set()
    for tree in sources().values():
        names = {name: module for module, name in imported(tree) if module.startswith(package)}
        found |= {(module, name) for name, module in names.items()}
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and (parts := chain(node)) and parts[0] in names:
                found.add((names[parts[0]], *parts))
    return found


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The zip, made as the documents say."""
    target = tmp_path_factory.mktemp("dist") / f"{FOLDER}.zip"
    made = subprocess.run(
        [sys.executable, str(PLUGIN / "package.py"), str(target)], capture_output=True, text=True, check=True
    )
    assert made.stdout.strip() == str(target)
    return target


@pytest.fixture(scope="module")
def unpacked(package: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("plugins")
    zipfile.ZipFile(package).extractall(place)
    return place


@pytest.fixture(scope="module")
def told(python: Path, unpacked: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the real QGIS says of the plugin."""
    home = tmp_path_factory.mktemp("home")
    answer, chains = home / "answer.json", sorted(used("qgis."))
    done = subprocess.run(
        [python, "-c", SCRIPT, answer, unpacked, json.dumps(chains)],
        env=environment(home, python),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert answer.exists(), done.stderr
    found: dict[str, Any] = json.loads(answer.read_text())
    found["chains"] = dict(zip(chains, found["chains"], strict=True))
    return found


def metadata() -> dict[str, str]:
    parser = ConfigParser(interpolation=None)
    parser.read(PLUGIN / "metadata.txt", encoding="utf-8")
    return dict(parser["general"].items())


def test_the_metadata_say_all_that_the_store_asks_for() -> None:
    found = metadata()
    assert not [key for key in NEEDED if not found.get(key.lower(), "").strip()]
    assert found["hasprocessingprovider"] == "yes"
    assert found["qgisminimumversion"] == "3.22"
    assert tuple(map(int, found["qgismaximumversion"].split("."))) >= (4, 99)
    assert (PLUGIN / found["icon"]).is_file()
    assert re.fullmatch(r"[^@\s]+@[^@\s]+\.[a-z]+", found["email"])
    assert all(found[key].startswith("https://") for key in ("homepage", "tracker", "repository"))


def test_engine_and_plugin_have_one_version() -> None:
    setup = ConfigParser(interpolation=None)
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    version = metadata()["version"]
    assert version == setup["metadata"]["version"]
    assert metadata()["changelog"].startswith(version)


def test_the_zip_is_what_the_store_takes(package: Path) -> None:
    names = zipfile.ZipFile(package).namelist()
    assert package.stat().st_size < 1_000_000
    assert {name.split("/")[0] for name in names} == {FOLDER}
    assert re.fullmatch(r"[A-Za-z][A-Za-z0-9_-]+", FOLDER)
    inside = {name.removeprefix(f"{FOLDER}/") for name in names}
    assert {"LICENSE", "metadata.txt", "__init__.py", "README.md"} <= inside
    assert {Path(name).suffix for name in inside} == {"", ".txt", ".py", ".md", ".svg"}
    assert not [name for name in inside if "__" in name and name != "__init__.py"]
    assert "package.py" not in inside


def test_the_same_sources_give_the_same_zip(package: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    copy.mkdir()
    zipfile.ZipFile(package).extractall(tmp_path)
    (tmp_path / FOLDER / "package.py").write_bytes((PLUGIN / "package.py").read_bytes())
    (tmp_path / FOLDER / "__pycache__").mkdir()
    (tmp_path / FOLDER / "__pycache__" / "old.pyc").write_bytes(b"old")
    subprocess.run([sys.executable, str(tmp_path / FOLDER / "package.py")], capture_output=True, check=True)
    assert (tmp_path / "dist" / f"{FOLDER}.zip").read_bytes() == package.read_bytes()


def test_every_module_and_icon_that_is_named_is_in_the_zip(package: Path) -> None:
    inside = {name.removeprefix(f"{FOLDER}/") for name in zipfile.ZipFile(package).namelist()}
    for name, tree in sources().items():
        for module, what in imported(tree):
            if module.startswith("."):
                assert f"{module[1:] or what}.py" in inside, name
    icons = {i.removeprefix("icons/") for i in inside if i.startswith("icons/")}
    assert icons == {p.name for p in (PLUGIN / "icons").iterdir()}


@pytest.mark.parametrize("name", sources())
def test_nothing_is_used_that_the_store_or_an_old_python_refuses(name: str) -> None:
    tree = sources()[name]
    assert not {module.split(".")[0] for module, _ in imported(tree)} & FORBIDDEN_MODULES
    for node in ast.walk(tree):
        assert not isinstance(node, ast.Assert), f"line {node.lineno}"
        if isinstance(node, ast.Call):
            called = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
            assert called not in FORBIDDEN_CALLS, f"{called} in line {node.lineno}"
            assert not {k.arg for k in node.keywords} & {*LATER_THAN_39, "shell"}, f"line {node.lineno}"


def test_bandit_finds_nothing(unpacked: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "bandit", "-q", "-r", "-f", "json", "--ignore-nosec", str(unpacked)],
        capture_output=True,
        text=True,
    )
    found = json.loads(done.stdout)
    assert [f"{r['filename']}:{r['line_number']} {r['issue_text']}" for r in found["results"]] == []
    assert found["errors"] == []
    assert found["metrics"]["_totals"]["loc"] > 500


def test_every_name_of_qt_is_in_qt_6_too() -> None:
    names = used("qgis.PyQt")
    assert ("qgis.PyQt.QtCore", "QProcess", "ProcessState", "NotRunning") in names
    for module, *rest in sorted(names):
        value: Any = importlib.import_module(module.replace("qgis.PyQt", "PyQt6"))
        for name in rest:
            assert hasattr(value, name), f"{'.'.join(rest)} is not in PyQt6"
            value = getattr(value, name)


@pytest.mark.qgis
def test_every_name_is_in_the_oldest_qgis_and_enums_are_named_with_their_class(told: dict[str, Any]) -> None:
    chains = told["chains"]
    assert [c for c, kind in chains.items() if kind is None] == []
    enums = [c for c, kind in chains.items() if kind == "enum"]
    assert ("qgis.core", "QgsProcessingParameterFile", "Behavior", "Folder") in enums
    assert [c for c in enums if len(c) < 4] == []


@pytest.mark.qgis
def test_the_plugin_comes_and_goes_without_windows(told: dict[str, Any]) -> None:
    assert "rssegment" not in told["before"]
    assert told["after"] == told["before"]
    assert told["heavy"] == []


@pytest.mark.qgis
def test_every_algorithm_explains_itself(told: dict[str, Any]) -> None:
    assert {a["name"] for a in told["algorithms"]} == {
        *("predict", "predictbatch", "polygonize", "evaluate", "train", "classstats"),
        *("modelinfo", "doctor", "setupengine"),
    }
    for algorithm in told["algorithms"]:
        assert algorithm["group"] in {"Class maps", "Accuracy and areas", "Models", "Engine"}
        assert algorithm["icon"], algorithm["name"]
        assert algorithm["tags"] > 3
        assert algorithm["summary"].endswith(".")
        assert algorithm["undescribed"] == []
        for description in algorithm["parameters"]:
            assert f"<h3>{description}</h3>" in algorithm["help"]
