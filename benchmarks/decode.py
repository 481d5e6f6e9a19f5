"""edgepose's decoders beside plain implementations of the original algorithms, in one run.

    python benchmarks/decode.py

Part affinity fields against a plain re-implementation of Lightweight OpenPose's algorithm; heatmaps and SimCC against
loops over the joints.  Both sides must find the same before they are timed.
"""

from __future__ import annotations

import decode_openpose
import decode_topdown


def main() -> None:
    """Measure and print a table."""
    print(f"{'decoder':<48} {'edgepose ms':>12} {'plain ms':>10} {'ratio':>7}")
    fields = [
        (f"part affinity fields, {r['people']} people", r["edgepose_ms"], r["plain_ms"]) for r in decode_openpose.rows()
    ]
    for name, ours, plain in (*fields, *decode_topdown.rows()):
        print(f"{name:<48} {ours:12.2f} {plain:10.2f} {plain / ours:7.1f}")


if __name__ == "__main__":
    main()
