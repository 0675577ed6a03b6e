"""``make bench``: every question in turn; raw numbers into ``bench/results/``."""

from __future__ import annotations

import datetime
import json
from pathlib import Path

from bench import train_step

RESULTS = Path(__file__).parent / "results"

if __name__ == "__main__":
    RESULTS.mkdir(exist_ok=True)
    for question in (train_step,):
        found = question.main()
        found["date"] = datetime.date.today().isoformat()
        (RESULTS / f"{found['question']}.json").write_text(json.dumps(found, indent=1) + "\n")
