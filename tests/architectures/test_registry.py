"""Which architecture a checkpoint has, and what is said when it does not fit."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from synthetic_weights import fill

from edgepose.architectures import BuildOptions, architectures, build_network, examine, families, identify
from edgepose.checkpoints import read_checkpoint
from edgepose.errors import ArchitectureError

FAMILY_OF = {name: family for family in families() for name in family.architectures}
#: Same names and shapes as another architecture, which is the one that is recognised.
TWINS = {
    name: name.removesuffix(suffix)
    for name in FAMILY_OF
    for suffix in ("_caffe", "_torch_pool")
    if name.endswith(suffix)
}


def expected(name: str) -> dict[str, tuple[int, ...]]:
    return dict(FAMILY_OF[name].build(name, {}, BuildOptions(books_only=True)).weights.expected)


def stand_ins(shapes: dict[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    return {name: np.broadcast_to(np.float32(0), shape) for name, shape in shapes.items()}


@pytest.mark.parametrize("name", FAMILY_OF)
def test_every_architecture_is_told_from_its_arrays(name):
    arrays = stand_ins(expected(name))
    recognised = [found for family in families() if (found := family.recognise(arrays))]
    assert recognised == [TWINS.get(name, name)]
    assert identify(arrays)[1] == TWINS.get(name, name)
    assert examine(arrays, name).mismatch.count == 0


def test_names_are_unique_and_described():
    names = [name for family in families() for name in family.architectures]
    assert len(names) == len(set(names)) == len(architectures())
    assert len({family.name for family in families()}) == len(families())
    assert all(line and "\n" not in line for line in architectures().values())


@pytest.mark.parametrize("name", FAMILY_OF)
def test_a_dry_run_builds_nothing(name):
    network = FAMILY_OF[name].build(name, {}, BuildOptions(books_only=True))
    assert not network.graph.graph.node
    assert not network.graph.graph.initializer


@given(data=st.data())
@settings(max_examples=25, deadline=None)
def test_a_few_wrong_arrays_are_all_reported_and_nothing_else(data):
    name = data.draw(st.sampled_from([n for n in FAMILY_OF if n not in TWINS]))
    shapes = expected(name)
    chosen = data.draw(st.lists(st.sampled_from(sorted(shapes)), max_size=4, unique=True))
    dropped, reshaped = chosen[: len(chosen) // 2], chosen[len(chosen) // 2 :]
    arrays = stand_ins(shapes)
    for array in dropped:
        del arrays[array]
    for array in reshaped:
        arrays[array] = arrays[array][..., None]
    arrays["stranger"] = np.zeros(3, np.float32)

    assert identify(arrays)[1] == name
    mismatch = examine(arrays).mismatch
    assert mismatch.missing == {n: shapes[n] for n in dropped}
    assert mismatch.misshaped == {n: (shapes[n], (*shapes[n], 1)) for n in reshaped}
    assert mismatch.unexpected == {"stranger": (3,)}
    with pytest.raises(ArchitectureError) as error:
        build_network(arrays)
    for array in (*chosen, "stranger"):
        assert array in str(error.value)


def test_one_missing_and_one_misshaped_array_of_a_resnet50():
    arrays = stand_ins(expected("pose_resnet50"))
    del arrays["layer2.1.conv2.weight"]
    arrays["layer3.0.bn1.weight"] = np.zeros(300, np.float32)
    with pytest.raises(ArchitectureError) as error:
        build_network(arrays)
    text = str(error.value)
    assert "'pose_resnet50'" in text
    assert "1 missing, 1 mis-shaped, 0 unexpected" in text
    assert "layer2.1.conv2.weight  expected [128, 128, 3, 3]" in text
    assert "layer3.0.bn1.weight  expected [256], found [300]" in text


def test_a_long_table_is_cut_and_says_so():
    arrays = stand_ins(expected("pose_resnet50"))
    with pytest.raises(ArchitectureError) as error:
        build_network(arrays, "pose_resnet152")
    text = str(error.value)
    assert "and 490 more" in text
    assert len(text.splitlines()) < 60
    assert "--architecture pose_resnet50" in text


def test_an_image_classifier_is_called_a_backbone_only():
    arrays = {n: a for n, a in stand_ins(expected("pose_resnet101")).items() if not n.startswith(("deconv", "final"))}
    arrays |= stand_ins({"fc.weight": (1000, 2048), "fc.bias": (1000,)})
    assert identify(arrays) is None
    with pytest.raises(ArchitectureError, match="ResNet-101 image classifier: a backbone only"):
        build_network(arrays)


def test_unknown_arrays_are_described():
    names = [f"features.conv{i}.{part}.weight" for i in range(1, 14) for part in ("depthwise", "pointwise")]
    arrays = stand_ins({**dict.fromkeys(names, (32, 1, 3, 3)), "displacement_fwd.weight": (32, 512, 1, 1)})
    assert identify(arrays) is None
    with pytest.raises(ArchitectureError) as error:
        build_network(arrays)
    text = str(error.value)
    assert "27 arrays" in text
    assert "PoseNet on MobileNet v1" in text


def test_a_posenet_checkpoint_is_unknown_and_called_what_it_is(reference):
    arrays = read_checkpoint(reference / "data" / "weights" / "formats" / "posenet_mobilenet_v1_050.pth").arrays
    assert identify(arrays) is None
    with pytest.raises(ArchitectureError) as error:
        build_network(arrays)
    text = str(error.value)
    assert "62 arrays" in text
    assert "PoseNet on MobileNet v1" in text
    assert "Nearest is 'mobile_pose_mobilenet1.0'" in text


@pytest.mark.parametrize(
    ("file", "architecture"),
    [
        ("gluoncv_aimet/mobile_pose_mobilenetv2_1.0.params", "mobile_pose_mobilenetv2_1.0"),
        ("gluoncv_aimet/mobile_pose_mobilenetv3_small.params", "mobile_pose_mobilenetv3_small"),
        ("simplepose_lwop/simple_pose_div8_mindspore210.ckpt", "mindspore_simple_pose_resnet50"),
    ],
)
def test_files_written_by_the_frameworks_build_with_no_option_given(file, architecture, reference):
    network = build_network(read_checkpoint(reference / "fixtures" / file).arrays)
    assert network.graph.graph.name == architecture


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["incre_modules.0.0.conv1.weight", "stage2.0.branches.0.0.conv1.weight"], "an HRNet image classifier"),
        (["stage2.0.branches.0.0.conv1.weight", "final_layers.0.weight"], "HigherHRNet"),
        (["model.stage3.1.branches.2.0.bn1.weight"], "an HRNet"),
        (["features.1.depthwise.weight", "features.1.pointwise.weight"], "a MobileNet v1"),
        (["blocks.0.attn.qkv.weight"], "a vision transformer"),
        (["model.22.cv2.0.0.conv.weight", "model.22.dfl.conv.weight"], "an Ultralytics YOLO"),
        (["layer1.0.conv1.weight"], "a ResNet"),
        (["conv.weight", "fc3.weight", "fc.weight"], "an image classifier"),
        (["something.else"], "names begin with 'something.else'"),
    ],
)
def test_common_networks_are_called_by_their_names(names, words):
    with pytest.raises(ArchitectureError, match=words):
        build_network(stand_ins(dict.fromkeys(names, (7, 11))))


def test_the_shapes_tell_where_the_names_do_not():
    arrays = stand_ins({f"p{i}": s for i, s in enumerate(expected("lightweight_openpose").values())})
    with pytest.raises(
        ArchitectureError, match=r"'lightweight_openpose'.*the names are others, 100% of the shapes agree"
    ):
        build_network(arrays)


@pytest.mark.parametrize(("arg", "aux"), [("arg:", "aux:"), ("", "")])
def test_an_exported_network_asks_for_its_symbol_file(arg, aux):
    shapes = {f"{arg}resnetv1b_conv0_weight": (64, 3, 7, 7), f"{aux}resnetv1b_batchnorm0_running_mean": (64,)}
    arrays = stand_ins(shapes)
    with pytest.raises(ArchitectureError, match=r"-symbol\.json"):
        build_network(arrays)


def test_an_unknown_architecture_suggests_the_nearest_names():
    with pytest.raises(ArchitectureError, match="Did you mean pose_resnet50"):
        build_network({}, "pose_resnet5O")


def test_nothing_at_all_is_no_network():
    assert identify({}) is None
    with pytest.raises(ArchitectureError, match="0 arrays"):
        build_network({})


NAME = st.from_regex(
    r"\A((module|backbone|head|network)\.)?(layer[1-4]|stage[2-4]|features|resnet|upsampling|deconv_layers|preact|model"
    r"|refinement_stages|final_layer|duc1)(\.[0-9]{1,9}){0,3}\.(conv1|bn1|conv|bn|0|branches)?\.?(weight|gamma|bias|running_mean)\Z"
)


# Lengths as a hostile file could state them; the arrays themselves take no memory here.
SHAPE = st.lists(st.sampled_from([0, 1, 3, 17, 64, 100_000]), max_size=3).map(tuple)


@given(st.dictionaries(NAME, SHAPE, max_size=40))
@settings(max_examples=25, deadline=None)
def test_arbitrary_arrays_are_refused_in_words(shapes):
    with pytest.raises(ArchitectureError):
        build_network(stand_ins(shapes))


def test_weights_of_a_hostile_width_take_no_memory():
    arrays = stand_ins(expected("pose_resnet18"))
    for name in list(arrays):
        if name.startswith("layer4.") and "bn1" in name:
            arrays[name] = np.broadcast_to(np.float32(0), (60000,))
    with pytest.raises(ArchitectureError, match=r"layer4\.0\.conv1\.weight  expected \[60000, 256, 3, 3\]"):
        build_network(arrays)


def test_counters_and_preprocessing_statistics_are_no_weights():
    arrays = fill(expected("mmpose_resnet18")) | {
        "backbone.bn1.num_batches_tracked": np.zeros((), np.int64),
        "data_preprocessor.mean": np.zeros((3, 1, 1), np.float32),
    }
    network = build_network(arrays, options=BuildOptions(input_size=(32, 32)))
    assert len(network.graph.graph.node) > 20
