"""The wording of the translation data: phrases in English and in Chinese that mean the same."""

from typing import Final, NamedTuple


class Verb(NamedTuple):
    """A verb in the forms that the sentences need."""

    third: str
    base: str
    past: str
    chinese: str


class Thing(NamedTuple):
    """What is bought, read, eaten: in English; in Chinese with its measure word, and bare."""

    english: str
    measured: str
    bare: str


PEOPLE: Final = {
    "my brother": "我哥哥",
    "my sister": "我姐姐",
    "my mother": "我妈妈",
    "my father": "我爸爸",
    "the teacher": "老师",
    "the doctor": "医生",
    "our neighbour": "我们的邻居",
    "the young student": "那个年轻的学生",
    "Li Ming": "李明",
    "Wang Fang": "王芳",
    "Zhang Wei": "张伟",
    "the driver": "司机",
    "the old man": "那位老人",
    "the engineer": "工程师",
    "the cook": "厨师",
    "her friend": "她的朋友",
    "his uncle": "他的叔叔",
    "the girl": "那个女孩",
    "the boy": "那个男孩",
    "the nurse": "护士",
    "the farmer": "农民",
    "the musician": "音乐家",
    "the lawyer": "律师",
    "the tourist": "那位游客",
}

FOOD: Final = (
    Thing("an apple", "一个苹果", "苹果"),
    Thing("a bowl of noodles", "一碗面条", "面条"),
    Thing("rice", "米饭", "米饭"),
    Thing("a bowl of soup", "一碗汤", "汤"),
    Thing("bread", "面包", "面包"),
    Thing("fish", "鱼", "鱼"),
    Thing("dumplings", "饺子", "饺子"),
    Thing("a piece of cake", "一块蛋糕", "蛋糕"),
    Thing("vegetables", "蔬菜", "蔬菜"),
)
DRINKS: Final = (
    Thing("tea", "茶", "茶"),
    Thing("a cup of coffee", "一杯咖啡", "咖啡"),
    Thing("water", "水", "水"),
    Thing("a glass of milk", "一杯牛奶", "牛奶"),
    Thing("orange juice", "橙汁", "橙汁"),
)
TEXTS: Final = (
    Thing("a book", "一本书", "书"),
    Thing("a letter", "一封信", "信"),
    Thing("a poem", "一首诗", "诗"),
    Thing("a novel", "一本小说", "小说"),
    Thing("a report", "一份报告", "报告"),
    Thing("a story", "一个故事", "故事"),
)
WARES: Final = (
    Thing("a ticket", "一张票", "票"),
    Thing("a red coat", "一件红色的外套", "红色的外套"),
    Thing("flowers", "花", "花"),
    Thing("a bicycle", "一辆自行车", "自行车"),
    Thing("a new phone", "一部新手机", "新手机"),
    Thing("a pair of shoes", "一双鞋", "鞋"),
    Thing("an umbrella", "一把雨伞", "雨伞"),
    Thing("a map", "一张地图", "地图"),
    Thing("an old clock", "一个旧钟", "旧钟"),
    Thing("a white cup", "一个白色的杯子", "白色的杯子"),
)
SHOWS: Final = (
    Thing("a film", "一部电影", "电影"),
    Thing("a football match", "一场足球比赛", "足球比赛"),
    Thing("the news", "新闻", "新闻"),
    Thing("a play", "一出戏", "戏"),
)
SUBJECTS: Final = (
    Thing("mathematics", "数学", "数学"),
    Thing("history", "历史", "历史"),
    Thing("the piano", "钢琴", "钢琴"),
    Thing("chess", "国际象棋", "国际象棋"),
    Thing("music", "音乐", "音乐"),
)

ACTIONS: Final = (
    (Verb("eats", "eat", "ate", "吃"), FOOD),
    (Verb("cooks", "cook", "cooked", "做"), (FOOD[1], FOOD[2], FOOD[3], FOOD[5], FOOD[6], FOOD[8])),
    (Verb("drinks", "drink", "drank", "喝"), DRINKS),
    (Verb("reads", "read", "read", "读"), TEXTS),
    (Verb("writes", "write", "wrote", "写"), TEXTS),
    (Verb("buys", "buy", "bought", "买"), (*WARES, *FOOD[:1], FOOD[4], FOOD[5], TEXTS[0])),
    (Verb("sells", "sell", "sold", "卖"), WARES),
    (Verb("watches", "watch", "watched", "看"), SHOWS),
    (Verb("studies", "study", "studied", "学"), SUBJECTS),
)

PLACES: Final = {
    "at home": "在家",
    "in the park": "在公园里",
    "at the station": "在车站",
    "in the library": "在图书馆里",
    "at school": "在学校",
    "in the restaurant": "在餐馆里",
    "at the market": "在市场上",
    "in the office": "在办公室里",
    "in the garden": "在花园里",
    "at the airport": "在机场",
    "in the hospital": "在医院里",
    "by the river": "在河边",
    "in the hotel": "在酒店里",
}
HABITS: Final = {
    "every day": "每天",
    "every morning": "每天早上",
    "on Sundays": "星期天",
    "in the evening": "晚上",
    "every Friday": "每个星期五",
    "in summer": "夏天",
}
PAST: Final = {
    "yesterday": "昨天",
    "last week": "上星期",
    "last night": "昨晚",
    "this morning": "今天早上",
    "two days ago": "两天前",
    "last year": "去年",
}
FUTURE: Final = {
    "tomorrow": "明天",
    "next week": "下星期",
    "tonight": "今晚",
    "next month": "下个月",
    "on Monday": "星期一",
    "next year": "明年",
}
SEASONS: Final = {"Spring": "春天", "Summer": "夏天", "Autumn": "秋天", "Winter": "冬天"}

COUNTRIES: Final = {
    "France": "法国",
    "Germany": "德国",
    "Italy": "意大利",
    "Spain": "西班牙",
    "Portugal": "葡萄牙",
    "Norway": "挪威",
    "Sweden": "瑞典",
    "Finland": "芬兰",
    "Denmark": "丹麦",
    "Poland": "波兰",
    "Greece": "希腊",
    "Turkey": "土耳其",
    "Russia": "俄罗斯",
    "China": "中国",
    "Japan": "日本",
    "Korea": "韩国",
    "India": "印度",
    "Thailand": "泰国",
    "Vietnam": "越南",
    "Egypt": "埃及",
    "Kenya": "肯尼亚",
    "Morocco": "摩洛哥",
    "Canada": "加拿大",
    "Mexico": "墨西哥",
    "Brazil": "巴西",
    "Argentina": "阿根廷",
    "Chile": "智利",
    "Peru": "秘鲁",
    "Australia": "澳大利亚",
    "New Zealand": "新西兰",
    "Switzerland": "瑞士",
    "Austria": "奥地利",
}
LANGUAGES: Final = {
    "English": "英语",
    "Chinese": "汉语",
    "French": "法语",
    "German": "德语",
    "Spanish": "西班牙语",
    "Italian": "意大利语",
    "Russian": "俄语",
    "Japanese": "日语",
    "Korean": "韩语",
    "Arabic": "阿拉伯语",
    "Portuguese": "葡萄牙语",
    "Hindi": "印地语",
}
CURRENCIES: Final = {
    "euros": "欧元",
    "dollars": "美元",
    "pounds": "英镑",
    "yuan": "元",
    "yen": "日元",
    "francs": "法郎",
}
GOODS: Final = {
    "book": "本书",
    "ticket": "张票",
    "red coat": "件红色的外套",
    "bicycle": "辆自行车",
    "new phone": "部新手机",
    "umbrella": "把雨伞",
    "map": "张地图",
    "cup": "个杯子",
    "chair": "把椅子",
    "table": "张桌子",
    "hat": "顶帽子",
}
ADJECTIVES: Final = {
    "very expensive": "很贵",
    "very cheap": "很便宜",
    "very beautiful": "很漂亮",
    "too small": "太小了",
    "too big": "太大了",
    "very old": "很旧",
}
