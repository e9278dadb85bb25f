"""Counts that do not add up are never reported."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from groundup.corpus.account import Account, Samples, escaped, summed

STEPS = st.lists(st.sampled_from(["rejected", "filtered", "exact", "near", "kept"]), max_size=40)


def account_of(steps):
    account = Account()
    for step in steps:
        if step == "rejected":
            account.reject("reason", 3)
            continue
        account.load()
        if step == "filtered":
            account.filter("reason")
        elif step == "kept":
            account.kept += 1
        else:
            account.duplicates[step] += 1
    return account


@given(st.lists(STEPS, max_size=5))
def test_sums_of_accounts_add_up_and_survive_json(several):
    accounts = [account_of(steps) for steps in several]
    total = summed(accounts)
    total.check("all")
    assert total.total == sum(account.total for account in accounts)
    assert Account.from_json(total.to_json()) == total


def test_a_lost_record_is_noticed():
    account = account_of(["kept", "filtered"])
    account.kept -= 1
    with pytest.raises(AssertionError, match=r"the account of file\.txt does not add up"):
        account.check("file.txt")


def test_samples_are_few_short_and_escaped():
    samples = Samples()
    for number in range(10):
        samples.add("rejected", "odd", "s/f", number, "\x1b[2J\n\u202e\udcff<b>" + "x" * 1000)
    (first, *others) = samples.values["rejected"]["odd"]
    assert len(others) == 2
    assert first["excerpt"].startswith("\\x1b[2J\\n\\u202e\\udcff<b>xxx")
    assert len(first["excerpt"]) < 200
    assert escaped("plain") == "plain"
    merged = Samples(samples.values)
    merged.add_all(samples.values)
    assert merged.values == samples.values
