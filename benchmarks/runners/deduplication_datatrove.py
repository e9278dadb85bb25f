"""datatrove's MinHash pipeline (signature, buckets, cluster) over a file of JSON lines, in one process.

`words` of the job: `default` is its English tokenizer (spaCy), `split` cuts at white space, which its normal form
(without punctuation) allows and which is the fastest that can be given to it.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from datatrove.pipeline.dedup.minhash import (
    MinhashConfig,
    MinhashDedupBuckets,
    MinhashDedupCluster,
    MinhashDedupSignature,
)
from datatrove.pipeline.readers import JsonlReader
from datatrove.utils.word_tokenizers import WordTokenizer
from loguru import logger


class Split(WordTokenizer):
    """Words between white space."""

    def word_tokenize(self, text: str) -> list[str]:
        """All words of a text."""
        return text.split()

    def sent_tokenize(self, text: str) -> list[str]:
        """Not asked for."""
        raise NotImplementedError

    def span_tokenize(self, text: str) -> list[tuple[int, int]]:
        """Not asked for."""
        raise NotImplementedError


def main() -> None:
    """One job (JSON) -> one JSON line."""
    logger.remove()
    job = json.loads(sys.argv[1])
    work, path = Path(job["work"]), Path(job["input"])
    config = MinhashConfig(n_grams=job["shingle_words"], num_buckets=job["bands"], hashes_per_bucket=job["rows"])
    language: Any = Split() if job["words"] == "split" else "eng"
    started = time.process_time()
    documents = JsonlReader(str(path.parent), glob_pattern=path.name).run(None, 0, 1)
    count = 0

    def counted() -> Any:
        nonlocal count
        for document in documents:
            count += 1
            yield document

    MinhashDedupSignature(str(work / "signatures"), config, language).run(counted(), 0, 1)
    signed = time.process_time()
    for bucket in range(job["bands"]):
        step = MinhashDedupBuckets(str(work / "signatures"), str(work / "pairs"), config=config)
        step.run(None, bucket, job["bands"])
    MinhashDedupCluster(str(work / "pairs"), str(work / "clusters"), config, save_cluster_id=True).run(None, 0, 1)
    ended = time.process_time()
    clusters = list(range(-1, -count - 1, -1))
    for found in (work / "clusters").glob("*.clusters"):
        for document, cluster in np.fromfile(found, dtype="<u4").reshape(-1, 2).tolist():
            clusters[document] = cluster
    result = {"signature_seconds": signed - started, "clustering_seconds": ended - signed, "clusters": clusters}
    print(json.dumps(result))


if __name__ == "__main__":
    main()
