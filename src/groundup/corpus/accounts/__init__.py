"""What became of every record: counts that add up, what the kept text is.

account.py     counts of records and bytes              additions.py   what augmentation added
histograms.py  kept text by length, script, language    share.py       what one source has of it all
scripts.py     text -> its script                       labels.py      names -> numbers that fit into rows
"""
