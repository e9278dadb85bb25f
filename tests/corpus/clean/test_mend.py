"""Characters are mended where it is sure how, and left alone elsewhere."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("ftfy", reason="the extra `data` is not installed")

CHINESE = "中国人民的生活水平不断提高"


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("naïve café — “quoted”", "naÃ¯ve cafÃ© â€” â€œquotedâ€\x9d"),
        ("schön", "schÃ¶n"),
        (CHINESE, CHINESE.encode("gb18030").decode("latin-1")),
        ("学习语言模型", "学习语言模型".encode().decode("gb18030")),
        (f"see {CHINESE} there", f"see {CHINESE.encode('gb18030').decode('latin-1')} there"),
        (CHINESE, CHINESE.encode().decode("latin-1")),
    ],
)
def test_mojibake_is_undone(run, right, wrong):
    text, changes = run(f"good line\n{wrong}\n", mojibake=True)
    assert text == f"good line\n{right}\n"
    assert changes.edits["mojibake: lines"] == 1


@pytest.mark.parametrize(
    "text",
    [
        "Ça va? Où est-il? Ñandú ÄÖÜß",
        "春眠不觉晓，处处闻啼鸟。",
        "日本語の文章です。",
        "한국어",
        "ÆØÅ æøå",
        "1 € = 5 ¤",
    ],
)
def test_good_text_is_no_mojibake(run, text):
    assert run(text, mojibake=True)[0] == text


@given(text=st.text(st.sampled_from("aé中國Ã¤â€™锟斤拷¶ÖÐ¹ú涓浗。 \n"), min_size=1, max_size=30))
def test_mending_twice_changes_nothing(text):
    from groundup.corpus.clean.mend import mojibake
    from groundup.corpus.clean.text import Text

    once = mojibake(Text(text))
    if once is not None:
        assert mojibake(Text(once.string)) is None


def test_nfkc_folds_width(run):
    assert run("ＡＢＣ１２３ ﬁ", unicode="nfkc")[0] == "ABC123 fi"
    assert run("ＡＢＣ ﬁ", unicode="nfc")[0] == "ＡＢＣ ﬁ"
