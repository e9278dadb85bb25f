"""Documents of all segments -> which are duplicates of which, in steps over sorted runs on disk.

shingles.py    text -> hashes of its words              signatures.py  hashes -> MinHash signature -> band keys
runs.py        sorted records on disk                   steps.py       tasks over ranges of their keys
near.py        buckets -> pairs                         shingle_store.py  the sets of documents in pairs
components.py  pairs -> clusters, star by star          groups.py      cluster -> the document that is kept
deduplicate.py the whole                                cluster_sizes.py  how many duplicates hang together
hashing.py     mixing of 64-bit numbers
"""
