"""Formats of frequent templates, as `templates.compiled` reads them: names in lower case between `; `, then the text.

A name that is not here, in `quantities.py` or in the recipe is dropped. These are the templates that stand within
sentences in the wikis named; a language's own table wins over the common one.
"""

from __future__ import annotations

Formats = tuple[tuple[str, str], ...]

_PARAGRAPH = "\n\n$text/quote/content/1\n\n"

COMMON: Formats = (
    (
        "lang; langx; lang2; langue; idioma; lingua; язык; لغة; 语言; 語言; transl; translit; transliteration",
        "$3/2/text",
    ),
    ("nowrap; nobr; nobreak; nbr; nobold; noitalic; normal; mvar; math; var; tmath; mathrm; mathcal", "$1"),
    (
        "small; smaller; big; larger; large; sc; smallcaps; small caps; sc2; smallcaps2; resize; strong; bold; italic",
        "$1",
    ),
    ("em; emphasis; strikethrough; underline; overline; tt; mono; code; codes; samp; not a typo; proper name", "$1"),
    ("typo; sic; as written; notatypo; abbr; abbrv; abbreviation; tooltip; hover title; visible anchor; vanchor", "$1"),
    ("unicode; polytonic; grc; runic; uncial; char; unichar; section link; annotated link; allow wrap", "$1"),
    (
        "nihongo2; hebrew; rtl-lang; script; nastaliq; wikt-lang; lit; literal translation",
        "$2/1",
    ),
    ("color; colour; font color; font colour; fontcolor; coloured text; colored text; fgcolor; bgcolor", "$2"),
    ("ill; interlanguage link; illm; link-interwiki; interlanguage link multi; red link; rl", "$lt/display/1"),
    ("circa; c.; ca.; c; ca", "c. $1<–$2>"),
    ("floruit; fl.; fl", "fl. $1<–$2>"),
    ("reign; r.", "r. $1<–$2>"),
    ("born; nee; née", "née $1"),
    ("quote; blockquote; cquote; quotation; quote frame; rquote; centered pull quote; bquote; quote block", _PARAGRAPH),
    ("poemquote; poem quote; verse translation; verse; block indent; bi; indent; blockindent; poem", _PARAGRAPH),
    ("ndash; en dash", "–"),
    ("spaced ndash; snd; spnd; snds; spaced en dash", " – "),
    ("mdash; em dash; dash", "—"),
    ("spaced mdash; spaced em dash", " — "),
    ("nbsp; space; spaces; thin space; thinspace; hair space; hairsp; nnbsp; ensp; emsp; sp", " "),
    ("zwsp; zwj; zwnj; shy; wbr; clear; clr; br; break; -", ""),
    ("'; `; apostrophe", "'"),
    ("'s; `s", "'s"),
    ("=", "="),
    ("!", "|"),
    ("(", "{"),
    (")", "}"),
    ("·; middot; dot; bullet; •; bull", " · "),
    ("\\; slash; nbslash", " / "),
    ("ipa; api", "$2/1"),
    ("ordinal; ord; pinyin; py; percentage; year; chem2; ce; chemical formula; sub; subst; keyboard", "$1"),
    ("pi", "π"),
    ("infinity; infin", "∞"),
    ("radic; sqrt", "√$1"),
    ("angbr; angle brackets", "⟨$1⟩"),
    ("plusminus; ±; pm; +-", "±$1"),
    ("flag; flagu; flagcountry; flag country; country; fb; nft; fbw", "$2/1"),
    ("ship", "$1 $2< ($3)>"),
    ("uss", "USS $1< ($2)>"),
    ("hms", "HMS $1< ($2)>"),
    ("hmas", "HMAS $1< ($2)>"),
    ("rms", "RMS $1< ($2)>"),
    ("sclass; sclass2", "$1-class $2"),
    ("audio; audio2", "$2"),
    ("nihongo; nihongo3; nihongo core; nihongo foot", "$1< ($2<, $3><, $4>)>"),
    ("korean", "Korean: $hangul/1<; Hanja: $hanja>"),
    ("ruby; ruby-ja; ruby-zh; ruby-zh-p; ruby-zh-b; rubi; ルビ; furigana", "$1<($2)>"),
    ("us$; usd", "US$$1"),
    ("inr; indian rupee", "₹$1"),
    ("gbp; £", "£$1"),
    ("euro; eur; €", "€$1"),
    ("jpy; ¥; yen", "¥$1"),
    ("cny; rmb", "CN¥$1"),
    ("isbn", "ISBN $1"),
    ("bibleverse; bibleref", "$1 $2"),
    ("percent; pct", "$1%"),
)

PATTERNS: Formats = (("lang-", "$1"), ("ipa-", "/$1/"))
"""What names begin with: `{{lang-de|Haus}}`, `{{IPA-fr|paʁi}}`."""

_GERMAN: Formats = (
    ('"; zitat; „', "„$text/1“"),
    ("ens", "englisch $1"),
    ("frs", "französisch $1"),
    ("las", "lateinisch $1"),
    ("grcs", "altgriechisch $1"),
    ("els", "griechisch $1"),
    ("its", "italienisch $1"),
    ("ess", "spanisch $1"),
    ("pts", "portugiesisch $1"),
    ("rus", "russisch $1< $2>"),
    ("pls", "polnisch $1"),
    ("css", "tschechisch $1"),
    ("nls", "niederländisch $1"),
    ("svs", "schwedisch $1"),
    ("das", "dänisch $1"),
    ("jas", "japanisch $1< $2>"),
    ("zhs", "chinesisch $1"),
    ("ars", "arabisch $1< $2>"),
    ("hes", "hebräisch $1< $2>"),
    ("trs", "türkisch $1"),
    ("hus", "ungarisch $1"),
    ("uks", "ukrainisch $1"),
    ("ipa; lautschrift", "[$1]"),
    ("höhe", "$1 m"),
    ("temperatur; °c", "$1 °C"),
)
_FRENCH: Formats = (
    ("citation; cita", "« $1 »"),
    ("citation étrangère", "« $2 »"),
    ("unité; unité/2; nb", "$1< $2>"),
    ("date; date-; date de naissance; date de décès", "$1< $2>< $3>"),
    ("siècle; s; sp; s-", "$1e siècle"),
    ("1er", "1er"),
    ("er; ier", "er"),
    ("e; ème; ième", "e"),
    ("japonais", "$1< ($2<, $3>)>"),
    ("incise", "– $1 –"),
    ("lien", "$texte/trad/fr/1"),
    ("av jc; av. j.-c.; -jc", "av. J.-C."),
    ("ap jc; apr. j.-c.", "apr. J.-C."),
    ("api; prononciation", "/$1/"),
    ("formule chimique; fchim", "$1$2$3$4$5$6$7$8"),
)
_RUSSIAN: Formats = (
    ("lang-en; lang-en2", "англ. $1"),
    ("lang-de", "нем. $1"),
    ("lang-fr", "фр. $1"),
    ("lang-la", "лат. $1"),
    ("lang-el", "греч. $1"),
    ("нп; нп3; нп5; не переведено; не переведено 3; не переведено 5", "$2/1"),
    ("число; num", "$1"),
    ("цитата", "«$1»"),
)
_CHINESE: Formats = (
    ("link-en; link-ja; link-de; link-fr; link-ko; link-es; link-ru; link-it; le; lj", "$3/1"),
    ("tsl; translink", "$4/3"),
    ("internal link helper/en; internal link helper; ilh", "$d/1"),
    ("zy; 拼音; 僻字; 簡體; 簡体; 繁体; 繁體; 简体; link style", "$1"),
    ("bd", "$1$2－$3$4"),
    ("来源请求; 來源請求", "$1"),
    ("專名號; 专名号; 書名號; 书名号", "$1"),
    ("coloredlink; 色链", "$3/2"),
    ("引文; 引言; 古文; cquote; quote; quotation", _PARAGRAPH),
)
_JAPANESE: Formats = (
    ("仮リンク; 日本語版にない記事リンク", "$label/1"),
    ("読み仮名; 読み仮名 ruby不使用; 読み仮名ruby不使用; ふりがな", "$1<（$2）>"),
    ("補助漢字フォント; jis2004フォント; cp932フォント; 拡張漢字; 旧字体; 新字体; 簡体字; 繁体字", "$1"),
    ("生年月日と年齢; 生年月日; 没年月日; 死亡年月日と没年齢", "$1年$2月$3日"),
    ("引用; squote; quote; quotation", _PARAGRAPH),
    ("学名; snamei; sname; 和暦; 要出典範囲", "$1"),
)
_ARABIC: Formats = (
    ("إنج; إنجليزية", "بالإنجليزية: $1"),
    ("فرن; فرنسية", "بالفرنسية: $1"),
    ("ألم; ألمانية", "بالألمانية: $1"),
    ("لات; لاتينية", "باللاتينية: $1"),
    ("يون; إغريقية", "باليونانية: $1"),
    ("نص لاتيني; حروف", "$1"),
    ("اقتباس; اقتباس خاص", "«$text/1»"),
    ("وإو; وصلة إنترويكي", "$نص/عر/1"),
    ("ق.م; ق م", "ق.م"),
    ("هـ", "هـ"),
    ("قرآن", "﴿$3/1﴾"),
)

IN_LANGUAGE: dict[str, Formats] = {
    "de": _GERMAN,
    "fr": _FRENCH,
    "es": (("cita; cita2", "«$1»"), ("unidad", "$1< $2>"), ("esd", " "), ("siglo", "siglo $1")),
    "it": (("citazione; cita", "«$1»"), ("unità", "$1< $2>")),
    "ru": _RUSSIAN,
    "zh": _CHINESE,
    "ja": _JAPANESE,
    "ar": _ARABIC,
}
