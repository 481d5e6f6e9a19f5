"""Plug-ins and devices: found by name, refused clearly."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgepose import plugins
from edgepose.devices import AUTO, Device, detect, device_names, parse_device
from edgepose.errors import DeviceError, PluginError


def test_onnxruntime_is_installed_and_available() -> None:
    assert plugins.runtime("onnxruntime").probe().available


@pytest.mark.parametrize("name", ["onnxruntim", "nosuch", ""])
def test_an_unknown_runtime_lists_the_installed_ones(name: str) -> None:
    with pytest.raises(PluginError, match=r"Installed runtimes: .*onnxruntime"):
        plugins.runtime(name)


def test_an_unknown_converter_is_refused() -> None:
    with pytest.raises(PluginError, match="There is no converter 'caffe'"):
        plugins.converter("caffe")


def test_every_installed_plugin_can_be_probed() -> None:
    for name in plugins.runtimes():
        runtime = plugins.runtime(name)
        probe = runtime.probe()
        assert runtime.name == name
        assert probe.looked_for
        assert probe.available or probe.remedy
    for name in plugins.converters():
        probe = plugins.converter(name).probe()
        assert probe.available or probe.remedy


def plugin_package(folder: Path, body: str) -> None:
    """A third party's installed package with a runtime called ``thirdparty``."""
    (folder / "thirdparty.py").write_text(textwrap.dedent(body))
    info = folder / "thirdparty-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: thirdparty\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[edgepose.runtimes]\nthirdparty = thirdparty:Engine\n")


@pytest.mark.parametrize(
    "body",
    ["raise RuntimeError('broken at import')", "x = 1", "class Engine:\n    def __init__(self): 1/0"],
    ids=["fails at import", "has no such class", "fails when made"],
)
def test_a_broken_plugin_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str) -> None:
    plugin_package(tmp_path, body)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "thirdparty", raising=False)
    assert "thirdparty" in plugins.runtimes()
    with pytest.raises(PluginError, match=r"'thirdparty' \(thirdparty:Engine\) cannot be loaded"):
        plugins.runtime("thirdparty")


def test_plugins_are_not_imported_before_they_are_used(tmp_path: Path) -> None:
    plugin_package(tmp_path, "raise SystemExit('imported too early')")
    code = "from edgepose import plugins; print(list(plugins.runtimes()))"
    out = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(tmp_path)!r}); {code}"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "thirdparty" in out.stdout


def test_import_loads_nothing_heavy() -> None:
    code = "import sys, json, edgepose, edgepose.cli; print(json.dumps(sorted(sys.modules)))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(json.loads(out.stdout))
    assert not loaded & {"numpy", "cv2", "onnx", "onnxruntime", "rich", "edgepose_runtimes", "edgepose_converters"}


@pytest.mark.parametrize("name", device_names())
def test_names_parse_with_and_without_index(name: str) -> None:
    assert parse_device(name) == Device(name, 0)
    assert parse_device(f" {name.upper()}:3 ") == Device(name, 3)
    assert str(Device(name, 3)) == f"{name}:3"


@given(st.text(max_size=20))
def test_any_text_is_a_device_or_a_device_error(text: str) -> None:
    try:
        name = parse_device(text).name
    except DeviceError as error:
        name = AUTO if error.hint else "an error without a hint"
    assert name in (AUTO, *device_names())


def test_detection_says_what_it_looked_for() -> None:
    for name in device_names():
        seen = detect(name)
        assert seen.looked_for
        assert bool(seen.evidence) == seen.found
        assert seen.found or seen.remedy
    assert detect("cpu").found
