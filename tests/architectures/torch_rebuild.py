"""The networks once more, in PyTorch and by another way, for comparison.

Written from the published descriptions as torch modules whose attributes have the checkpoints' names; nothing here is
shared with the builders that are compared with it.  Needs torch, which edgepose itself never does.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional

Tensor = torch.Tensor


class Lambda(nn.Module):
    """A function as a module."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


class Holder(nn.Module):
    """Children by name, and a function of them and the input."""

    def __init__(self, function: Callable[..., Any], **children: nn.Module) -> None:
        super().__init__()
        self.function = function
        for name, child in children.items():
            self.add_module(name, child)

    def forward(self, x: Any) -> Any:
        return self.function(self, x)


# ---- HRNet ----


def _conv3(i: int, o: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(i, o, 3, stride, 1, bias=False)


def _basic(c: int) -> nn.Module:
    return Holder(
        lambda m, x: functional.relu(m.bn2(m.conv2(functional.relu(m.bn1(m.conv1(x))))) + x),
        conv1=_conv3(c, c),
        bn1=nn.BatchNorm2d(c),
        conv2=_conv3(c, c),
        bn2=nn.BatchNorm2d(c),
    )


def _bottleneck(i: int) -> nn.Module:
    def forward(m: Any, x: Tensor) -> Tensor:
        y = functional.relu(m.bn1(m.conv1(x)))
        y = functional.relu(m.bn2(m.conv2(y)))
        y = m.bn3(m.conv3(y))
        return functional.relu(y + (m.downsample(x) if i != 256 else x))

    children: dict[str, nn.Module] = {
        "conv1": nn.Conv2d(i, 64, 1, bias=False),
        "bn1": nn.BatchNorm2d(64),
        "conv2": _conv3(64, 64),
        "bn2": nn.BatchNorm2d(64),
        "conv3": nn.Conv2d(64, 256, 1, bias=False),
        "bn3": nn.BatchNorm2d(256),
    }
    if i != 256:
        children["downsample"] = nn.Sequential(nn.Conv2d(i, 256, 1, bias=False), nn.BatchNorm2d(256))
    return Holder(forward, **children)


def _exchange(widths: list[int], rows: int) -> nn.Module:
    """One module: four basic blocks in each branch, then every branch's sum of all."""
    fuse = nn.ModuleList()
    for i in range(rows):
        row = nn.ModuleList()
        for j, width in enumerate(widths):
            if j > i:
                row.append(
                    nn.Sequential(
                        nn.Conv2d(width, widths[i], 1, bias=False),
                        nn.BatchNorm2d(widths[i]),
                        nn.Upsample(scale_factor=2 ** (j - i), mode="nearest"),
                    )
                )
            elif j == i:
                row.append(nn.Identity())
            else:
                steps = [
                    nn.Sequential(_conv3(width, width, 2), nn.BatchNorm2d(width), nn.ReLU()) for _ in range(i - j - 1)
                ]
                steps.append(nn.Sequential(_conv3(width, widths[i], 2), nn.BatchNorm2d(widths[i])))
                row.append(nn.Sequential(*steps))
        fuse.append(row)

    def forward(m: Any, xs: list[Tensor]) -> list[Tensor]:
        xs = [branch(x) for branch, x in zip(m.branches, xs, strict=True)]
        sums = [torch.stack([f(x) for f, x in zip(row, xs, strict=True)]).sum(0) for row in m.fuse_layers]
        return [functional.relu(s) for s in sums]

    branches = nn.ModuleList(nn.Sequential(*(_basic(w) for _ in range(4))) for w in widths)
    return Holder(forward, branches=branches, fuse_layers=fuse)


def hrnet(width: int, joints: int = 17) -> nn.Module:
    """HRNet-W32 or W48 in the authors' naming; gives heatmaps."""
    widths = [width, 2 * width, 4 * width, 8 * width]

    def down(i: int, o: int) -> nn.Module:
        return nn.Sequential(nn.Sequential(_conv3(i, o, 2), nn.BatchNorm2d(o), nn.ReLU()))

    def stage(branches: int, modules: int, last_rows: int) -> nn.Module:
        rows = [branches] * (modules - 1) + [last_rows]
        return nn.Sequential(*(_exchange(widths[:branches], r) for r in rows))

    def forward(m: Any, x: Tensor) -> Tensor:
        x = functional.relu(m.bn1(m.conv1(x)))
        x = m.layer1(functional.relu(m.bn2(m.conv2(x))))
        xs = m.stage2([m.transition1[0](x), m.transition1[1](x)])
        xs = m.stage3([*xs, m.transition2[2](xs[-1])])
        xs = m.stage4([*xs, m.transition3[3](xs[-1])])
        return m.final_layer(xs[0])

    none = nn.Identity
    return Holder(
        forward,
        conv1=_conv3(3, 64, 2),
        bn1=nn.BatchNorm2d(64),
        conv2=_conv3(64, 64, 2),
        bn2=nn.BatchNorm2d(64),
        layer1=nn.Sequential(_bottleneck(64), *(_bottleneck(256) for _ in range(3))),
        transition1=nn.ModuleList(
            [nn.Sequential(_conv3(256, width), nn.BatchNorm2d(width), nn.ReLU()), down(256, 2 * width)]
        ),
        stage2=stage(2, 1, 2),
        transition2=nn.ModuleList([none(), none(), down(2 * width, 4 * width)]),
        stage3=stage(3, 4, 3),
        transition3=nn.ModuleList([none(), none(), none(), down(4 * width, 8 * width)]),
        stage4=stage(4, 3, 1),
        final_layer=nn.Conv2d(width, joints, 1),
    )


# ---- RTMPose ----


def _unit(i: int, o: int, kernel: int = 1, stride: int = 1, groups: int = 1) -> nn.Module:
    """Convolution, batch normalisation, SiLU."""
    return Holder(
        lambda m, x: functional.silu(m.bn(m.conv(x))),
        conv=nn.Conv2d(i, o, kernel, stride, kernel // 2, groups=groups, bias=False),
        bn=nn.BatchNorm2d(o),
    )


def _csp_block(c: int, identity: bool) -> nn.Module:
    separable = Holder(
        lambda m, x: m.pointwise_conv(m.depthwise_conv(x)),
        depthwise_conv=_unit(c, c, 5, groups=c),
        pointwise_conv=_unit(c, c),
    )
    return Holder(lambda m, x: m.conv2(m.conv1(x)) + (x if identity else 0), conv1=_unit(c, c, 3), conv2=separable)


def _csp(c: int, blocks: int, identity: bool) -> nn.Module:
    half = c // 2
    attention = Holder(
        lambda m, x: x * functional.hardsigmoid(m.fc(functional.adaptive_avg_pool2d(x, 1))), fc=nn.Conv2d(c, c, 1)
    )
    return Holder(
        lambda m, x: m.final_conv(m.attention(torch.cat([m.blocks(m.main_conv(x)), m.short_conv(x)], 1))),
        main_conv=_unit(c, half),
        short_conv=_unit(c, half),
        final_conv=_unit(c, c),
        blocks=nn.Sequential(*(_csp_block(half, identity) for _ in range(blocks))),
        attention=attention,
    )


def _spp(c: int) -> nn.Module:
    def forward(m: Any, x: Tensor) -> Tensor:
        x = m.conv1(x)
        return m.conv2(torch.cat([x, *(functional.max_pool2d(x, k, 1, k // 2) for k in (5, 9, 13))], 1))

    return Holder(forward, conv1=_unit(c, c // 2), conv2=_unit(2 * c, c))


class _ScaleNorm(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim
        self.g = nn.Parameter(torch.ones(1))

    def forward(self, x: Tensor) -> Tensor:
        return x / (torch.linalg.norm(x, dim=-1, keepdim=True) * self.dim**-0.5).clamp(min=1e-5) * self.g


class _Scale(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(dim))


class _Attention(nn.Module):
    """Gated attention unit."""

    def __init__(self, dim: int = 256, gate: int = 512, key: int = 128) -> None:
        super().__init__()
        self.lengths = [gate, gate, key]
        self.o = nn.Linear(gate, dim, bias=False)
        self.uv = nn.Linear(dim, 2 * gate + key, bias=False)
        self.gamma = nn.Parameter(torch.ones(2, key))
        self.beta = nn.Parameter(torch.zeros(2, key))
        self.ln = _ScaleNorm(dim)
        self.res_scale = _Scale(dim)

    def forward(self, x: Tensor) -> Tensor:
        u, v, base = functional.silu(self.uv(self.ln(x))).split(self.lengths, -1)
        q, k = (base * self.gamma[i] + self.beta[i] for i in range(2))
        kernel = functional.relu(torch.einsum("bns,bms->bnm", q, k) / self.lengths[-1] ** 0.5) ** 2
        return x * self.res_scale.scale + self.o(u * torch.einsum("bnm,bme->bne", kernel, v))


def rtmpose(deepen: float, widen: float, joints: int = 17, size: tuple[int, int] = (256, 192)) -> nn.Module:
    """RTMPose in mmpose 1.x's naming for an input of (height, width) pixels; gives the x and the y vectors."""
    plan = ((64, 128, 3), (128, 256, 6), (256, 512, 6), (512, 1024, 3))
    stem = int(64 * widen)
    children: dict[str, nn.Module] = {
        "stem": nn.Sequential(_unit(3, stem // 2, 3, 2), _unit(stem // 2, stem // 2, 3), _unit(stem // 2, stem, 3))
    }
    for number, (i, o, blocks) in enumerate(plan, start=1):
        i, o, blocks = int(i * widen), int(o * widen), max(round(blocks * deepen), 1)
        pool = [_spp(o)] if number == 4 else []
        children[f"stage{number}"] = nn.Sequential(_unit(i, o, 3, 2), *pool, _csp(o, blocks, number != 4))
    backbone = Holder(lambda m, x: m.stage4(m.stage3(m.stage2(m.stage1(m.stem(x))))), **children)

    height, width = size
    positions = height * width // 32**2

    def forward(m: Any, x: Tensor) -> tuple[Tensor, Tensor]:
        tokens = m.gau(m.mlp(m.final_layer(x).flatten(2)))
        return m.cls_x(tokens), m.cls_y(tokens)

    head = Holder(
        forward,
        final_layer=nn.Conv2d(int(1024 * widen), joints, 7, padding=3),
        mlp=nn.Sequential(_ScaleNorm(positions), nn.Linear(positions, 256, bias=False)),
        gau=_Attention(),
        cls_x=nn.Linear(256, 2 * width, bias=False),
        cls_y=nn.Linear(256, 2 * height, bias=False),
    )
    return Holder(lambda m, x: m.head(m.backbone(x)), backbone=backbone, head=head)


# ---- AIMET's PoseModel ----


def _separable(i: int, m: int, o: int, k: int) -> list[nn.Module]:
    column = nn.Conv2d(i, m, (k, 1), padding=(k // 2, 0), bias=False)
    return [nn.Sequential(column, nn.Conv2d(m, o, (1, k), padding=(0, k // 2))), nn.ReLU()]


def _chain(*rows: tuple[int, ...] | str) -> nn.Sequential:
    """Rows: (in, middle, out, k) separable, (in, out, k) plain with ReLU, (in, out) a head, or ``pool``."""
    layers: list[nn.Module] = []
    for row in rows:
        if row == "pool":
            layers.append(nn.MaxPool2d(2, 2))
        elif len(row) == 4:
            layers += _separable(*row)
        elif len(row) == 3:
            layers += [nn.Conv2d(row[0], row[1], row[2], padding=row[2] // 2), nn.ReLU()]
        else:
            layers.append(nn.Conv2d(row[0], row[1], 1))
    return nn.Sequential(*layers)


def aimet_pose() -> nn.Module:
    """PoseModel of the AIMET model zoo; gives PAFs and heatmaps of the first and of the second stage."""

    def branch(a: int, b: int, c: int, out: int) -> nn.Sequential:
        return _chain((128, a, 128, 3), (128, b, 128, 3), (128, c, 128, 3), (128, 128, 1), (128, out))

    def forward(m: Any, x: Tensor) -> tuple[Tensor, ...]:
        f = m.pre_stage(m.basemodel(x))
        shared = m.stage1_shared(f)
        pafs, heatmaps = m.stage1_1(shared), m.stage1_2(shared)
        shared = m.stage2_shared(torch.cat([pafs, heatmaps, f], 1))
        return pafs, heatmaps, m.stage2_1(shared), m.stage2_2(shared)

    return Holder(
        forward,
        basemodel=_chain(
            (3, 32, 3), (32, 16, 32, 3), "pool", (32, 32, 64, 3), (64, 32, 96, 3), "pool", (96, 80, 256, 3),
            (256, 80, 256, 3), (256, 48, 128, 3), (128, 48, 256, 3), "pool", (256, 96, 512, 3), (512, 192, 512, 3),
        ),
        pre_stage=_chain((512, 256, 256, 3), (256, 128, 3)),
        stage1_shared=_chain((128, 112, 128, 7), (128, 112, 128, 7)),
        stage1_1=branch(32, 32, 32, 38),
        stage1_2=branch(32, 32, 48, 19),
        stage2_shared=_chain((185, 128, 128, 7), (128, 112, 128, 7)),
        stage2_1=branch(32, 32, 32, 38),
        stage2_2=branch(32, 48, 48, 19),
    )  # fmt: skip


def outputs(model: nn.Module, arrays: dict[str, Any], image: Any) -> list[Any]:
    """The model's outputs with these arrays, whose names and shapes must be exactly the model's own."""
    model.load_state_dict({name: torch.from_numpy(array) for name, array in arrays.items()})
    with torch.no_grad():
        result = model.eval()(torch.from_numpy(image))
    return [r.numpy() for r in ([result] if torch.is_tensor(result) else result)]


def shapes(model: nn.Module) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the model's arrays."""
    return {name: tuple(array.shape) for name, array in model.state_dict().items()}
