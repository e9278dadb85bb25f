"""datasketch: MinHash of word shingles in batches, its LSH with the given bands, union-find over pairs by estimate."""

from __future__ import annotations

import json
import re
import sys
import time

from datasketch import MinHash, MinHashLSH

WORD = re.compile(r"\w+")


def shingles(text: str, size: int) -> list[bytes]:
    """Runs of words in lower case."""
    words = WORD.findall(text.lower())
    return [" ".join(words[i : i + size]).encode() for i in range(max(1, len(words) - size + 1))]


def main() -> None:
    """One job (JSON) -> one JSON line."""
    job = json.loads(sys.argv[1])
    num_perm = job["bands"] * job["rows"]
    started = time.process_time()
    with open(job["input"], encoding="utf-8") as lines:
        sets = (shingles(json.loads(line)["text"], job["shingle_words"]) for line in lines)
        signatures = MinHash.bulk(sets, num_perm=num_perm)
    signed = time.process_time()
    index = MinHashLSH(num_perm=num_perm, params=(job["bands"], job["rows"]))
    parent = list(range(len(signatures)))

    def find(number: int) -> int:
        while parent[number] != number:
            parent[number] = parent[parent[number]]
            number = parent[number]
        return number

    for number, signature in enumerate(signatures):
        for other in index.query(signature):
            if signature.jaccard(signatures[other]) >= job["threshold"]:
                parent[find(number)] = find(other)
        index.insert(number, signature)
    clusters = [find(number) for number in range(len(signatures))]
    ended = time.process_time()
    result = {"signature_seconds": signed - started, "clustering_seconds": ended - signed, "clusters": clusters}
    print(json.dumps(result))


if __name__ == "__main__":
    main()
