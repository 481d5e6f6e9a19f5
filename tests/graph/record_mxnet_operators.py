"""Record what MXNet 1.9.1 computes: writes ``mxnet_operators.npz`` and ``mxnet_networks.npz`` beside this file.

Needs an environment of its own, with Python 3.11: ``pip install numpy==1.23.5 graphviz==0.8.4 requests`` and
``pip install --no-deps mxnet==1.9.1``.  The inputs are not stored: :func:`values` makes them again from their names.
"""

import json
import os
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np

_QUIET = {"MXNET_STORAGE_FALLBACK_LOG_VERBOSE": "0", "MXNET_SUBGRAPH_VERBOSE": "0"}
#: Values around zero, but not so near to it that a rounding decides what a step function gives.
GRID = 0.125


def values(case, name, shape):
    """The array ``name`` of a case: multiples of :data:`GRID` with an offset, so that rounding is never at a tie."""
    rng = np.random.RandomState(zlib.crc32(f"{case}/{name}".encode()))
    array = rng.randint(-24, 25, size=shape) * GRID + 0.03
    if name.endswith(("var", "positive")):
        array = np.abs(array) + 0.5
    if name.endswith("unit"):
        array = array / 4
    return array.astype(np.float32)


def cases(mx):
    """Name -> (symbol, shapes of its inputs)."""
    s = mx.sym
    x = s.Variable("data")
    y = s.Variable("other")
    picture = {"data": (2, 4, 6, 8)}
    pair = {"data": (2, 4, 6, 8), "other": (2, 4, 6, 8)}
    found = {}

    def add(name, symbol, shapes=None):
        found[name] = (symbol, shapes or picture)

    # layers
    add("conv", s.Convolution(x, num_filter=6, kernel=(3, 3), stride=(2, 1), pad=(1, 2), dilate=(1, 2)))
    add("conv-groups", s.Convolution(x, num_filter=8, kernel=(3, 3), num_group=4, no_bias=True))
    add("conv-1d", s.Convolution(x, num_filter=3, kernel=(3,), pad=(1,)), {"data": (2, 4, 9)})
    add("conv-3d", s.Convolution(x, num_filter=2, kernel=(2, 3, 1)), {"data": (1, 2, 3, 4, 5)})
    add("deconv", s.Deconvolution(x, num_filter=3, kernel=(4, 4), stride=(2, 2), pad=(1, 1)))
    add("deconv-adj", s.Deconvolution(x, num_filter=3, kernel=(3, 3), stride=(2, 2), pad=(1, 1), adj=(1, 0)))
    add("deconv-bias", s.Deconvolution(x, num_filter=4, kernel=(3, 3), num_group=2, no_bias=False))
    add("deconv-target", s.Deconvolution(x, num_filter=3, kernel=(4, 3), stride=(2, 2), target_shape=(11, 16)))
    add("deconv-target-even", s.Deconvolution(x, num_filter=3, kernel=(4, 4), stride=(2, 2), target_shape=(12, 16)))
    add("batchnorm-defaults", s.BatchNorm(x, name="bn"))
    add("batchnorm", s.BatchNorm(x, fix_gamma=False, eps=1e-5, name="bn"))
    add("batchnorm-axis", s.BatchNorm(x, fix_gamma=False, eps=1e-2, axis=3, name="bn"))
    add("instancenorm", s.InstanceNorm(x))
    add("layernorm", s.LayerNorm(x))
    add("layernorm-axis", s.LayerNorm(x, axis=1, eps=1e-2))
    add("groupnorm", s.GroupNorm(x, num_groups=2))
    for mode in ("instance", "channel", "spatial"):
        add(f"l2norm-{mode}", s.L2Normalization(x, mode=mode))
    add("lrn", s.LRN(x, nsize=3, alpha=0.5, beta=0.6, knorm=1.5))
    add("fc", s.FullyConnected(x, num_hidden=5))
    add("fc-nobias", s.FullyConnected(x, num_hidden=5, no_bias=True))
    add("fc-noflatten", s.FullyConnected(x, num_hidden=5, flatten=False))
    add("upsampling", s.UpSampling(x, scale=2, sample_type="nearest"))
    for scale in (2, 3):
        shapes = {**picture, "up_weight": (4, 1, 2 * scale - scale % 2, 2 * scale - scale % 2)}
        weight = s.Variable("up_weight")
        symbol = s.UpSampling(x, weight, scale=scale, sample_type="bilinear", num_filter=4, num_args=2)
        add(f"upsampling-bilinear-{scale}", symbol, shapes)

    # pooling
    for kind in ("max", "avg", "sum"):
        for convention in ("valid", "full"):
            for pad in ((0, 0), (1, 1)):
                args = {"kernel": (3, 3), "stride": (2, 2), "pad": pad, "pool_type": kind}
                symbol = s.Pooling(x, pooling_convention=convention, **args)
                add(f"pool-{kind}-{convention}-{pad[0]}", symbol, {"data": (1, 2, 6, 7)})
    add(
        "pool-avg-exclude",
        s.Pooling(x, kernel=(3, 3), stride=(2, 2), pad=(1, 1), pool_type="avg", count_include_pad=False),
    )
    args = {"kernel": (3, 3), "stride": (2, 2), "pad": (1, 1), "pool_type": "avg", "pooling_convention": "full"}
    add("pool-avg-exclude-full", s.Pooling(x, count_include_pad=False, **args))
    add("pool-lp", s.Pooling(x, kernel=(2, 2), stride=(2, 2), pool_type="lp", p_value=2))
    for kind in ("max", "avg", "sum"):
        add(f"pool-global-{kind}", s.Pooling(x, global_pool=True, kernel=(1, 1), pool_type=kind))
    for size in ((1,), (3, 4), (4, 3)):
        add(f"adaptive-{'x'.join(map(str, size))}", s.contrib.AdaptiveAvgPooling2D(x, output_size=size))
    add("adaptive-default", s.contrib.AdaptiveAvgPooling2D(x))
    for align in (True, False):
        add(f"resize-{align}", s.contrib.BilinearResize2D(x, height=12, width=20, align_corners=align))
        add(f"resize-down-{align}", s.contrib.BilinearResize2D(x, height=3, width=5, align_corners=align))
    add("resize-scale", s.contrib.BilinearResize2D(x, scale_height=2, scale_width=1.5, mode="size"))
    add("resize-like", s.contrib.BilinearResize2D(x, y, mode="like"), {**picture, "other": (2, 1, 9, 5)})

    # activations
    for kind in ("relu", "sigmoid", "tanh", "softrelu", "softsign"):
        add(f"activation-{kind}", s.Activation(x, act_type=kind))
    for kind in ("leaky", "elu", "selu", "gelu", "prelu"):
        add(f"leaky-{kind}", s.LeakyReLU(x, act_type=kind, slope=0.3))
    add("leaky-rrelu", s.LeakyReLU(x, act_type="rrelu")[0])
    add("prelu-one", s.LeakyReLU(x, s.Variable("slope"), act_type="prelu"), {**picture, "slope": (1,)})
    for axis in (-1, 1):
        add(f"softmax-{axis}", s.softmax(x, axis=axis, temperature=2.0))
        add(f"log_softmax-{axis}", s.log_softmax(x, axis=axis))
    add("softmin", s.softmin(x, axis=2))
    add("softmax-activation", s.SoftmaxActivation(x))
    add("softmax-activation-channel", s.SoftmaxActivation(x, mode="channel"))
    add("softmax-output", s.SoftmaxOutput(x, name="softmax"), {"data": (2, 5)})
    add("softmax-output-multi", s.SoftmaxOutput(x, multi_output=True, name="softmax"))
    add("softmax-output-instance", s.SoftmaxOutput(x, name="softmax"))
    add("hard-sigmoid", s.hard_sigmoid(x, alpha=0.3, beta=0.4))
    add("hard-sigmoid-defaults", s.hard_sigmoid(x))
    add("linear-regression", s.LinearRegressionOutput(x, name="out"))
    add("logistic-regression", s.LogisticRegressionOutput(x, name="out"))

    # element by element
    for name in ("add", "sub", "mul", "div"):
        add(f"elemwise-{name}", getattr(s, f"elemwise_{name}")(x, y), pair)
        add(f"broadcast-{name}", getattr(s, f"broadcast_{name}")(x, y), {**picture, "other": (1, 4, 1, 8)})
    for name in ("maximum", "minimum", "equal", "not_equal", "greater", "greater_equal", "lesser", "lesser_equal"):
        add(f"broadcast-{name}", getattr(s, f"broadcast_{name}")(x, y), {**picture, "other": (1, 4, 1, 8)})
    for name in ("logical_and", "logical_or", "logical_xor"):
        add(f"broadcast-{name}", getattr(s, f"broadcast_{name}")(s.relu(x), s.relu(y)), pair)
    add("broadcast-power", s.broadcast_power(s.abs(x), y), pair)
    for name, symbol in {
        "plus": x + 1.5,
        "minus": x - 1.5,
        "rminus": 1.5 - x,
        "mul": x * 1.5,
        "div": x / 1.5,
        "rdiv": 1.5 / x,
        "power": x**2,
        "rpower": s.pow(2.0, x),
        "maximum": s.maximum(x, 0.5),
        "minimum": s.minimum(x, 0.5),
        "equal": s.round(x) == 1,
        "not_equal": s.round(x) != 1,
        "greater": x > 0.5,
        "greater_equal": s.round(x) >= 1,
        "lesser": x < 0.5,
        "lesser_equal": s.round(x) <= 1,
    }.items():
        add(f"scalar-{name}", symbol)
    unary = (
        "relu sigmoid tanh softsign exp abs negative reciprocal floor ceil sign erf sin cos arctan sinh cosh arcsinh"
    )
    unary += " square rint round fix trunc expm1 smooth_l1 zeros_like ones_like logical_not identity BlockGrad MakeLoss"
    for name in unary.split():
        add(f"unary-{name}", getattr(s, name)(x))
    for name in ("log", "log2", "log10", "log1p", "sqrt", "rsqrt"):
        add(f"unary-{name}", getattr(s, name)(s.abs(x)))
    for name in ("arcsin", "arccos", "arctanh", "tan"):
        add(f"unary-{name}", getattr(s, name)(x * 0.25))
    add("unary-arccosh", s.arccosh(s.abs(x) + 1.5))
    add("smooth-l1-scalar", s.smooth_l1(x, scalar=2.0))
    add("clip", s.clip(x, a_min=-0.5, a_max=1.0))
    add("dropout", s.Dropout(x, p=0.5))
    add("cast", s.cast(s.cast(x, dtype="int32"), dtype="float32"))
    add("where", s.where(s.relu(x), x, y), pair)
    add("add-n", s.add_n(x, y, x), pair)

    # shapes
    for code in (
        (0, -1),
        (0, 0, -3),
        (0, -4, 2, -1, -2),
        (-2,),
        (0, 0, -1),
        (0, -4, -1, 2, 0, 0),
        (-3, -3),
        (2, 24, 8),
    ):
        add(f"reshape-{','.join(map(str, code))}", s.reshape(x, shape=code))
    add("reshape-reverse", s.reshape(x, shape=(-1, 0), reverse=True))
    add("reshape-like", s.reshape_like(x, y), {**picture, "other": (2, 24, 8)})
    add("flatten", s.flatten(x))
    add("transpose", s.transpose(x, axes=(0, 2, 3, 1)))
    add("transpose-default", s.transpose(x))
    add("swapaxes", s.SwapAxis(x, dim1=1, dim2=3))
    add("expand-dims", s.expand_dims(x, axis=-1))
    add("squeeze", s.squeeze(x), {"data": (2, 1, 3, 1)})
    add("squeeze-axis", s.squeeze(x, axis=(1,)), {"data": (2, 1, 3, 1)})
    add("concat", s.concat(x, y, dim=2), {**picture, "other": (2, 4, 3, 8)})
    add("stack", s.stack(x, y, axis=1), pair)
    parts = s.split(x, num_outputs=2, axis=1)
    add("split", s.Group([parts[1], parts[0]]))
    parts = s.split(x, num_outputs=4, axis=1, squeeze_axis=True)
    add("split-squeeze", parts[2] * 2)
    parts = s.split_v2(x, (2, 5), axis=3)
    add("split-at", s.Group([parts[0], parts[2]]))
    add("slice", s.slice(x, begin=(0, 1, None), end=(None, 3, -1)))
    add("slice-steps", s.slice(x, begin=(None, None, None, -1), end=(None, None, None, 1), step=(1, 2, -1, -2)))
    add("slice-axis", s.slice_axis(x, axis=3, begin=-5, end=None))
    add("slice-like", s.slice_like(x, y, axes=(2, 3)), {**picture, "other": (1, 1, 3, 5)})
    add("crop", s.Crop(x, offset=(1, 2), h_w=(3, 4), num_args=1))
    add("crop-like", s.Crop(x, y, num_args=2, center_crop=True), {**picture, "other": (2, 4, 3, 5)})
    for mode in ("constant", "edge", "reflect"):
        add(f"pad-{mode}", s.Pad(x, mode=mode, pad_width=(0, 0, 0, 0, 1, 2, 3, 0), constant_value=0.5))
    add("tile", s.tile(x, reps=(1, 2, 1, 3)))
    add("tile-more", s.tile(x, reps=(2, 1, 3)), {"data": (2, 3)})
    add("repeat", s.repeat(x, repeats=2, axis=1))
    add("flip", s.flip(x, axis=3))
    add("reverse", s.reverse(x, axis=(2, 3)))
    add("broadcast-like", s.broadcast_like(x, y), {"data": (2, 4, 1, 1), "other": (2, 4, 3, 5)})
    add("broadcast-to", s.broadcast_to(x, shape=(0, 0, 3, 5)), {"data": (2, 4, 1, 1)})
    add("broadcast-axis", s.broadcast_axis(x, axis=(2, 3), size=(3, 5)), {"data": (2, 4, 1, 1)})
    add("depth-to-space", s.depth_to_space(x, block_size=2))
    add("space-to-depth", s.space_to_depth(x, block_size=2))

    # reductions and products
    for name in ("mean", "sum", "max", "min", "prod"):
        add(f"reduce-{name}", getattr(s, name)(x, axis=(2, 3), keepdims=True))
        add(f"reduce-{name}-exclude", getattr(s, name)(x, axis=1, exclude=True))
    add("reduce-all", s.sum(x))
    add("norm", s.norm(x, axis=1))
    add("norm-1", s.norm(x, ord=1, axis=1, keepdims=True))
    add("argmax", s.argmax(x, axis=1))
    add("argmin", s.argmin(x, axis=3, keepdims=True))
    add("argmax-channel", s.argmax_channel(x), {"data": (3, 5)})
    add("dot", s.dot(x, y, transpose_b=True), {"data": (3, 4), "other": (5, 4)})
    add("batch-dot", s.batch_dot(x, y, transpose_a=True), {"data": (2, 3, 4), "other": (2, 3, 5)})
    add("gemm2", s.linalg.gemm2(x, y, alpha=0.5), {"data": (2, 3, 4), "other": (2, 4, 5)})
    return found


def quantised(mx):
    """Name -> (quantised symbol, its arrays, input, output of the float symbol)."""
    from mxnet.contrib.quantization import quantize_model

    s = mx.sym
    x = s.Variable("data")
    conv = s.Convolution(x, num_filter=8, kernel=(3, 3), pad=(1, 1), name="conv0")
    left = s.Activation(s.BatchNorm(conv, fix_gamma=False, eps=1e-5, name="bn0"), act_type="relu", name="relu0")
    right = s.Convolution(left, num_filter=8, kernel=(1, 1), name="conv1")
    both = s.concat(
        s.Pooling(left, kernel=(2, 2), stride=(2, 2), pool_type="avg"),
        s.Pooling(right, kernel=(2, 2), stride=(2, 2), pool_type="max"),
        dim=1,
    )
    net = s.FullyConnected(s.flatten(both), num_hidden=6, name="fc0")
    data = values("quantised", "data", (4, 3, 8, 8))
    arguments, auxiliary = shapes_of(net, {"data": data.shape})
    arguments.pop("data")
    arg = {name: mx.nd.array(values("quantised", name, shape)) / 8 for name, shape in arguments.items()}
    aux = {name: mx.nd.array(values("quantised", name, shape)) for name, shape in auxiliary.items()}
    arrays = {name: array.asnumpy() for name, array in {**arg, **aux}.items()}
    (reference,) = run(mx, net, {**arrays, "data": data})
    found = {}
    for name, symbol, dtype in (("plain", net, "int8"), ("fused", net.get_backend_symbol("MKLDNN_QUANTIZE"), "auto")):
        batches = mx.io.NDArrayIter(data, batch_size=4)
        options = {"calib_mode": "naive", "calib_data": batches, "num_calib_examples": 4, "label_names": None}
        q, qarg, qaux = quantize_model(symbol, arg, aux, ctx=mx.cpu(), quantized_dtype=dtype, **options)
        found[name] = (q, {key: array.asnumpy() for key, array in {**qarg, **qaux}.items()}, data, reference)
    return found


def shapes_of(symbol, known):
    """Name -> shape of the arguments and of the auxiliary states, labels left out."""
    arguments, _, auxiliary = symbol.infer_shape(**known)
    named = dict(zip(symbol.list_arguments(), arguments, strict=True))
    states = dict(zip(symbol.list_auxiliary_states(), auxiliary, strict=True))
    return {name: shape for name, shape in named.items() if not name.endswith("label")}, states


def run(mx, symbol, arrays):
    """Outputs of a symbol."""
    args = {n: mx.nd.array(arrays[n]) for n in symbol.list_arguments() if n in arrays}
    for name in symbol.list_arguments():
        if name not in args:  # labels: their values do not matter, their shapes do
            shapes, _, _ = symbol.infer_shape(**{n: a.shape for n, a in args.items()})
            args[name] = mx.nd.zeros(shapes[symbol.list_arguments().index(name)])
    aux = {n: mx.nd.array(arrays[n]) for n in symbol.list_auxiliary_states()}
    executor = symbol.bind(mx.cpu(), args, aux_states=aux, grad_req="null")
    return [o.asnumpy() for o in executor.forward(is_train=False)]


def operators(mx):
    """Symbols, shapes and outputs of all cases, as arrays to store."""
    index, data = {}, []
    size = 0
    for name, (symbol, shapes) in cases(mx).items():
        arguments, auxiliary = shapes_of(symbol, shapes)
        known = {**arguments, **auxiliary}
        outputs = run(mx, symbol, {n: values(name, n, sh) for n, sh in known.items()})
        entry = {"symbol": json.loads(symbol.tojson()), "shapes": known, "outputs": []}
        for output in outputs:
            entry["outputs"].append([size, list(output.shape)])
            data.append(output.astype(np.float32).reshape(-1))
            size += output.size
        index[name] = entry
    print(len(index), "cases")
    text = json.dumps(index, separators=(",", ":")).encode()
    return {"index": np.frombuffer(text, np.uint8), "data": np.concatenate(data)}


def networks(mx):
    """The quantised networks, as arrays to store."""
    stored = {}
    for name, (symbol, arrays, inputs, reference) in quantised(mx).items():
        stored[f"{name}/symbol"] = np.frombuffer(symbol.tojson().encode(), np.uint8)
        stored[f"{name}/data"] = inputs
        stored[f"{name}/output"] = reference
        stored.update({f"{name}/array/{n}": a for n, a in arrays.items()})
    print(len(stored), "arrays of quantised networks")
    return stored


def main():
    """Record the operators with MXNet's own kernels, and the quantised networks, which exist in oneDNN only."""
    what = sys.argv[1] if len(sys.argv) > 1 else ""
    if not what:
        for part, onednn in (("operators", "0"), ("networks", "1")):
            subprocess.run(
                [sys.executable, __file__, part],
                env={**os.environ, "MXNET_MKLDNN_ENABLED": onednn, **_QUIET},
                check=True,
            )
        return
    import mxnet as mx

    stored = operators(mx) if what == "operators" else networks(mx)
    np.savez_compressed(Path(__file__).with_name(f"mxnet_{what}.npz"), **stored)


if __name__ == "__main__":
    main()
