"""Simple baselines against a rebuild in PyTorch, for depths, styles and heads that no reference file covers."""

from __future__ import annotations

import numpy as np
import pytest
from synthetic_weights import fill, run

from edgepose.architectures import BuildOptions, build_network, identify

torch = pytest.importorskip("torch", reason="compares with PyTorch: pip install torch")

pytestmark = pytest.mark.conformance

nn = torch.nn
DEPTHS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3)}


class Block(nn.Module):
    """Basic block for two convolutions, bottleneck for three."""

    def __init__(self, inside, planes, stride, deep, caffe):
        super().__init__()
        out = planes * 4 if deep else planes
        plan = (
            [(1, stride if caffe else 1, planes), (3, 1 if caffe else stride, planes), (1, 1, out)]
            if deep
            else [(3, stride, planes), (3, 1, planes)]
        )
        width = inside
        for i, (kernel, step, channels) in enumerate(plan, start=1):
            self.add_module(f"conv{i}", nn.Conv2d(width, channels, kernel, step, kernel // 2, bias=False))
            self.add_module(f"bn{i}", nn.BatchNorm2d(channels))
            width = channels
        self.count = len(plan)
        self.downsample = None
        if stride != 1 or inside != out:
            self.downsample = nn.Sequential(nn.Conv2d(inside, out, 1, stride, bias=False), nn.BatchNorm2d(out))

    def forward(self, x):
        y = x
        for i in range(1, self.count + 1):
            y = getattr(self, f"bn{i}")(getattr(self, f"conv{i}")(y))
            y = y if i == self.count else torch.relu(y)
        return torch.relu(y + (x if self.downsample is None else self.downsample(x)))


class PoseNet(nn.Module):
    def __init__(self, depth, caffe=False, kernels=(4, 4, 4), width=32, final=1, bias=False, joints=17):
        super().__init__()
        deep = depth >= 50
        self.conv1, self.bn1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64)
        inside = 64
        for stage, count in enumerate(DEPTHS[depth]):
            planes = 64 << stage
            blocks = []
            for i in range(count):
                blocks.append(Block(inside, planes, 2 if stage and i == 0 else 1, deep, caffe))
                inside = planes * 4 if deep else planes
            self.add_module(f"layer{stage + 1}", nn.Sequential(*blocks))
        layers = []
        for k in kernels:
            pad, more = {4: (1, 0), 3: (1, 1), 2: (0, 0)}[k]
            layers += [nn.ConvTranspose2d(inside, width, k, 2, pad, more, bias=bias), nn.BatchNorm2d(width), nn.ReLU()]
            inside = width
        self.deconv_layers = nn.Sequential(*layers)
        self.final_layer = nn.Conv2d(inside, joints, final, 1, final // 2)

    def forward(self, x):
        x = torch.max_pool2d(torch.relu(self.bn1(self.conv1(x))), 3, 2, 1)
        for stage in range(1, 5):
            x = getattr(self, f"layer{stage}")(x)
        return self.final_layer(self.deconv_layers(x))


CASES = [
    ("pose_resnet18", {"depth": 18}),
    ("pose_resnet34", {"depth": 34, "joints": 26}),
    ("pose_resnet50", {"depth": 50, "kernels": (3, 3, 3), "final": 3}),
    ("pose_resnet18", {"depth": 18, "kernels": (2, 4), "bias": True, "joints": 5}),
    ("pose_resnet50_caffe", {"depth": 50, "caffe": True}),
]


@pytest.mark.parametrize(("architecture", "shape"), CASES)
def test_outputs_are_those_of_torch(architecture, shape):
    net = PoseNet(**shape).eval()
    arrays = fill((name, tuple(t.shape)) for name, t in net.state_dict().items())
    net.load_state_dict({name: torch.from_numpy(np.array(a)) for name, a in arrays.items()})
    image = np.random.default_rng(3).standard_normal((2, 3, 96, 64), np.float32)
    with torch.no_grad():
        expected = net(torch.from_numpy(image)).numpy()

    assert identify(arrays)[1] == architecture.removesuffix("_caffe")
    network = build_network(arrays, architecture, BuildOptions(input_size=(96, 64)))
    heatmaps = run(network.graph, image)["heatmaps"]
    assert heatmaps.shape == expected.shape
    assert np.abs(heatmaps - expected).max() <= 1e-4 * np.abs(expected).max()
