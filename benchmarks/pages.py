"""Web pages with known main text: texts in nine languages inside the layouts that the web is made of.

    text (tests/data/languages) + words around it (menus, banners, comments, footers) --LAYOUTS--> Page(markup, main)

`main` holds what a reader would call the text: paragraphs, inner headings, lists, tables, code, answers of a forum; not
the headline, dates, captions, teasers, comments. Real pages can be read beside these, see `benchmarks/html_text.py`.

Invariant: the same number gives the same pages.
"""

from __future__ import annotations

import html
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

TEXTS = Path(__file__).resolve().parent.parent / "tests" / "data" / "languages"


@dataclass(frozen=True)
class Page:
    """One page: its markup and the main text, a block a line."""

    name: str
    language: str
    markup: str
    main: str


@dataclass(frozen=True)
class Words:
    """What stands around a text in one language."""

    menu: tuple[str, ...]
    cookies: str
    accept: str
    share: str
    related: str
    teasers: tuple[str, ...]
    subscribe: str
    comments: str
    talk: tuple[str, ...]
    rights: str
    headline: str
    byline: str
    inner: str
    points: tuple[str, ...]
    head_of_table: tuple[str, str]


WORDS = {
    "en": Words(
        ("Home", "News", "Sport", "Culture", "Opinion", "Travel", "Weather", "Contact"),
        "We use cookies and similar technologies to improve your experience. You can change your choice at any time.",
        "Accept all",
        "Share this article on social media",
        "You might also like",
        ("Ten gardens to see before the summer ends", "Why the old mill is turning again", "Trains delayed until May"),
        "Subscribe to our free newsletter and never miss a story.",
        "Comments",
        ("I was there last year and it was closed.", "Great photos, thank you!", "The price has doubled since 2019."),
        "All rights reserved. Reproduction only with written permission.",
        "A light at the end of the harbour",
        "By our correspondent, 14 March 2023, 5 min read",
        "What visitors should know",
        ("the stairs have two hundred steps", "dogs stay below", "tickets are sold at the gate only"),
        ("Month", "Visitors"),
    ),
    "de": Words(
        ("Startseite", "Nachrichten", "Sport", "Kultur", "Meinung", "Reise", "Wetter", "Kontakt"),
        "Wir verwenden Cookies, um Inhalte zu personalisieren. Ihre Auswahl können Sie jederzeit ändern.",
        "Alle akzeptieren",
        "Diesen Artikel teilen",
        "Das könnte Sie auch interessieren",
        ("Zehn Gärten für den Spätsommer", "Warum sich die alte Mühle wieder dreht", "Züge bis Mai verspätet"),
        "Abonnieren Sie unseren kostenlosen Newsletter.",
        "Kommentare",
        ("Ich war letztes Jahr dort, es war geschlossen.", "Schöne Bilder, danke!", "Der Preis hat sich verdoppelt."),
        "Alle Rechte vorbehalten. Nachdruck nur mit schriftlicher Genehmigung.",
        "Ein Bahnhof sucht seine Zukunft",
        "Von unserer Redaktion, 14. März 2023",
        "Was Besucher wissen sollten",
        ("die Treppe hat zweihundert Stufen", "Hunde bleiben unten", "Karten gibt es nur am Eingang"),
        ("Monat", "Besucher"),
    ),
    "fr": Words(
        ("Accueil", "Actualités", "Sport", "Culture", "Opinions", "Voyages", "Météo", "Contact"),
        "Nous utilisons des cookies pour améliorer votre expérience. Vous pouvez modifier votre choix à tout moment.",
        "Tout accepter",
        "Partager cet article",
        "À lire aussi",
        ("Dix jardins à voir avant la fin de l'été", "Pourquoi le vieux moulin tourne", "Trains retardés jusqu'en mai"),
        "Abonnez-vous à notre lettre gratuite.",
        "Commentaires",
        ("J'y étais l'an dernier, c'était fermé.", "Belles photos, merci !", "Le prix a doublé depuis 2019."),
        "Tous droits réservés. Reproduction interdite sans autorisation écrite.",
        "Le retour du marché",
        "Par notre correspondante, le 14 mars 2023",
        "Ce qu'il faut savoir",
        ("l'escalier compte deux cents marches", "les chiens restent en bas", "billets à l'entrée seulement"),
        ("Mois", "Visiteurs"),
    ),
    "es": Words(
        ("Portada", "Noticias", "Deportes", "Cultura", "Opinión", "Viajes", "El tiempo", "Contacto"),
        "Utilizamos cookies para mejorar su experiencia. Puede cambiar su elección en cualquier momento.",
        "Aceptar todo",
        "Compartir este artículo",
        "También le puede interesar",
        ("Diez jardines antes de que acabe el verano", "Por qué gira el viejo molino", "Trenes con retraso hasta mayo"),
        "Suscríbase a nuestro boletín gratuito.",
        "Comentarios",
        ("Estuve el año pasado y estaba cerrado.", "¡Qué fotos, gracias!", "El precio se ha duplicado desde 2019."),
        "Todos los derechos reservados. Prohibida la reproducción sin permiso.",
        "El agua de los tres pueblos",
        "Por nuestra corresponsal, 14 de marzo de 2023",
        "Lo que conviene saber",
        ("la escalera tiene doscientos peldaños", "los perros se quedan abajo", "entradas solo en la puerta"),
        ("Mes", "Visitantes"),
    ),
    "ru": Words(
        ("Главная", "Новости", "Спорт", "Культура", "Мнения", "Путешествия", "Погода", "Контакты"),
        "Мы используем файлы cookie, чтобы сделать сайт удобнее. Вы можете изменить свой выбор в любое время.",
        "Принять все",
        "Поделиться статьёй",
        "Читайте также",
        ("Десять садов, которые стоит увидеть", "Почему снова работает мельница", "Поезда опаздывают до мая"),
        "Подпишитесь на нашу бесплатную рассылку.",
        "Комментарии",
        ("Был там в прошлом году, было закрыто.", "Отличные фотографии, спасибо!", "Цена выросла вдвое."),
        "Все права защищены. Перепечатка только с письменного разрешения.",
        "Дом часового мастера",
        "Наш корреспондент, 14 марта 2023 года",
        "Что нужно знать посетителям",
        ("на лестнице двести ступеней", "с собаками нельзя", "билеты только у входа"),
        ("Месяц", "Посетители"),
    ),
    "zh": Words(
        ("首页", "新闻", "体育", "文化", "评论", "旅游", "天气", "联系我们"),
        "本网站使用Cookie来改善您的浏览体验，您可以随时更改您的选择。",
        "全部接受",
        "分享到微信朋友圈",
        "相关阅读",
        ("夏天结束前值得一看的十座花园", "老磨坊为什么又转起来了", "列车晚点将持续到五月"),
        "订阅我们的免费邮件，不错过任何一篇报道。",
        "网友评论",
        ("去年我去过，可惜没开门。", "照片拍得真好，谢谢分享！", "票价比前几年涨了一倍。"),
        "版权所有，未经书面授权不得转载。",
        "南门外的茶馆",
        "本报记者 2023年3月14日",
        "游客须知",
        ("楼梯一共有两百级台阶", "请不要带狗上楼", "门票只在入口处出售"),
        ("月份", "人数"),
    ),
    "ja": Words(
        ("ホーム", "ニュース", "スポーツ", "文化", "社説", "旅行", "天気", "お問い合わせ"),
        "当サイトではクッキーを使用しています。設定はいつでも変更できます。",
        "すべて許可",
        "この記事をシェアする",
        "関連記事",
        ("夏の終わりに訪れたい十の庭園", "古い水車がまた回り始めた理由", "列車の遅れは五月まで続く"),
        "無料のメールマガジンに登録する。",
        "コメント",
        ("去年行きましたが閉まっていました。", "写真がきれいですね。", "料金が二倍になりました。"),
        "無断転載を禁じます。著作権は当社に帰属します。",
        "坂の途中の写真館",
        "本紙記者 2023年3月14日",
        "訪れる人のために",
        ("階段は二百段あります", "犬は入れません", "切符は入口でのみ販売しています"),
        ("月", "人数"),
    ),
    "ar": Words(
        ("الرئيسية", "أخبار", "رياضة", "ثقافة", "رأي", "سفر", "الطقس", "اتصل بنا"),
        "نستخدم ملفات تعريف الارتباط لتحسين تجربتك. يمكنك تغيير اختيارك في أي وقت.",
        "قبول الكل",
        "شارك هذا المقال",
        "اقرأ أيضا",
        ("عشر حدائق تستحق الزيارة", "لماذا عادت الطاحونة القديمة إلى العمل", "تأخر القطارات حتى مايو"),
        "اشترك في نشرتنا المجانية.",
        "تعليقات",
        ("كنت هناك العام الماضي وكان مغلقا.", "صور جميلة، شكرا لكم!", "تضاعف السعر منذ سنوات."),
        "جميع الحقوق محفوظة. لا يجوز النقل دون إذن مكتوب.",
        "دكان العطور",
        "مراسلنا، 14 مارس 2023",
        "ما يجب أن يعرفه الزائر",
        ("في السلم مئتا درجة", "لا يسمح بدخول الكلاب", "التذاكر عند المدخل فقط"),
        ("الشهر", "الزوار"),
    ),
    "ko": Words(
        ("홈", "뉴스", "스포츠", "문화", "오피니언", "여행", "날씨", "문의"),
        "더 나은 서비스를 위해 쿠키를 사용합니다. 설정은 언제든지 바꿀 수 있습니다.",
        "모두 허용",
        "이 기사 공유하기",
        "관련 기사",
        ("여름이 가기 전에 볼 정원 열 곳", "낡은 물레방아가 다시 도는 이유", "열차 지연 오월까지 이어져"),
        "무료 소식지를 구독하세요.",
        "댓글",
        ("작년에 갔는데 닫혀 있었어요.", "사진이 멋집니다, 고맙습니다!", "요금이 두 배로 올랐네요."),
        "모든 권리는 당사에 있으며 무단 전재를 금합니다.",
        "골목 끝의 빵집",
        "본지 기자 2023년 3월 14일",
        "방문객이 알아 둘 것",
        ("계단은 이백 개입니다", "개는 들어갈 수 없습니다", "표는 입구에서만 팝니다"),
        ("달", "방문객"),
    ),
}
ROWS = ((4, 1210), (5, 2387), (6, 4054), (7, 8122))
CODE = "def tide(hour, height=2.4):\n    # twice a day\n    return height * cosine(hour / 6.2)"


class Builder:
    """The pieces that layouts are put together from, for one language."""

    def __init__(self, language: str, seed: int) -> None:
        self.language, self.words = language, WORDS[language]
        self.random = random.Random(f"{language}{seed}")
        self.paragraphs = (TEXTS / f"{language}.txt").read_text(encoding="utf-8").strip().split("\n\n")

    def menu(self, tag: str = "ul", item: str = "li") -> str:
        """A list of links."""
        links = "".join(f'<{item}><a href="/{i}">{word}</a></{item}>' for i, word in enumerate(self.words.menu))
        return f"<{tag}>{links}</{tag}>"

    def teasers(self) -> str:
        """Links to other stories in another order each time."""
        titles = self.random.sample(self.words.teasers, len(self.words.teasers))
        boxes = "".join(f'<div class="teaser"><a href="/t{i}"><h4>{t}</h4></a></div>' for i, t in enumerate(titles))
        return f'<div class="related"><h3>{self.words.related}</h3>{boxes}</div>'

    def talk(self) -> str:
        """Readers' comments."""
        said = "".join(
            f'<div class="comment"><span class="author">user{self.random.randrange(1000)}</span><p>{words}</p></div>'
            for words in self.words.talk
        )
        return f'<section id="comments" class="comments"><h3>{self.words.comments}</h3>{said}</section>'

    def cookies(self) -> str:
        """A banner that asks for consent."""
        words = self.words
        return (
            f'<div id="cookie-consent" class="cookie-banner" role="dialog"><p>{words.cookies}</p>'
            f"<button>{words.accept}</button></div>"
        )

    def points(self) -> str:
        """A list that belongs to the text."""
        return "<ul>" + "".join(f"<li>{point}</li>" for point in self.words.points) + "</ul>"

    def table(self) -> str:
        """A table that belongs to the text."""
        head = "".join(f"<th>{cell}</th>" for cell in self.words.head_of_table)
        rows = "".join(f"<tr><td>{month}</td><td>{count}</td></tr>" for month, count in ROWS)
        return f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"

    def main(self, *, inner: bool = False, points: bool = False, table: bool = False, code: bool = False) -> str:
        """The main text with the wanted parts."""
        words = self.words
        blocks = list(self.paragraphs)
        blocks += [words.inner] if inner else []
        blocks += words.points if points else []
        blocks += [" ".join(words.head_of_table), *(f"{month} {count}" for month, count in ROWS)] if table else []
        return "\n".join([*blocks, *(CODE.split("\n") if code else [])])

    def document(self, body: str, head: str = "") -> str:
        """A whole document around a body."""
        title = f"{self.words.headline} - {self.words.menu[1]}"
        return (
            f'<!DOCTYPE html>\n<html lang="{self.language}"><head><meta charset="utf-8"><title>{title}</title>{head}'
            f"<style>.a{{color:#333}}</style><script>var page={{id:1}};</script></head>\n<body>{body}</body></html>\n"
        )


def blog(make: Builder) -> tuple[str, str]:
    """Elements that say what they are, a sidebar, comments."""
    words = make.words
    text = "".join(f"<p>{part}</p>\n" for part in make.paragraphs)
    body = f"""<header><div class="logo">{words.menu[1]}</div><nav>{make.menu()}</nav></header>
<main><article><header><h1>{words.headline}</h1><p class="meta">{words.byline}</p></header>
{text}<h2>{words.inner}</h2>{make.points()}</article>{make.talk()}</main>
<aside class="sidebar">{make.teasers()}</aside>
<footer><p>{words.rights}</p>{make.menu()}</footer>{make.cookies()}"""
    return make.document(body), make.main(inner=True, points=True)


def news(make: Builder) -> tuple[str, str]:
    """Nothing but div; share buttons, an advertisement and a teaser inside the text."""
    words, (first, second) = make.words, make.paragraphs
    body = f"""{make.cookies()}<div class="top"><div class="nav-bar">{make.menu("div", "span")}</div></div>
<div class="page"><div class="content-wrap"><div class="article-head"><h1>{words.headline}</h1>
<div class="byline">{words.byline}</div><div class="share-buttons"><span>{words.share}</span></div></div>
<div class="article-body"><p>{first}</p>
<div class="ad"><span>{words.accept}</span></div>
<div class="inline-related"><a href="/x">{words.related}: {words.teasers[0]}</a></div>
<p>{second}</p></div>
<div class="newsletter"><p>{words.subscribe}</p><input type="email"></div></div>
<div class="rail">{make.teasers()}{make.teasers()}</div></div>
<div class="foot">{make.menu("div", "span")}<p>{words.rights}</p></div>"""
    return make.document(body), make.main()


def documentation(make: Builder) -> tuple[str, str]:
    """A long tree of links beside a text with code and a table."""
    words = make.words
    tree = "".join(f'<li class="toc"><a href="#{i}">{i}. {words.menu[i % 8]}</a></li>' for i in range(40))
    text = "".join(f"<p>{part}</p>\n" for part in make.paragraphs)
    body = f"""<div class="sphinxsidebar"><ul>{tree}</ul></div>
<div class="document"><div class="breadcrumbs"><a href="/">{words.menu[0]}</a> &raquo; <a>{words.menu[1]}</a></div>
<div class="body" role="main"><section><h1>{words.headline}</h1>{text}<h2>{words.inner}</h2>
<div class="highlight"><pre>{html.escape(CODE)}</pre></div>{make.table()}</section></div></div>
<div class="footer" role="contentinfo"><a href="/n">{words.menu[2]} &rarr;</a><p>{words.rights}</p></div>"""
    return make.document(body), make.main(inner=True, code=True, table=True)


def forum(make: Builder) -> tuple[str, str]:
    """A question and an answer with votes and signatures around."""
    words, (first, second) = make.words, make.paragraphs

    def post(text: str) -> str:
        return (
            f'<div class="post"><div class="user-card">user{make.random.randrange(900)}<br>{make.random.randrange(99)}'
            f'</div><div class="votes">{make.random.randrange(40)}</div><div class="post-text"><p>{text}</p></div>'
            f'<div class="post-menu"><a href="#">{words.share}</a></div></div>'
        )

    body = f"""<header>{make.menu()}</header><div id="content"><h1>{words.headline}</h1>
<div id="question">{post(first)}</div><div id="answers">{post(second)}</div></div>
<div id="sidebar">{make.teasers()}</div><footer>{make.menu()}<p>{words.rights}</p></footer>"""
    return make.document(body), make.main()


def old(make: Builder) -> tuple[str, str]:
    """Tables for columns, fonts, and line breaks for paragraphs."""
    words = make.words
    menu = "<br>".join(f'<a href="/{i}"><font size=2>{word}</font></a>' for i, word in enumerate(words.menu))
    text = "<br><br>\n".join(make.paragraphs)
    body = f"""<table width=800 border=0><tr><td colspan=2 bgcolor=#003366><font size=6>{words.menu[1]}</font>
<tr><td width=150 valign=top>{menu}<td valign=top><font size=5><b>{words.headline}</b></font><br>
<font size=1>{words.byline}</font><br><br><font size=3>{text}</font><br><br>
<tr><td colspan=2 align=center><font size=1>{words.rights}</font></table>"""
    return make.document(body), make.main()


def portal(make: Builder) -> tuple[str, str]:
    """As large portals are, above all Chinese ones: rows of links, wide spaces, spans within spans."""
    words = make.words
    rows = "".join(f'<div class="channel">{make.menu("p", "em")}</div>' for _ in range(4))
    text = "".join(f"<p>\u3000\u3000<span><span>{part}</span></span>&nbsp;</p>\n" for part in make.paragraphs)
    body = f"""<div class="topnav">{rows}</div>
<div class="path"><a href="/">{words.menu[0]}</a> &gt; {words.menu[1]}</div>
<div class="main_con"><div class="left"><h1>{words.headline}</h1><div class="info"><span>{words.byline}</span></div>
<div id="artibody" class="article">{text}</div><div class="share">{words.share}</div></div>
<div class="right"><div class="rank">{make.teasers()}{make.teasers()}</div></div></div>
<div class="copyright">{make.menu("p", "em")}<p>{words.rights}</p></div>"""
    return make.document(body), make.main()


LAYOUTS: tuple[Callable[[Builder], tuple[str, str]], ...] = (blog, news, documentation, forum, old, portal)


def pages(seed: int = 1) -> Iterator[Page]:
    """Every layout in every language."""
    for language in WORDS:
        for layout in LAYOUTS:
            markup, main = layout(Builder(language, seed))
            yield Page(f"{layout.__name__}-{language}", language, markup, main)
