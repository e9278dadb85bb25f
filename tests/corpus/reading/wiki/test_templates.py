"""Templates without which a sentence has a hole give their text; formats are small and total."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from groundup.corpus.reading.wiki.templates import Rules, arguments, compiled, expand

ENGLISH = Rules.of("en", {})


@pytest.mark.parametrize(
    ("language", "content", "text"),
    [
        ("en", "convert|5|km|mi", "5 km"),
        ("en", "convert|5|to|8|km|mi|1", "5 to 8 km"),
        ("en", "convert|6|ft|2|in|m", "6 ft 2 in"),
        ("en", "cvt|100|m2|0", "100 m²"),
        ("en", "convert|20|x|30|C", "20 × 30 °C"),
        ("en", "convert", ""),
        ("en", "convert|22|e6acre|km2", "22 million acre"),
        ("en", "e|24", "×10²⁴"),
        ("en", "music|flat", "♭"),
        ("en", "bulleted list|a|b", "\n* a\n* b\n"),
        ("en", "flag|Germany|empire", "Germany"),
        ("en", "val|1.5|0.2|e=6|u=m/s", "1.5±0.2×10⁶ m/s"),
        ("en", "frac|3|4", "3/4"),
        ("en", "frac|7", "1/7"),
        ("en", "start date|1969|7|20|df=yes", "20 July 1969"),
        ("en", "birth date|1950", "1950"),
        ("en", "birth date|about 1950", "about 1950"),
        ("en", "dts|1950|13|1", "1950"),
        ("en", "as of|2020|5", "As of May 2020"),
        ("en", "as of|2020|lc=y", "as of 2020"),
        ("en", "IPAc-en|ˈ|p|ær|ɪ|s", "/ˈpærɪs/"),
        ("en", "IPA-fr|paʁi", "/paʁi/"),
        ("en", "lang-la|Lutetia", "Lutetia"),
        ("en", "nihongo|Tokyo Tower|東京タワー|Tōkyō tawā|", "Tokyo Tower (東京タワー, Tōkyō tawā)"),
        ("en", "nihongo|Tokyo", "Tokyo"),
        ("en", "ill|Jo Doe|de|Johann Doe|lt=Doe", "Doe"),
        ("en", "USS|Enterprise|CV-6", "USS Enterprise (CV-6)"),
        ("en", "zh|c=中国|p=Zhōngguó|links=no", "Chinese: 中国; pinyin: Zhōngguó"),
        ("en", "hlist|a|b||c", "a, b, c"),
        ("en", "respell|PARR|iss", "PARR-iss"),
        ("en", "keypress|Ctrl|Alt|Del", "Ctrl+Alt+Del"),
        ("en", "cite book|last=Doe|first=J.|title=A ''title''|year=2001|publisher=P", "Doe, J. A ''title''. P. 2001."),
        ("en", "formatnum:12345|R", "12345"),
        ("en", "uc:abc", "ABC"),
        ("en", "Template:Nowrap|x", "x"),
        ("en", "NOWRAP|2=b|1=a", "a"),
        ("de", '"|Zitat', "„Zitat“"),
        ("de", "frS|mot", "französisch mot"),
        ("fr", "siècle|XIX", "XIXe siècle"),
        ("fr", "unité|5|km", "5 km"),
        ("zh", "tsl|en|X|甲|乙", "乙"),
        ("ja", "仮リンク|甲|en|X|label=乙", "乙"),
        ("ar", "إنج|Paris", "بالإنجليزية: Paris"),
    ],
)
def test_known_templates(language, content, text):
    assert expand(content, Rules.of(language, {}), "Title")[0] == text


@pytest.mark.parametrize(
    "content", ["Infobox x|a=b", "reflist", "#if:a|b", "#invoke:x|y", "DEFAULTSORT:x", "", "|", ":", "cn|date=x"]
)
def test_all_others_are_dropped(content):
    assert expand(content, ENGLISH, "Title")[0] is None


def test_formats():
    rule = compiled("$1< ($2<, $3>)>")
    assert rule({"1": "a"}) == "a"
    assert rule({"1": "a", "3": "c"}) == "a (, c)"
    assert rule({"1": "a", "2": "b", "3": "c"}) == "a (b, c)"
    assert compiled("$b/a")({"a": "x", "b": ""}) == "x"
    assert compiled("[$*]")({"1": "a", "x": "y", "2": "b"}) == "[a, b]"
    assert compiled("US$$1 <unclosed $1")({"1": "5"}) == "US$5 unclosed 5"
    assert compiled("a > b")({}) == "a > b"
    assert compiled("< only text >")({}) == ""


def test_arguments():
    assert arguments("a| b |x = y=z|2=c|d") == {"1": "a", "2": "c", "x": "y=z", "3": "d"}


@settings(max_examples=200)
@given(st.text(alphabet="$<>/*abc12 -|=", max_size=30), st.text(alphabet="ab|=12 ", max_size=20))
def test_any_format_and_any_arguments_give_text(text, given_arguments):
    assert isinstance(compiled(text)(arguments(given_arguments)), str)


@settings(max_examples=200)
@given(st.sampled_from(sorted(ENGLISH.by_name)), st.text(alphabet="ab1|=.-−,to km\n", max_size=30))
def test_every_known_template_takes_any_arguments(name, rest):
    assert isinstance(expand(f"{name}|{rest}", ENGLISH, "Title")[0], str)
