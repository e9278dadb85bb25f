"""What happened to one record: read again, cleaned again, looked up.

locate.py      id -> raw record                         explainer.py   what happened to it
lookup.py      a document of the finished corpus by id  listing.py     duplicates and what is kept for them
differences.py two versions of a text, shortened        explained.py   the same in lines for people
"""
