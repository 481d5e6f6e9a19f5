"""MindIR for Ascend through MindSpore Lite's converter: what it is told.  No Ascend device has run what comes of it."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from ascend_machine import network
from edgepose_converters.mindir import MindIrConverter
from edgepose_converters.mindir.ascend import chosen

from edgepose.errors import ConversionError

#: Takes the documented arguments and sections only, and says what it was told.
CONVERTER = """
import configparser, json, sys
from pathlib import Path

FLAGS = {"fmk", "modelFile", "outputFile", "weightFile", "configFile", "saveType", "optimize", "inputShape", "fp16",
         "inputDataFormat", "inputDataType", "outputDataType", "encryption", "device"}
SECTIONS = {
    "ascend_context": {"input_format", "input_shape", "dynamic_dims", "precision_mode", "op_select_impl_mode",
                       "output_type", "fusion_switch_config_file_path", "insert_op_config_file_path", "aoe_mode",
                       "plugin_custom_ops", "provider"},
    "acl_init_options": {"ge.socVersion"},
}
told = dict(a[2:].split("=", 1) for a in sys.argv[1:])
assert set(told) <= FLAGS, told
assert told["fmk"] == "ONNX" and told["saveType"] == "MINDIR" and Path(told["modelFile"]).is_file()
assert told["optimize"] in ("none", "general", "gpu_oriented", "ascend_oriented")
config = configparser.ConfigParser()
config.optionxform = str
if "configFile" in told:
    assert config.read(told["configFile"])
for section in config.sections():
    assert set(config[section]) <= SECTIONS[section], section
modes = "enforce_fp32 preferred_fp32 enforce_fp16 enforce_origin preferred_optimal".split()
if "ascend_context" in config:
    assert config["ascend_context"]["precision_mode"] in modes
Path("FOLDER/told.json").write_text(json.dumps([told, {s: dict(config[s]) for s in config.sections()}]))
Path(told["outputFile"] + ".mindir").write_bytes(b"")
"""


@pytest.fixture
def converter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A stand-in of ``converter_lite`` on the path; gives the folder where it says what it was told."""
    program = tmp_path / "bin" / "converter_lite"
    program.parent.mkdir()
    program.write_text(f"#!{sys.executable}\n{CONVERTER.replace('FOLDER', str(tmp_path))}")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    (tmp_path / "out").mkdir()
    return tmp_path


@pytest.mark.parametrize(("precision", "mode"), [("fp32", "enforce_origin"), ("fp16", "enforce_fp16")])
def test_what_the_converter_is_told(converter: Path, precision: str, mode: str) -> None:
    options = {"via": "mslite", "optimize": "ascend_oriented", "soc_version": "Ascend310"}
    result = MindIrConverter().convert(network(), converter / "out", precision, options)
    assert sorted(p.name for p in (converter / "out").iterdir()) == sorted(result.files)
    assert any("ot run on hardware" in note for note in result.notes)
    told, sections = json.loads((converter / "told.json").read_text())
    assert (told["optimize"], told["inputDataFormat"]) == ("ascend_oriented", "NCHW")
    assert sections == {
        "ascend_context": {
            "input_format": "NCHW",
            "input_shape": "image:[1,3,64,48]",
            "precision_mode": mode,
            "output_type": "FP32",
        },
        "acl_init_options": {"ge.socVersion": "Ascend310"},
    }


def test_without_ascend_nothing_of_it_is_told(converter: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for variable in ("EDGEPOSE_MSLITE_PYTHON", "EDGEPOSE_MINDSPORE_PYTHON"):
        monkeypatch.setenv(variable, "/nonexistent/python")
    MindIrConverter().convert(network(), converter / "out", "fp32", {"via": "mslite"})
    told, sections = json.loads((converter / "told.json").read_text())
    assert told["optimize"] == "none"
    assert "configFile" not in told
    assert sections == {}


@pytest.mark.parametrize(
    ("options", "precision", "words"),
    [
        ({"optimize": "fast", "via": "mslite"}, "fp32", "'optimize' is 'fast'"),
        ({"optimize": "ascend_oriented"}, "fp32", "of MindSpore Lite's converter"),
        ({"soc_version": "Ascend310"}, "fp32", "compiled for Ascend"),
        ({"optimize": "ascend_oriented", "via": "mslite", "soc_version": "310"}, "fp32", "family of Ascend 310"),
        ({"optimize": "ascend_oriented", "via": "mslite"}, "int8", "on a host with CANN"),
        ({"via": "mslite"}, "fp16", "ignores half precision"),
    ],
    ids=str,
)
def test_options_are_checked(tmp_path: Path, options: dict[str, Any], precision: str, words: str) -> None:
    with pytest.raises(ConversionError, match=words):
        MindIrConverter().convert(network(), tmp_path, precision, options)


def test_names_that_cannot_stand_in_the_configuration() -> None:
    target = chosen({"optimize": "ascend_oriented"}, "mslite", "fp16")
    assert target is not None
    assert "[acl_init_options]" not in target.config({"image": (1, 3, 4, 4)})
    for name in ("a\nb", "x]", "a;b", ""):
        with pytest.raises(ConversionError, match="cannot stand"):
            target.config({name: (1, 3, 4, 4)})


@pytest.mark.conformance
def test_the_converter_itself_names_what_it_lacks_of_cann(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """MindSpore Lite 2.0.0 as installed; this host has no CANN."""
    from edgepose.interpreters import find_interpreter

    if find_interpreter("mindspore_lite", "EDGEPOSE_MSLITE_PYTHON") is None:
        pytest.skip("MindSpore Lite is not here: EDGEPOSE_MSLITE_PYTHON names a Python that has it")
    options = {"via": "mslite", "optimize": "ascend_oriented"}
    with pytest.raises(ConversionError, match="does not convert the graph") as caught:
        MindIrConverter().convert(network(), tmp_path, "fp16", options)
    assert "is a part of CANN" in str(caught.value)
    assert list(tmp_path.iterdir()) == []
