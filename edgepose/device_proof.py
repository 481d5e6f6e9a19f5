"""The proof on a device: convert small networks to what it runs, run golden frames there, compare in pixels, time it.

One network of each decoder family goes through each target and precision.  What is compared with is the FP32 graph in
ONNX Runtime on the CPU; the tolerances are those of the self-test at load (:mod:`.selftest`).
"""

from __future__ import annotations

import math
import platform
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from . import __version__
from .anonymous import Anonymiser
from .artifact import resolve
from .conversion import convert
from .device_networks import ProvingNetwork, proving_networks
from .devices import AUTO, Device, detect, device_names, parse_device, steps
from .errors import DeviceError, EdgePoseError, InputError, PluginError
from .evaluation.parity import Parity, compare
from .evaluation.parity_people import look_at_golden, recorded
from .evaluation.timing import median_ms
from .golden import GOLDEN, read_golden
from .loading import load
from .plugins import Probe, converter, converters, runtime, runtimes
from .selftest import TENSOR_TOLERANCE, TOLERANCE, problem

FORMAT, VERSION = "edgepose-device-test", 1
#: Tested where the target has them; int8 needs pictures of the user's own.
PRECISIONS = ("fp32", "fp16")
#: Packages whose versions decide what happens.
_PACKAGES = ("numpy", "onnx", "onnxruntime", "opencv-python-headless")

PASSED, FAILED, SKIPPED, RUNNING = "passed", "failed", "skipped", "running"


@dataclass
class Case:
    """One network on one target.

    Attributes
    ----------
    target, precision
        What it was converted to.
    network, decoder
        Which one; empty where a target as a whole is skipped.
    status
        ``passed``, ``failed``, ``skipped``, or ``running`` in a report that was cut off.
    placement
        What ran it, and on what, as read back from the engine.
    pixels
        ``max``, ``p99`` and ``mean`` of the joints' distances in pixels of the picture, None where not finite; None if
        it did not run.
    compared, moved
        Joints that were compared, and how many of them moved by more than the tolerance.
    tensors
        Largest error of each output, as a part of its largest value.
    ms
        Median milliseconds of a run of the engine.
    size
        Bytes of the engine and its data.
    seconds
        How long conversion and test took.
    tools
        Versions of what converted it.
    error, remedy
        What went wrong or is missing, and what mends it.
    """

    target: str
    precision: str
    network: str = ""
    decoder: str = ""
    status: str = RUNNING
    placement: str = ""
    pixels: dict[str, float | None] | None = None
    compared: int = 0
    moved: int = 0
    tensors: dict[str, float | None] = field(default_factory=dict)
    ms: float | None = None
    size: int | None = None
    seconds: float | None = None
    tools: dict[str, str] = field(default_factory=dict)
    error: str = ""
    remedy: str = ""


@dataclass
class Report:
    """What a test of a device found.

    Attributes
    ----------
    device
        The device.
    planned
        How many cases there will be.
    cases
        Those that were skipped, then those that ran, in the order in which they did.
    """

    device: Device
    planned: int
    cases: list[Case] = field(default_factory=list)

    def count(self, status: str) -> int:
        """How many cases ended so."""
        return sum(c.status == status for c in self.cases)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON, without anything that tells whose machine it is."""
        seen = detect(self.device.name)
        data = {
            "format": FORMAT,
            "version": VERSION,
            "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "edgepose": __version__,
            "python": platform.python_version(),
            # Not platform.uname() as a whole: it has the machine's name in it.
            "platform": " ".join(
                (platform.system(), platform.release(), platform.machine(), *filter(None, platform.libc_ver()))
            ),
            "packages": {name: found for name in _PACKAGES if (found := _version(name))},
            "device": {
                "name": self.device.name,
                "index": self.device.index,
                "evidence": seen.evidence,
                "steps": [asdict(step) for step in steps(self.device.name)],
            },
            "tolerance": {"pixels": TOLERANCE, "tensors": TENSOR_TOLERANCE},
            "planned": self.planned,
            "summary": {status: self.count(status) for status in (PASSED, FAILED, SKIPPED, RUNNING)},
            "cases": [asdict(case) for case in self.cases],
        }
        made: dict[str, Any] = Anonymiser().data(data)
        return made


def choose_device(text: str, name: str | None = None) -> Device:
    """The device that a test runs on; ``auto`` is the first that is here and that an installed runtime can use.

    Raises
    ------
    DeviceError
        If it is not here.
    """
    asked = parse_device(text)
    if asked.name != AUTO:
        seen = detect(asked.name)
        if not seen.found:
            raise DeviceError(
                f"There is no {asked.name} here (looked for {seen.looked_for}). {seen.remedy}",
                hint=f"What is missing says: edgepose doctor --device {asked.name}",
            )
        return asked
    for kind in device_names():
        if detect(kind).found and any(p.available for p in _runtimes_of(kind, name).values()):
            return Device(kind)
    raise DeviceError("No device here can be used by an installed runtime.", hint="See: edgepose doctor")


def plan(
    device: Device, name: str | None = None, targets: Sequence[str] = (), precisions: Sequence[str] = ()
) -> tuple[list[tuple[str, str]], list[Case]]:
    """Which targets and precisions can be tested, and which cannot and why.

    Parameters
    ----------
    device
        The device.
    name
        Runtime to use; None for any.
    targets
        Targets to test; all that the device's runtimes open if none are given.
    precisions
        Precisions to test; :data:`PRECISIONS` if none are given.

    Raises
    ------
    PluginError
        If there is no such runtime.
    InputError
        If no runtime opens one of the targets on that device.
    """
    probes = _runtimes_of(device.name, name)
    opened = {t: [n for n in probes if t in runtime(n).targets] for n in probes for t in runtime(n).targets}
    unknown = next((t for t in targets if t not in opened), None)
    if unknown is not None or not opened:
        who = f"The runtime '{name}' opens no" if name else "No installed runtime opens"
        raise InputError(
            f"{who} {'engine' if unknown is None else repr(unknown)} on {device.name}.",
            hint=f"On {device.name} it can be: {', '.join(sorted(opened))}." if opened else "See: edgepose doctor",
        )
    pairs: list[tuple[str, str]] = []
    skipped: list[Case] = []
    for target in targets or sorted(opened):
        wanted = precisions or PRECISIONS
        missing = _obstacle(target, [probes[n] for n in opened[target]])
        if missing is not None:
            skipped += [Case(target, p, status=SKIPPED, error=missing[0], remedy=missing[1]) for p in wanted]
            continue
        for precision in wanted:
            if precision not in converter(target).precisions:
                skipped.append(Case(target, precision, status=SKIPPED, error=f"'{target}' has no {precision}"))
            elif precision == "int8" and converter(target).scheme is not None:
                remedy = "Convert with --precision int8 --calibration PICTURES, then: edgepose verify BUNDLE"
                skipped.append(Case(target, precision, status=SKIPPED, error="int8 needs pictures", remedy=remedy))
            else:
                pairs.append((target, precision))
    return pairs, skipped


def prove_device(
    device: Device,
    pairs: Sequence[tuple[str, str]],
    skipped: Sequence[Case] = (),
    name: str | None = None,
    *,
    networks: Sequence[ProvingNetwork] | None = None,
    on_case: Callable[[Report], None] = lambda report: None,
) -> Report:
    """Convert, run and compare every network in every target and precision.

    Parameters
    ----------
    device, name
        Where, and with which runtime.
    pairs, skipped
        As :func:`plan` gives them.
    networks
        The networks; all of :func:`.device_networks.proving_networks` by default.
    on_case
        Told before and after each case: the last case of the report is running, or done.  A report that is written
        each time tells, if a vendor's library ends the process, in which case it did.
    """
    networks = proving_networks() if networks is None else networks
    report = Report(device, len(skipped) + len(networks) * len(pairs), list(skipped))
    with tempfile.TemporaryDirectory(prefix="edgepose-") as place:
        folder = Path(place)
        for network in networks:
            graph = network.write(folder)
            for target, precision in pairs:
                case = Case(target, precision, network.name, network.decoder)
                report.cases.append(case)
                on_case(report)
                began = time.perf_counter()
                try:
                    _run(case, graph, network, folder / "bundle", device, name)
                except EdgePoseError as error:
                    case.status, case.error, case.remedy = FAILED, error.message, error.hint or ""
                except Exception as error:  # a vendor's library may fail in any way, and the others shall still run
                    case.status, case.error = FAILED, f"{type(error).__name__}: {error}"
                case.seconds = time.perf_counter() - began
                on_case(report)
    return report


def _run(case: Case, graph: Path, network: ProvingNetwork, folder: Path, device: Device, name: str | None) -> None:
    bundle = convert(graph, case.target, output=folder, precision=case.precision, input_size=network.input_size)
    case.tools = dict(bundle.manifest.tools)
    case.size = sum(length for file, (length, _) in bundle.manifest.files.items() if file != GOLDEN)
    frames = read_golden(bundle.path(GOLDEN))
    artifact = resolve(bundle)
    with load(artifact, device=str(device), runtime=name, detector=None, self_test=False) as estimator:
        stage = estimator.stages[-1]
        case.placement = stage.session.placement
        results = [
            compare(recorded(stage.spec, stage.decoder, f), look_at_golden(stage, f), f"golden frame {i}")
            for i, f in enumerate(frames)
        ]
        case.ms = median_ms(stage, frames[0].pixels)
    parity, tolerance = Parity(results), TOLERANCE[case.precision]
    case.pixels = {"max": _plain(parity.max), "p99": _plain(parity.p99), "mean": _plain(parity.mean)}
    case.compared = len(parity.shifts)
    case.moved = int((parity.shifts > tolerance).sum())
    case.tensors = {role: _plain(max(r.tensors[role].relative for r in results)) for role in results[0].tensors}
    case.error = problem(results, tolerance, TENSOR_TOLERANCE[case.precision], len(estimator.keypoint_set))
    case.status = FAILED if case.error else PASSED


def _runtimes_of(kind: str, name: str | None) -> dict[str, Probe]:
    """Installed runtimes for a kind of device, and what each says about it."""
    found = {}
    for each in [name] if name is not None else list(runtimes()):
        try:
            loaded = runtime(each)
        except PluginError:
            if name is not None:
                raise
            continue  # doctor tells which cannot be loaded
        if kind in loaded.devices:
            found[each] = loaded.probe(kind)
    return found


def _obstacle(target: str, probes: Sequence[Probe]) -> tuple[str, str] | None:
    """What is missing for a target and what mends it; None if nothing is."""
    if target not in converters():
        return f"no installed converter writes '{target}'", "pip install --upgrade edgepose"
    for kind, found in (("runtime", list(probes)), ("converter", [converter(target).probe()])):
        if not any(p.available for p in found):
            return f"the {kind} is missing: {found[0].looked_for}", found[0].remedy
    return None


def _plain(value: float) -> float | None:
    """A number for JSON, which has no infinity."""
    return value if math.isfinite(value) else None


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""
