"""lm-eval with Groundup's model in the evaluation benchmark: the peers' lm-eval, in this environment's Python."""

from __future__ import annotations

import json
import sys
from pathlib import Path

if __name__ == "__main__":
    # Behind everything else, so that what both environments have is this one's.
    sys.path += [str(path) for path in (Path(__file__).parents[1] / ".venv-peers").glob("lib/python3*/site-packages")]
    from benchmarks.runners.evaluation_lm_eval import measure

    import groundup.harness  # noqa: F401 - it registers the model type

    job = json.loads(sys.argv[1])
    measure(job, "groundup", {"folder": job["model"]})
