"""Evaluation sets -> which documents hold texts of them.

evaluation_sets.py  files -> examples                   ngrams.py      their texts -> index
decontaminate.py    document -> sets it holds texts of  measure.py     sets -> what the finished corpus holds of them
"""
