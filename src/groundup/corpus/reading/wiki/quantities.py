"""Templates for numbers, units, dates and spellings whose text takes more than putting arguments into a format."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from groundup.corpus.reading.wiki.marks import in_lines

Arguments = Mapping[str, str]

_RANGES = {
    "-": "–",
    "–": "–",
    "to": " to ",
    "and": " and ",
    "or": " or ",
    "x": " × ",
    "by": " × ",
    "×": " × ",
    "*": " × ",
}
_RANGES |= {"to(-)": " to ", "+/-": " ± ", "±": " ± ", "+": " + ", ",": ", ", "and(-)": " and ", "xx": " × "}
_UNITS = {
    "sqmi": "sq mi",
    "mi2": "sq mi",
    "sqft": "sq ft",
    "ft2": "sq ft",
    "sqin": "sq in",
    "sqyd": "sq yd",
    "cuft": "cu ft",
    "cuin": "cu in",
    "cuyd": "cu yd",
    "impgal": "imp gal",
    "USgal": "US gal",
    "lb-f": "lbf",
    "C": "°C",
    "F": "°F",
    "C-change": "°C",
    "F-change": "°F",
    "nmi": "nmi",
    "mph": "mph",
    "kmh": "km/h",
    "km/h": "km/h",
}
_POWERS = {"3": "thousand", "6": "million", "9": "billion"}
_ACCIDENTALS = {"flat": "♭", "sharp": "♯", "natural": "♮", "b": "♭", "#": "♯"}
_EXPONENTS = str.maketrans("-−0123456789", "⁻⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
_MONTHS = "January February March April May June July August September October November December"


def verse(given: Arguments) -> str:
    """`{{poemquote|...}}` with its lines."""
    return in_lines(_first(given, ("text", "quote", "content", "1")))


def numbered(given: Arguments) -> list[str]:
    """Arguments without a name, in order."""
    return [value for name, value in given.items() if name.isdecimal()]


def convert(given: Arguments) -> str:
    """`{{convert|5|to|8|km|mi}}` -> "5 to 8 km": the given quantity; the converted one is not in the page."""
    parts = numbered(given)
    text = parts[0] if parts else ""
    position = 1
    while position + 1 < len(parts):
        if parts[position] in _RANGES:
            text += _RANGES[parts[position]] + parts[position + 1]
            position += 2
        elif position + 2 < len(parts) and _is_number(parts[position + 1]):  # feet and inches
            text += f" {_unit(parts[position])} {parts[position + 1]}"
            position += 2
        else:
            break
    unit = _unit(parts[position]) if position < len(parts) else ""
    return f"{text} {unit}".strip()


def _is_number(text: str) -> bool:
    return text.replace(",", "").replace(".", "").replace("/", "").lstrip("-−+").isdecimal()


def _unit(unit: str) -> str:
    if unit[:1] == "e" and unit[1:2] in _POWERS:
        return f"{_POWERS[unit[1]]} {_unit(unit[2:])}"
    known = _UNITS.get(unit)
    if known is not None:
        return known
    return unit[:-1] + "²³"["23".index(unit[-1])] if unit[-1:] in ("2", "3") and len(unit) > 1 else unit


def value(given: Arguments) -> str:
    """`{{val|1.5|0.2|e=6|u=m}}` -> "1.5±0.2×10⁶ m"."""
    parts = numbered(given)
    text = "±".join(parts[:2])
    if given.get("e"):
        text += "×10" + given["e"].translate(_EXPONENTS)
    unit = given.get("u") or given.get("ul") or ""
    return f"{given.get('p', '')}{text}{given.get('s', '')} {unit}".strip()


def power_of_ten(given: Arguments) -> str:
    """`{{e|24}}` -> "×10²⁴"."""
    return f"×10{given.get('1', '').translate(_EXPONENTS)}"


def accidental(given: Arguments) -> str:
    """`{{music|flat}}` -> "♭"; other signs by their name."""
    name = given.get("1", "")
    return _ACCIDENTALS.get(name, name)


def items(given: Arguments) -> str:
    """`{{bulleted list|a|b}}` as a list of wikitext."""
    return "".join(f"\n* {part}" for part in numbered(given) if part) + "\n"


def fraction(given: Arguments) -> str:
    """`{{frac|1|2}}` -> "1/2"; with three arguments the first is the whole number."""
    parts = numbered(given)
    if len(parts) == 1:
        return "1/" + parts[0]
    return "/".join(parts) if len(parts) < 3 else f"{parts[0]} {parts[1]}/{parts[2]}"


def date(given: Arguments) -> str:
    """`{{start date|1969|7|20}}` -> "20 July 1969"; what is no year, month and day is joined as it is."""
    parts = [part for part in numbered(given) if part][:3]
    if not all(part.isdecimal() and len(part) <= 4 for part in parts):
        return parts[0] if parts else ""
    if len(parts) > 1 and not 1 <= int(parts[1]) <= 12:
        return parts[0]
    month = _MONTHS.split()[int(parts[1]) - 1] if len(parts) > 1 else ""
    return " ".join([*(str(int(part)) for part in parts[2:]), *([month] if month else []), *parts[:1]])


def as_of(given: Arguments) -> str:
    """`{{as of|2020|5}}` -> "As of May 2020"."""
    start = "as of" if given.get("lc") else "As of"
    return given.get("alt") or f"{start} {date(given)}".strip()


def raised(given: Arguments) -> str:
    """`{{sup|2}}` as the element, which is raised later."""
    return f"<sup>{given.get('1', '')}</sup>"


def together(given: Arguments) -> str:
    """All arguments without a name, nothing between."""
    return "".join(numbered(given))


def sounds(given: Arguments) -> str:
    """`{{IPAc-en|ˈ|p|ær|ɪ|s}}` -> "/ˈpærɪs/"; words that describe the sound, not the sound, are left out."""
    spoken = [part for part in numbered(given) if part not in ("lang", "local", "pron", "us", "uk", "also", "audio=")]
    return f"/{''.join(spoken)}/" if spoken else ""


def listed(given: Arguments) -> str:
    """A list in a line, commas between."""
    return ", ".join(part for part in numbered(given) if part)


def keys(given: Arguments) -> str:
    """`{{keypress|Ctrl|C}}` -> "Ctrl+C"."""
    return "+".join(part for part in numbered(given) if part)


def respelling(given: Arguments) -> str:
    """`{{respell|PARR|iss}}` -> "PARR-iss"."""
    return "-".join(part for part in numbered(given) if part)


def gaps(given: Arguments) -> str:
    """`{{gaps|299|792|458}}` -> "299 792 458"."""
    return " ".join(part for part in numbered(given) if part)


def chinese(given: Arguments) -> str:
    """`{{zh|t=..|s=..|p=..}}` -> "Chinese: ...; pinyin: ..."."""
    labels = {"c": "Chinese", "s": "simplified Chinese", "t": "traditional Chinese", "p": "pinyin", "w": "Wade–Giles"}
    labels |= {"j": "Jyutping", "poj": "Pe̍h-ōe-jī", "l": "lit.", "1": "Chinese"}
    return "; ".join(f"{labels[name]}: {text}" for name, text in given.items() if name in labels and text)


_CITED = (
    ("title", "titel", "chapter", "título", "titre", "titolo", "заглавие"),
    ("work", "journal", "newspaper", "magazine", "sammelwerk", "werk", "periódico", "périodique", "rivista", "издание"),
    ("publisher", "verlag", "editorial", "éditeur", "editore", "издательство"),
    ("date", "year", "datum", "jahr", "fecha", "año", "année", "anno", "год"),
)
_AUTHORS = ("last", "last1", "author", "author1", "autor", "apellidos", "apellido", "auteur", "autore", "автор", "nom1")
_GIVEN_NAMES = ("first", "first1", "nombre", "prénom1", "nome")


def cited(given: Arguments) -> str:
    """`{{cite book|last=Doe|first=Jo|title=Foo|year=2001}}` -> "Doe, Jo. Foo. 2001.", where it is no reference."""
    author = ", ".join(filter(None, (_first(given, _AUTHORS), _first(given, _GIVEN_NAMES))))
    parts = [author, *(_first(given, names) for names in _CITED)]
    return " ".join(part if part[-1] in ".?!" else f"{part}." for part in parts if part)


def _first(given: Arguments, names: tuple[str, ...]) -> str:
    return next((given[name] for name in names if given.get(name)), "")


def _named(names: str, function: Callable[[Arguments], str]) -> dict[str, Callable[[Arguments], str]]:
    return dict.fromkeys(names.split("; "), function)


FUNCTIONS: dict[str, Callable[[Arguments], str]] = {
    **_named("convert; cvt; conv; convinfobox; 轉換; 转换", convert),
    **_named("val; nombre; valeur", value),
    **_named("frac; sfrac; fraction; bruch; tfrac", fraction),
    **_named("start date; end date; film date; birth date; death date; start date and age; end date and age", date),
    **_named("birth date and age; death date and age; bda; dob; dts; date table sorting; start-date; birth-date", date),
    **_named("e; esp", power_of_ten),
    **_named("music", accidental),
    **_named("bulleted list; unordered list; ordered list; blist", items),
    **_named("as of; asof", as_of),
    **_named("chem; nuclide; chemf; linktext; sfc; cjkv; gaps2", together),
    **_named("ipac-en; ipac-fr; ipac-de; ipac-es", sounds),
    **_named("sup; smallsup; exp", raised),
    **_named("hlist; ubl; unbulleted list; plainlist; flatlist; csv; comma separated entries; cslist", listed),
    **_named("ublist; vunblist; unbullet; liste simple; collapsible list", listed),
    **_named(
        "cite book; cite journal; cite magazine; cite news; cite web; cite thesis; cite report; cite map; vcite book",
        cited,
    ),
    **_named("cite encyclopedia; cite conference; cite press release; cite av media; cite speech; citation", cited),
    **_named(
        "literatur; internetquelle; cita libro; cita web; cita publicación; книга; статья; ouvrage; article", cited
    ),
    **_named("keypress; key press; key; kbd; button; taste; tasten", keys),
    **_named("respell; pronunciation respelling", respelling),
    **_named("poemquote; poem quote; verse translation; verse; poem; blockpoem; stanza", verse),
    **_named("gaps; gapnum; dnum", gaps),
    **_named("zh; lang-zh; chinese; zh-full", chinese),
}
