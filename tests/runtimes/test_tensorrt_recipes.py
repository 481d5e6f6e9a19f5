"""Engines that are built on the device, and the software that does it; TensorRT and the GPU are stand-ins."""

from __future__ import annotations

import contextlib
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from edgepose_converters.tensorrt import TensorRtConverter
from edgepose_runtimes.cuda import Gpu
from edgepose_runtimes.tensorrt import TensorRt
from edgepose_runtimes.tensorrt_api import NotFound, find_api, is_corex
from edgepose_runtimes.tensorrt_plans import Place, read_record
from hypothesis import given
from hypothesis import strategies as st
from nvidia_machine import OTHER, VERSIONS, checked, head, nvidia
from tensorrt_samples import JETSON, expected, feeds, network

from edgepose.devices import Device
from edgepose.errors import DeviceError, InputError

#: What a file of JSON may hold where something else belongs.
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.just("../model.onnx"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)


@pytest.fixture(params=VERSIONS)
def version(request: pytest.FixtureRequest) -> str:
    return str(request.param)


class TestRecipes:
    """Bundles that are built on the device."""

    @pytest.fixture
    def recipe(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
        """Written where TensorRT is not."""
        monkeypatch.setitem(sys.modules, "tensorrt", None)
        result = TensorRtConverter().convert(network(), tmp_path, "fp16", {"max_batch": 4})
        assert result.engine == "model.recipe.json"
        assert sorted(result.files) == ["model.onnx", "model.recipe.json"]
        assert "Not built here" in result.notes[0]
        return tmp_path / result.engine

    def test_is_carried_out_once_for_a_machine(
        self,
        recipe: Path,
        version: str,
        monkeypatch: pytest.MonkeyPatch,
        tmp_path: Path,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
        plans = tmp_path / "cache" / "edgepose" / "plans"
        with checked(nvidia(monkeypatch, version=version)):
            for attempt in range(2):
                caplog.clear()
                session = TensorRt().open(recipe, JETSON, {})
                assert bool("Building" in caplog.text) == (attempt == 0)
                assert np.allclose(session.run(feeds(3))["heatmaps"], expected(feeds(3))["heatmaps"], atol=0.05)
                session.close()
            (plan,) = plans.glob("*.engine")
            assert head(plan)["profile"]["image"][2] == [4, 3, 16, 8]
            assert plan.stat().st_mode & 0o077 == 0 or plans.stat().st_mode & 0o077 == 0
        with checked(nvidia(monkeypatch, version=version, gpus=[OTHER])):
            TensorRt().open(recipe, Device("cuda"), {}).close()
        assert len(list(plans.glob("*.engine"))) == 2

    def test_another_version_builds_anew(self, recipe: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
        for version in ("8.6", "11.4", "8.6"):
            with checked(nvidia(monkeypatch, version=version)):
                TensorRt().open(recipe, JETSON, {}).close()
        assert len(list((tmp_path / "cache" / "edgepose" / "plans").glob("*.engine"))) == 2

    def test_a_damaged_plan_in_the_cache_names_the_file(
        self, recipe: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
        with checked(nvidia(monkeypatch)):
            TensorRt().open(recipe, JETSON, {}).close()
            (plan,) = (tmp_path / "cache" / "edgepose" / "plans").glob("*.engine")
            plan.write_bytes(plan.read_bytes()[:200])
            with pytest.raises(DeviceError, match="cannot load") as caught:
                TensorRt().open(recipe, JETSON, {})
            assert f"Remove '{plan}'" in str(caught.value.hint)

    def test_a_cache_that_cannot_be_written_is_told_before_anything_is_built(
        self, recipe: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        (tmp_path / "file").touch()
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
        with checked(nvidia(monkeypatch)), pytest.raises(DeviceError, match="cannot be written") as caught:
            TensorRt().open(recipe, JETSON, {})
        assert "XDG_CACHE_HOME" in str(caught.value.hint)
        assert "Building" not in caplog.text

    @pytest.mark.parametrize(
        "change",
        [
            {"graph": "../model.onnx"},
            {"graph": "other.onnx"},
            {"sha256": "0" * 64},
            {"target": "ixrt"},
            {"precision": "fp4"},
            {"options": {"wings": 2}},
            {"profile": {"image": [[1], [1]]}},
            {"profile": 3},
            {"version": 9},
            {"options": None},
        ],
    )
    def test_wrong_ones_are_refused(
        self, recipe: Path, change: dict[str, Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        data = json.loads(recipe.read_text())
        recipe.write_text(json.dumps({**data, **change}))
        with checked(nvidia(monkeypatch)), pytest.raises((InputError, DeviceError)):
            TensorRt().open(recipe, JETSON, {})

    def test_one_cannot_have_a_file_overwritten(
        self, recipe: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        victim = tmp_path / "victim"
        victim.write_bytes(b"")
        data = json.loads(recipe.read_text())
        recipe.write_text(json.dumps({**data, "options": {"timing_cache": str(victim)}}))
        with checked(nvidia(monkeypatch)), pytest.raises(InputError, match="outside the bundle"):
            TensorRt().open(recipe, JETSON, {})
        assert victim.read_bytes() == b""

    @given(data=st.data())
    def test_a_damaged_one_is_an_error_of_ours(self, data: st.DataObject, tmp_path_factory: Any) -> None:
        whole = {
            "format": "edgepose.recipe", "version": 1, "target": "tensorrt", "graph": "model.onnx", "sha256": "0" * 64,
            "precision": "fp16", "profile": {"x": [[1], [1], [1]]}, "options": {},
        }  # fmt: skip
        key = data.draw(st.sampled_from(sorted(whole)))
        folder = tmp_path_factory.mktemp("recipe")
        (folder / "model.onnx").write_bytes(b"graph")
        (folder / "model.recipe.json").write_text(json.dumps({**whole, key: data.draw(JSON)}))
        with pytest.raises(InputError):
            TensorRtConverter().recipe_hash(folder / "model.recipe.json")

    @given(data=st.data())
    def test_a_damaged_record_is_an_error_of_ours(self, data: st.DataObject, tmp_path_factory: Any) -> None:
        gpu = {"name": "Orin", "compute_capability": "8.7", "multiprocessors": 16}
        place = {"software": "TensorRT", "version": "10.3.0", "gpu": gpu}
        whole = {"format": "edgepose.plan", "version": 1, "place": place, "any_gpu": "", "dla_core": None}
        inside = data.draw(st.sampled_from((whole, place, gpu)))
        key = data.draw(st.sampled_from(sorted(inside)))
        changed = {**inside, key: data.draw(JSON)}
        if inside is gpu:
            changed = {**whole, "place": {**place, "gpu": changed}}
        elif inside is place:
            changed = {**whole, "place": changed}
        engine = tmp_path_factory.mktemp("record") / "model.engine"
        (engine.parent / "model.engine.json").write_text(json.dumps(changed))
        here = Place("TensorRT", "10.3.0", Gpu("Orin", "8.7", 16))
        with contextlib.suppress(InputError, DeviceError):
            record = read_record(engine)
            assert record is not None
            record.check(here, engine)

    def test_what_the_device_cannot_build_is_told(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setitem(sys.modules, "tensorrt", None)
        result = TensorRtConverter().convert(network(), tmp_path, "fp16", {"dla_core": 1})
        with (
            checked(nvidia(monkeypatch, dla_cores=1)),
            pytest.raises(DeviceError, match="cannot be built here: There is no DLA core 1 here; TensorRT finds 1"),
        ):
            TensorRt().open(tmp_path / result.engine, JETSON, {})


class TestVendors:
    """NVIDIA's module and Iluvatar's, which may have the same name."""

    def test_nvidias_is_not_taken_for_corex(self, monkeypatch: pytest.MonkeyPatch) -> None:
        nvidia(monkeypatch)
        import tensorrt

        assert not is_corex(tensorrt)
        with pytest.raises(NotFound, match="NVIDIA's"):
            find_api("ixRT", ("tensorrt",), corex=True)

    @pytest.mark.parametrize("sign", ["home", "alias", "libraries"])
    def test_corex_is_not_taken_for_nvidias(self, monkeypatch: pytest.MonkeyPatch, sign: str, tmp_path: Path) -> None:
        nvidia(monkeypatch)
        module: Any = type(sys)("tensorrt")
        builder = type("Builder", (), {"__module__": "ixrt._C" if sign == "home" else "tensorrt._C"})
        module.Builder = builder
        if sign == "alias":
            own: Any = type(sys)("ixrt")
            own.Builder = builder
            monkeypatch.setitem(sys.modules, "ixrt", own)
        if sign == "libraries":
            (tmp_path / "lib").mkdir()
            (tmp_path / "lib" / "libixrt_plugin.so").touch()
            module.__file__ = str(tmp_path / "__init__.py")
        monkeypatch.setitem(sys.modules, "tensorrt", module)
        assert is_corex(module)
        with pytest.raises(DeviceError, match="CoreX"):
            TensorRt().api()

    def test_something_else_of_that_name(self, monkeypatch: pytest.MonkeyPatch) -> None:
        nvidia(monkeypatch)
        monkeypatch.setitem(sys.modules, "tensorrt", type(sys)("tensorrt"))
        with pytest.raises(DeviceError, match="something else"):
            TensorRt().api()
