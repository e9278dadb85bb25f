"""Texts beside references -> numbers; each file one family of rules.

squad.py       exact match and F1 of answers (SQuAD)      cmrc.py         the same of Chinese (CMRC 2018)
rouge.py       words, pairs and subsequences in common    translation.py  BLEU and chrF by sacrebleu
sums.py        the final answer of a calculation          bootstrap.py    errors of scores of a whole set
unwanted.py    words of a list
"""
