"""Function words of some languages: text that has none of them is no running text.

English: the eight of Rae et al. 2021, table A1 ff. Chinese, Japanese and Korean: single characters and particles among
the most frequent of FineWeb-2's lists (Penedo et al. 2025). Others: the most frequent articles, prepositions,
conjunctions and pronouns.
"""

from __future__ import annotations

STOP_WORDS: dict[str, tuple[str, ...]] = {
    language: tuple(words.split())
    for language, words in {
        "en": "the be to of and that have with",
        "zh": "的 在 是 和 了 不 我 他 有 人 这 這 中 也 而 为 為 与 與 以 之 于 於 就 都 上 个 個 说 說 到 要 其",
        "ja": "の に を は た て が と で し れ さ も な い",
        "ko": "이 그 및 수 등 것 있다 있는 한다 하는 그리고 대한 위해 때문에 그는 더 한 할 때 같은",
        "de": "der die und in das den von zu mit ist des auf für nicht ein eine im dem sich",
        "fr": "de la le et les des en un une du dans que est pour qui par sur pas au",
        "es": "de la que el en y a los se del las un por con una para es su no",
        "it": "di e il la che in un a per è una del con non le si della i da",
        "pt": "de a o que e do da em um para com não uma os no se na por as",
        "nl": "de van het een en in is dat op te voor met zijn die niet aan er om",
        "ru": "и в на не что с по как к из у за от для это о он но его",
        "uk": "і в на не що з до та за у як від для це про але він його",
        "pl": "w i na z do się nie to że jest o jak po od za przez dla są",
        "tr": "ve bir bu da de için ile olarak çok daha gibi olan ne kadar en her sonra o ki değil ama var göre ise",
        "vi": "và của là có trong được cho một các với không người này những",
        "ar": "في من على أن إلى التي عن مع هذا الذي كان هذه لا ما",
        "hi": "के में की है और का को से पर यह कि एक ने हैं",
        "id": "yang dan di dengan untuk dari ini dalam pada tidak itu adalah",
        "sv": "och i att det som en på är av för med till den har inte ett",
        "cs": "a v se na je že to s z do o k i jako by pro",
    }.items()
}
