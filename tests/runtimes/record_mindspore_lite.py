"""Records the interface of MindSpore Lite: run by a Python that has it, 3.7 for 2.0.0, it prints the record as JSON.

python3.7 record_mindspore_lite.py > stand_ins/mindspore_lite_2.0.0.json
"""

import json
import re

import mindspore_lite as lite


def public(thing):
    return [name for name in dir(thing) if not name.startswith("_")]


context = lite.Context()
modes = type(context.ascend).precision_mode.fset.__doc__
record = {
    "version": lite.__version__,
    "Context": public(context),
    "Context.cpu": public(context.cpu),
    "Context.ascend": public(context.ascend),
    "ascend.precision_mode": sorted(set(re.findall(r'- "(\w+)"', modes))),
    "Model": public(lite.Model),
    "Tensor": public(lite.Tensor),
    "Converter": public(lite.Converter),
    "DataType": {t.name: t.value for t in lite.DataType},
    "ModelType": {t.name: t.value for t in lite.ModelType},
    "FmkType": {t.name: t.value for t in lite.FmkType},
}
print(json.dumps(record, indent=1, sort_keys=True))
