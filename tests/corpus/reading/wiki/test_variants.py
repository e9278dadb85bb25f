"""Language conversion shows one variant, the asked one where it is there."""

import pytest

from groundup.corpus.reading.wiki.variants import choose_variant


@pytest.mark.parametrize(
    ("content", "variant", "text"),
    [
        ("zh-hans:软件;zh-hant:軟體;", "", "软件"),
        ("zh-hans:软件;zh-hant:軟體;", "zh-hant", "軟體"),
        ("zh-hans:软件;zh-hant:軟體;", "zh-tw", "軟體"),
        ("zh-cn:出租车; zh-tw:計程車; zh-hk:的士", "zh-hk", "的士"),
        ("zh-cn:出租车; zh-tw:計程車", "zh-mo", "計程車"),
        ("zh-cn:a&#59;b; zh-tw:c", "", "a&#59;b"),
        ("zh-tw:c", "zh-cn", "c"),
        ("zh-cn:甲; zh-cn:乙;丙; zh-tw:丁", "zh-cn", "甲"),
        ("湖", "", "湖"),
        ("R|比率: 3;4", "", "比率: 3;4"),
        ("H|zh-hans:网络;zh-hant:網路", "zh-hant", ""),
        ("T|zh-hans:网络", "", ""),
        ("-|zh-hans:网络", "", ""),
        ("A|zh-hans:网络;zh-hant:網路", "zh-hant", "網路"),
        ("zh-hans;zh-hant|文", "", "文"),
        ("sr-ec:Београд; sr-el:Beograd", "sr-el", "Beograd"),
        ("H=>zh-cn:甲;H=>zh-tw:乙", "zh-tw", "乙"),
        ("", "", ""),
        (";;:;", "", ";;:;"),
    ],
)
def test_choice(content, variant, text):
    assert choose_variant(content, variant) == text
