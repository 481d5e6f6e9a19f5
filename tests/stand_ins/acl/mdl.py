"""Stands in for ``acl.mdl``: models that the stand-in of ``atc`` has written, computed by ONNX Runtime."""

import time
from pathlib import Path

import numpy as np

from . import om
from .world import (
    BAD_BATCH,
    BAD_SHAPE,
    INVALID_FILE,
    INVALID_MODEL,
    INVALID_PARAM,
    LOAD_FAILED,
    OUT_OF_MEMORY,
    call,
    world,
)

_CODES = {"float32": 0, "float16": 1, "int8": 2, "int32": 3, "uint8": 4, "int64": 9, "bool": 12}


@call("mdl.load_from_file", "s", form="value")
def load_from_file(path):
    try:
        data = Path(path).read_bytes()
    except OSError:
        return 0, INVALID_FILE
    model = om.read(data)
    if model is None or model.soc != world.soc:
        return 0, LOAD_FAILED
    if world.used() + model.weight_size > world.memory_limit:
        return 0, OUT_OF_MEMORY
    return world.create("model", model), 0


@call("mdl.unload", "I")
def unload(model):
    return 0 if world.destroy("model", model) else INVALID_MODEL


@call("mdl.create_desc", "", needs="init", form="handle")
def create_desc():
    return world.create("desc", om.EMPTY)


@call("mdl.get_desc", "kI")
def get_desc(desc, model):
    found = world.get("model", model)
    if found is None or world.get("desc", desc) is None:
        return INVALID_MODEL
    world.things["desc", desc] = found
    return 0


@call("mdl.destroy_desc", "k", needs="init")
def destroy_desc(desc):
    return 0 if world.destroy("desc", desc) else INVALID_PARAM


def _port(desc, side, index):
    model = world.get("desc", desc)
    ports = [] if model is None else getattr(model, side)
    return ports[index] if 0 <= index < len(ports) else None


def _dims(port):
    if port is None:
        return {}, INVALID_PARAM
    return {"name": port.name[:127], "dimCount": len(port.dims), "dims": list(port.dims)}, 0


@call("mdl.get_num_inputs", "k", needs="init", form="plain")
def get_num_inputs(desc):
    return len(world.get("desc", desc).inputs)


@call("mdl.get_num_outputs", "k", needs="init", form="plain")
def get_num_outputs(desc):
    return len(world.get("desc", desc).outputs)


@call("mdl.get_input_dims", "kk", needs="init", form="value", empty={})
def get_input_dims(desc, index):
    return _dims(_port(desc, "inputs", index))


@call("mdl.get_output_dims", "kk", needs="init", form="value", empty={})
def get_output_dims(desc, index):
    return _dims(_port(desc, "outputs", index))


@call("mdl.get_cur_output_dims", "kk", needs="init", form="value", empty={})
def get_cur_output_dims(desc, index):
    model = world.get("desc", desc)
    port = _port(desc, "outputs", index)
    if port is None:
        return {}, INVALID_PARAM
    dims = model.shapes[port.name] if model.profiles else port.dims
    return {"name": port.name[:127], "dimCount": len(dims), "dims": list(dims)}, 0


@call("mdl.get_input_name_by_index", "kk", needs="init", form="plain", empty="")
def get_input_name_by_index(desc, index):
    port = _port(desc, "inputs", index)
    return "" if port is None else port.name


@call("mdl.get_output_name_by_index", "kk", needs="init", form="plain", empty="")
def get_output_name_by_index(desc, index):
    port = _port(desc, "outputs", index)
    return "" if port is None else port.name


@call("mdl.get_input_size_by_index", "kk", needs="init", form="plain")
def get_input_size_by_index(desc, index):
    port = _port(desc, "inputs", index)
    return 0 if port is None else port.size


@call("mdl.get_output_size_by_index", "kk", needs="init", form="plain")
def get_output_size_by_index(desc, index):
    port = _port(desc, "outputs", index)
    return 0 if port is None else port.size


@call("mdl.get_input_data_type", "kk", needs="init", form="plain", empty=-1)
def get_input_data_type(desc, index):
    port = _port(desc, "inputs", index)
    return -1 if port is None else _CODES[port.dtype]


@call("mdl.get_output_data_type", "kk", needs="init", form="plain", empty=-1)
def get_output_data_type(desc, index):
    port = _port(desc, "outputs", index)
    return -1 if port is None else _CODES[port.dtype]


@call("mdl.get_input_index_by_name", "ks", needs="init", form="value")
def get_input_index_by_name(desc, name):
    names = [p.name for p in world.get("desc", desc).inputs]
    return (names.index(name), 0) if name in names else (0, INVALID_PARAM)


@call("mdl.get_dynamic_batch", "k", needs="init", form="value", empty={})
def get_dynamic_batch(desc):
    batches = world.get("desc", desc).batches
    return {"batchCount": len(batches), "batch": list(batches)}, 0


@call("mdl.get_dynamic_hw", "kk", needs="init", form="value", empty={})
def get_dynamic_hw(desc, index):
    if index != -1:
        return {}, INVALID_PARAM
    sizes = world.get("desc", desc).sizes
    return {"hwCount": len(sizes), "hw": [list(s) for s in sizes]}, 0


@call("mdl.create_dataset", "", needs="init", form="handle")
def create_dataset():
    return world.create("dataset", [])


@call("mdl.destroy_dataset", "k", needs="init")
def destroy_dataset(dataset):
    return 0 if world.destroy("dataset", dataset) else INVALID_PARAM


@call("mdl.add_dataset_buffer", "kk", needs="init", form="value")
def add_dataset_buffer(dataset, buffer):
    found = world.get("dataset", dataset)
    if found is None or world.get("buffer", buffer) is None:
        return 0, INVALID_PARAM
    found.append(buffer)
    return dataset, 0


def _set_profile(model, dataset, index, profile, known, code):
    found, buffers = world.get("model", model), world.get("dataset", dataset)
    if found is None or buffers is None or not 0 <= index < len(found.inputs):
        return INVALID_PARAM
    if found.inputs[index].name != om.PROFILE_INPUT or profile not in known(found):
        return code
    world.profiles[dataset] = profile
    return 0


@call("mdl.set_dynamic_batch_size", "IkkK")
def set_dynamic_batch_size(model, dataset, index, batch):
    return _set_profile(model, dataset, index, (batch,), lambda m: [(b,) for b in m.batches], BAD_BATCH)


@call("mdl.set_dynamic_hw_size", "IkkKK")
def set_dynamic_hw_size(model, dataset, index, height, width):
    return _set_profile(model, dataset, index, (height, width), lambda m: m.sizes, BAD_SHAPE)


@call("mdl.execute", "Ikk")
def execute(model, inputs, outputs):
    found = world.get("model", model)
    sets = [world.get("dataset", d) for d in (inputs, outputs)]
    if found is None or None in sets or [len(s) for s in sets] != [len(found.inputs), len(found.outputs)]:
        return INVALID_PARAM
    blocks = []
    for buffers, ports in zip(sets, (found.inputs, found.outputs), strict=True):
        described = [world.get("buffer", b) for b in buffers]
        if None in described or any(d[1] != p.size for d, p in zip(described, ports, strict=True)):
            return INVALID_PARAM
        blocks.append([world.holding(*d) for d in described])
        if any(b is None for b in blocks[-1]):
            world.violation("acl.mdl.execute with a buffer on memory that was given back")
            return INVALID_PARAM
    profile = world.profiles.pop(inputs, None)
    if found.profiles and profile is None:
        return BAD_BATCH
    if model in world.busy:
        world.violation("acl.mdl.execute of a model that another thread executes, with the same buffers")
    world.busy.add(model)
    world.executed.append(profile)
    time.sleep(world.delay)
    results = om.compute(found, blocks[0], profile)
    world.busy.discard(model)
    for port, block, result in zip(found.outputs, blocks[1], results, strict=True):
        data = np.ascontiguousarray(result, port.dtype).reshape(-1).view(np.uint8)
        block[: len(data)] = data
        found.shapes[port.name] = result.shape
    return 0
