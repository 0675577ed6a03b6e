"""``python -m shohin.costs.fit cortex-m55``: counts the sample networks anew and writes the package's table; ``host`` for this processor's.

Needed when kernels change. ``--networks`` says how many (the package's table has 300); half a minute for ten.
"""

from __future__ import annotations

import argparse

from shohin.costs.tables import HOST_NETWORKS, board_path, host_path, observed


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m shohin.costs.fit", description=__doc__)
    parser.add_argument("device", help="a board that an emulator runs, or host")
    parser.add_argument("--networks", type=int, default=None)
    asked = parser.parse_args()
    host = asked.device == "host"
    count = asked.networks or (HOST_NETWORKS if host else 300)
    table = observed(asked.device, range(count), lambda seed, steps: print(f"network {seed}: {steps} steps", flush=True))
    path = host_path() if host else board_path(asked.device)
    table.save(path)
    print(f"{path}: {len(table.rows)} different steps")


if __name__ == "__main__":
    main()
