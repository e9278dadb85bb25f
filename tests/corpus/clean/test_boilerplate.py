"""Publishers', licences' and web pages' lines go; the text between them stays to the letter."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from groundup.corpus.clean.boilerplate import BoilerplateConfig, boilerplate
from groundup.corpus.clean.text import Text

BODY = "CHAPTER I.\n\nIt was the first of May, and the sun stood over the hills.\n\nTHE END."
HEAD = "The Project Gutenberg EBook of A Book, by Someone\n\nThis eBook is for the use of anyone anywhere.\n\n"
MIT = (
    "Permission is hereby granted, free of charge, to any person obtaining a copy\nof this software, to deal in it\n"
    "THE SOFTWARE IS PROVIDED AS IS\nOTHER DEALINGS IN THE SOFTWARE."
)


@pytest.mark.parametrize("verb", ["THE", "THIS"])
def test_gutenberg_frame_goes(run, verb):
    text = (
        f"{HEAD}*** START OF {verb} PROJECT GUTENBERG EBOOK A BOOK ***\n\n\nProduced by A. Volunteer\nand others\n\n\n"
        f"{BODY}\n\n\nEnd of the Project Gutenberg EBook of A Book, by Someone\n\n"
        f"*** END OF {verb} PROJECT GUTENBERG EBOOK A BOOK ***\n\nUpdated editions will replace the previous one.\n"
    )
    cleaned, changes = run(text, boilerplate={})
    assert cleaned.strip() == BODY
    assert changes.edits == {"boilerplate: Gutenberg headers": 1, "boilerplate: Gutenberg footers": 2}


def test_two_books_in_one_text_both_stay(run):
    book = (
        "*** START OF THE PROJECT GUTENBERG EBOOK {n} ***\nbook {n}\n*** END OF THE PROJECT GUTENBERG EBOOK {n} ***\n"
    )
    cleaned, _ = run(HEAD + book.replace("{n}", "1") + "licence\n" + book.replace("{n}", "2"), boilerplate={})
    assert cleaned == "book 1\nbook 2"


def test_a_book_about_gutenberg_stays(run):
    text = "Project Gutenberg was founded by Michael Hart.\n" + BODY
    assert run(text, boilerplate={})[0] == text


def test_licence_blocks_go_with_their_comment_signs(run):
    code = "int main() { return 0; }\n"
    commented = "".join(f" * {line}\n" for line in MIT.split("\n"))
    assert run(f"/*\n{commented} */\n{code}", boilerplate={})[0] == f"/*\n */\n{code}"
    assert run(f"{MIT}\n{code}", boilerplate={"licences": False})[0] == f"{MIT}\n{code}"
    half = "Permission is hereby granted, free of charge, to quote this text.\n" + BODY
    assert run(half, boilerplate={})[0] == half


def test_what_follows_a_licence_in_its_line_stays(run):
    licence = "This work is licensed under a Creative Commons Attribution 4.0 International License."
    thanks = "The author thanks the people of the valley, who told him all that he knows of the river."
    assert run(f"{BODY}\n{licence} {thanks}", boilerplate={})[0] == f"{BODY}\n{thanks}"
    far = "This work is licensed under a Creative Commons deed.\n" + 50 * f"{thanks}\n" + "Ask for a License."
    assert run(far, boilerplate={})[0] == far


@pytest.mark.parametrize(
    "line",
    [
        "Copyright © 2019 Example Ltd. All rights reserved.",
        "# Copyright (c) 2015 The Authors",
        "版权所有 © 2020 某某公司，未经授权不得转载",
        "We use cookies to improve your experience; by continuing to browse you agree to our cookie policy.",
        "Sign up for our newsletter",
        "Share on Facebook",
        "Skip to main content",
        "当サイトではcookieを使用しています",
        "责任编辑：张三",
    ],
)
def test_single_lines_go(run, line):
    cleaned, changes = run(f"{BODY}\n{line}\nThe last line.", boilerplate={})
    assert cleaned == f"{BODY}\nThe last line."
    assert sum(changes.edits.values()) == 1


@pytest.mark.parametrize(
    "line",
    [
        "She baked cookies for the whole village.",
        "The law of copyright protects the author for seventy years after death, in most countries.",
        "We share our bread with the poor.",
        "The pin fell to the floor.",
        "He signed in silence and left.",
    ],
)
def test_text_that_speaks_of_such_things_stays(run, line):
    assert run(f"{BODY}\n{line}", boilerplate={})[0] == f"{BODY}\n{line}"


@given(
    st.lists(
        st.sampled_from([MIT, HEAD, BODY, "Share on X", "*** END OF THE PROJECT GUTENBERG EBOOK X ***"]), max_size=6
    )
)
def test_only_whole_lines_go(parts):
    text = "\n".join(parts)
    outcome = boilerplate(BoilerplateConfig(), Text(text))
    if outcome:
        assert set(outcome.string.split("\n")) <= {*text.split("\n"), ""}
