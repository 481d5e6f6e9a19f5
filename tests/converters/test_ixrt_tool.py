"""Building with ixrtexec, against a stand-in that takes its arguments and says what it says."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from edgepose_converters.ixrt import IxRtConverter
from edgepose_converters.ixrt_log import failure
from edgepose_runtimes.ixrt import IxRt
from iluvatar_machine import environment, head, iluvatar, ixrtexec
from ixrt_requests import MR_V100, build, int8, single
from nvidia_machine import checked
from target_networks import distance, picture, small

from edgepose.errors import ConversionError
from edgepose.graph.running import Runner


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A machine with an MR-V100 and ixRT 1.0."""
    with checked(iluvatar(monkeypatch)) as found:
        yield found


@pytest.fixture
def nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """No ixRT under any name, and no tool."""
    for name in ("ixrt", "tensorrt"):
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setenv("PATH", "/usr/bin:/bin")


def alive(process: int) -> bool:
    """Whether it runs still; who has ended and waits to be noticed does not."""
    try:
        os.kill(process, 0)
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (OSError, IndexError):
        return False


@pytest.mark.parametrize(
    ("old", "precision", "told"),
    [
        (False, "fp16", ["fp16"]),
        (False, "int8", ["int8", "fp16"]),
        (True, "int8", ["int8"]),
        (True, "fp32", ["fp32"]),
    ],
)
def test_it_builds(
    machine: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, old: bool, precision: str, told: list[str]
) -> None:
    notes = ixrtexec(monkeypatch, tmp_path / "tool", old=old)
    (tmp_path / "bundle").mkdir()
    model = int8(small()) if precision == "int8" else small()
    engine, said = build(model, tmp_path / "bundle", precision, via="ixrtexec")
    assert "Built, and run once, by ixrtexec." in said
    given = json.loads((notes / "arguments.json").read_text())
    assert given[given.index("--precision") + 1 :] == told
    assert "--min_shape=image:1x3x64x48" in given
    assert "--max_shape=image:8x3x64x48" in given
    built = head(engine)
    assert built["flags"] == sorted(t.upper() for t in told if t != "fp32")
    # The Q/DQ graph is not what opset 11 has; the tool leaves it as it is.
    assert built["opset"] == (13 if precision == "int8" else 11)
    assert any("leaves those that it cannot" in n for n in said) == (precision == "int8")
    session = IxRt().open(engine, MR_V100, {})
    feeds = picture(model, batch=3)
    assert distance(Runner(model.graph).run(feeds), session.run(feeds)) < 5e-3
    session.close()


def test_where_there_is_nothing_but_the_tool(nothing: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    ixrtexec(monkeypatch, tmp_path / "tool")
    probe = IxRtConverter().probe()
    assert probe.available
    assert f"{tmp_path / 'tool' / 'bin' / 'ixrtexec'}, with the option via=ixrtexec" in probe.found
    (tmp_path / "bundle").mkdir()
    engine, notes = build(small(), tmp_path / "bundle", "fp16", via="ixrtexec")
    assert head(engine)["flags"] == ["FP16"]
    # Nobody knows here what the plan is bound to, and nothing is claimed.
    assert not engine.with_name("model.engine.json").exists()
    assert any("is not known here" in n for n in notes)


def test_without_the_tool(nothing: None, tmp_path: Path) -> None:
    with pytest.raises(ConversionError, match="ixrtexec is not here"):
        build(small(), tmp_path, via="ixrtexec")


@pytest.mark.parametrize(
    ("settings", "options", "message"),
    [
        ({"old": True}, {"strongly_typed": "on"}, "has no option --strongly_typed"),
        ({"machine": {"driver": False}}, {}, "factory function returned nullptr"),
        ({"fail": "RuntimeError: CUDA error code=2(b'cudaErrorMemoryAllocation')"}, {}, "too little memory"),
    ],
)
def test_its_failures_are_told(
    machine: Any,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    settings: dict[str, Any],
    options: dict[str, Any],
    message: str,
) -> None:
    ixrtexec(monkeypatch, tmp_path / "tool", **settings)
    (tmp_path / "bundle").mkdir()
    with pytest.raises(ConversionError, match=message):
        build(small(), tmp_path / "bundle", "fp16", via="ixrtexec", **options)
    assert list((tmp_path / "bundle").iterdir()) == []


def test_an_operator_that_its_parser_does_not_take(
    machine: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    ixrtexec(monkeypatch, tmp_path / "tool")
    (tmp_path / "bundle").mkdir()
    with pytest.raises(ConversionError, match="parser does not take the graph because of the operator Det"):
        build(single("Det"), tmp_path / "bundle", via="ixrtexec")


def test_it_ends_with_its_children_when_the_conversion_is_interrupted(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    notes = ixrtexec(monkeypatch, tmp_path / "tool", hang=120)
    (tmp_path / "bundle").mkdir()
    (tmp_path / "model.onnx").write_bytes(small().to_bytes())
    code = f"""
from pathlib import Path
from edgepose.model import PoseModel
from edgepose_converters.ixrt import IxRtConverter
model = PoseModel.from_onnx(Path({str(tmp_path / "model.onnx")!r}))
IxRtConverter().convert(model, Path({str(tmp_path / "bundle")!r}), "fp32", {{"via": "ixrtexec"}})
"""
    ours = subprocess.Popen([sys.executable, "-c", code], env=environment(), stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 60
        while not (notes / "processes").exists() or not (notes / "processes").read_text():
            assert time.monotonic() < deadline
            time.sleep(0.1)
        theirs = [int(p) for p in (notes / "processes").read_text().split()]
        ours.send_signal(signal.SIGINT)
        ours.wait(30)
        while any(alive(p) for p in theirs):
            assert time.monotonic() < deadline
            time.sleep(0.1)
    finally:
        ours.kill()
        ours.wait()
    assert list((tmp_path / "bundle").iterdir()) == []


@pytest.mark.parametrize(
    ("code", "said", "message", "hint"),
    [
        (None, "", "took too long", "ixsmi"),
        (
            127,
            "ImportError: libixrt.so: cannot open shared object file: No such file",
            "libixrt.so",
            "LD_LIBRARY_P",
        ),
        (1, "ModuleNotFoundError: No module named 'tabulate'", "lacks the module tabulate", "pip install tabulate"),
        (2, "ixrtexec: error: unrecognized arguments: --warmUp=0", "unrecognized arguments: --warmUp=0", "via"),
        (1, "RuntimeError: CUDA error code=100(b'cudaErrorNoDevice')", "cudaErrorNoDevice", "ixsmi -L"),
        (1, "x\nException: Failed to build IxRT engine, please use -v", "does not find a way", ""),
        (1, "a\nValueError: unsupported precision fp4", "ValueError: unsupported precision fp4", ""),
        (-9, "", "was killed", ""),
        (-11, "", "signal 11", ""),
        (3, "", "exit code 3", ""),
        (0, "fps: 1.0 with batchsize 1", "it wrote no engine", ""),
    ],
)
def test_its_log_becomes_a_cause(code: int | None, said: str, message: str, hint: str) -> None:
    error = failure(code, said, "ixrtexec")
    assert message in error.message
    assert hint in (error.hint or "")
