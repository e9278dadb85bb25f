"""Where the tasks of a stage run; it changes only time and place.

engine.py      what an engine is, and the one that `runtime:` names
processes.py   this machine                             cluster.py, cluster_nodes.py  Ray, and what its nodes must have
"""
