"""Benchmarks: a file of records and some lines of a recipe -> figures with standard errors.

config.py     what a recipe says             templates.py   record -> text            records.py  files -> records
forms.py      records of well-known sets     items.py       question and answers      shots.py    solved examples
choices.py    tasks that compare options     generation.py  tasks that write          kinds.py    what a task does
likelihood.py options -> log-probabilities   stopping.py    texts that end an answer  measure.py  all of it together
"""
