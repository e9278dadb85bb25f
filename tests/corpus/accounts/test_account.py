"""Counts that do not add up are never reported."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from groundup.corpus.accounts.account import Account, Samples, escaped, summed

FATES = st.sampled_from(["rejected", "filtered", "contaminated", "exact", "near", "kept"])
STEPS = st.lists(st.tuples(FATES, st.integers(0, 1 << 28)), max_size=40)


def account_of(steps):
    account = Account()
    for step, size_bytes in steps:
        if step == "rejected":
            account.reject("reason", 3)
            continue
        account.load(size_bytes)
        if step == "filtered":
            account.filter("reason", size_bytes)
        elif step == "kept":
            account.keep(1, size_bytes)
        elif step == "contaminated":
            account.contaminate(size_bytes)
        else:
            account.drop_duplicates(step, 1, size_bytes)
    return account


@given(st.lists(STEPS, max_size=5))
def test_sums_of_accounts_add_up_and_survive_json(several):
    accounts = [account_of(steps) for steps in several]
    total = summed(accounts)
    total.check("all")
    assert total.total == sum(account.total for account in accounts)
    assert total.bytes.loaded == sum(size for steps in several for fate, size in steps if fate != "rejected")
    assert Account.from_json(total.to_json()) == total


@pytest.mark.parametrize("unit", ["documents", "bytes"])
def test_what_is_lost_is_noticed(unit):
    account = account_of([("kept", 5), ("filtered", 7)])
    account.keep(-1, 0) if unit == "documents" else account.keep(0, -1)
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
