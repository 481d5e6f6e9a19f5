"""All families that edgepose knows, and which one a checkpoint belongs to."""

from __future__ import annotations

import difflib
import functools
import importlib

import numpy as np

from ..errors import ArchitectureError
from .base import Arrays, BuildOptions, Family, Network
from .fit import Fit, fit
from .likeness import looks_like

#: Modules of this package that list families.
MODULES = (
    "gluoncv_simple_pose",
    "gluoncv_mobile_pose",
    "gluoncv_alpha_pose",
    "mindspore_simple_pose",
    "pose_resnet",
    "hrnet",
    "rtmpose",
    "lightweight_openpose",
    "aimet_pose",
)

#: Below this share of agreeing arrays, naming a nearest architecture would mislead.
_LIKE = 0.05


@functools.cache
def families() -> tuple[Family, ...]:
    """All families; their modules are loaded by the first call."""
    package = __name__.rpartition(".")[0]
    return tuple(family for module in MODULES for family in importlib.import_module(f".{module}", package).FAMILIES)


def architectures() -> dict[str, str]:
    """Every name that ``--architecture`` takes -> one line that says where such checkpoints come from."""
    return {name: family.description for family in families() for name in family.architectures}


def identify(arrays: Arrays) -> tuple[Family, str] | None:
    """Family and architecture that the arrays look like, by their names and shapes; None if there is none."""
    return _identify(_weights_only(arrays))


def examine(arrays: Arrays, architecture: str | None = None, options: BuildOptions | None = None) -> Fit:
    """Which architecture the arrays have, and how well they fit it, without building a graph.

    Parameters
    ----------
    arrays
        Name -> array of a checkpoint.
    architecture
        Its architecture; None to tell it from the arrays.
    options
        How the graph would be built.

    Raises
    ------
    ArchitectureError
        If the architecture is unknown, or cannot be told.
    """
    arrays = _weights_only(arrays)
    return fit(*_family_of(arrays, architecture), arrays, options)


def build_network(arrays: Arrays, architecture: str | None = None, options: BuildOptions | None = None) -> Network:
    """Build the graph and contract of a checkpoint's network.

    Parameters
    ----------
    arrays
        Name -> array of a checkpoint.
    architecture
        Its architecture; None to tell it from the arrays.
    options
        How the graph is to be built.

    Raises
    ------
    ArchitectureError
        If the architecture is unknown or cannot be told, or if arrays are missing, mis-shaped or left over: all of
        them in one table.
    """
    arrays = _weights_only(arrays)
    family, name = _family_of(arrays, architecture)
    # Before anything is built: what is missing takes memory as well, and a hostile file can miss a lot.
    found = fit(family, name, arrays, options)
    if found.mismatch.count:
        raise _misfit(found, arrays)
    return family.build(name, arrays, options or BuildOptions())


def _identify(arrays: Arrays) -> tuple[Family, str] | None:
    found = [(f, name) for f in families() if (name := f.recognise(arrays)) is not None]
    if len(found) < 2:
        return found[0] if found else None
    return min(found, key=lambda pair: fit(pair[0], pair[1], arrays).mismatch.count)


def _family_of(arrays: Arrays, architecture: str | None) -> tuple[Family, str]:
    if architecture is None:
        found = _identify(arrays)
        if found is None:
            raise _unknown(arrays)
        return found
    for family in families():
        if architecture in family.architectures:
            return family, architecture
    near = difflib.get_close_matches(architecture, architectures(), n=3)
    raise ArchitectureError(
        f"There is no architecture '{architecture}'." + (f" Did you mean {' or '.join(near)}?" if near else ""),
        hint="'edgepose models' lists them.",
    )


def _misfit(found: Fit, arrays: Arrays) -> ArchitectureError:
    best = _nearest(arrays)
    hint = None
    if best is not None and best.architecture != found.architecture and best.mismatch.count < found.mismatch.count:
        hint = f"The nearest architecture is '{best.architecture}' ({best.mismatch.summary()})."
        if not best.mismatch.count:
            hint = f"These are the arrays of '{best.architecture}': use --architecture {best.architecture}"
    return ArchitectureError(
        f"The arrays do not fit '{found.architecture}' of the family '{found.family}':"
        f" {found.mismatch.summary()}.\n{found.mismatch.table()}",
        hint=hint or "The file may be incomplete, or the network was changed before it was trained.",
    )


def _unknown(arrays: Arrays) -> ArchitectureError:
    total = sum(int(np.prod(a.shape, dtype=np.float64)) for a in arrays.values())
    lines = [f"This is none of the pose networks that edgepose builds: {len(arrays)} arrays, {total:,} parameters."]
    if words := looks_like(arrays):
        lines.append(f"It looks like {words}.")
    elif arrays:
        lines.append(f"Its names begin with {', '.join(map(repr, list(arrays)[:3]))}.")
    hint = "'edgepose models' lists the architectures; one that is known to fit can be given with --architecture."
    best = _nearest(arrays)
    if best is not None:
        lines.append(_comparison(best, arrays))
    return ArchitectureError("\n".join(lines), hint=hint)


def _comparison(best: Fit, arrays: Arrays) -> str:
    count = len(best.expected)
    if best.likeness() >= _LIKE:
        return (
            f"Nearest is '{best.architecture}' of the family '{best.family}': {best.matching} of its {count} arrays"
            f" are here under the same names ({best.mismatch.summary()}).\n{best.mismatch.table(limit=10)}"
        )
    share = best.likeness_of_shapes(arrays)
    return (
        f"Nearest is '{best.architecture}' of the family '{best.family}': the names are others, {share:.0%} of the"
        " shapes agree."
    )


def _nearest(arrays: Arrays) -> Fit | None:
    """The architecture with which the most arrays agree, by names or else by shapes; None if hardly any do."""
    fits = [fit(family, name, arrays) for family in families() for name in family.architectures]
    best = max(fits, key=Fit.likeness)
    if best.likeness() >= _LIKE:
        return best
    best = max(fits, key=lambda f: f.likeness_of_shapes(arrays))
    return best if best.likeness_of_shapes(arrays) >= _LIKE else None


def _weights_only(arrays: Arrays) -> Arrays:
    """The arrays without those that no network computes with.

    They are PyTorch's counts of training steps, and the statistics of mmpose's preprocessing, which the spec holds.
    """
    return {
        name: array
        for name, array in arrays.items()
        if not name.endswith("num_batches_tracked") and not name.startswith("data_preprocessor.")
    }
