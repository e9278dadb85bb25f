"""Words that MediaWiki itself knows, in the languages with the largest wikis: prefixes, redirects, options of pictures.

A dump says only the first name of each of its namespaces, not their aliases, and nothing of the other words.
Invariant: all in lower case, as they are compared.
"""

from __future__ import annotations


def _words(text: str) -> frozenset[str]:
    """The words of a text, `_` in one meaning a blank."""
    return frozenset(word.replace("_", " ") for word in text.split())


FILES = _words(
    """
    file image media bild datei medien fichier fichiers média archivo imagen ficheiro imagem immagine bestand
    afbeelding plik grafika файл изображение медиа зображення soubor obrázek fil billede kuva tiedosto fájl kép
    dosya resim fișier imagine 文件 档案 檔案 图像 圖像 媒体 媒體 ファイル 画像 メディア 파일 그림 미디어 ملف
    صورة وسائط پرونده تصویر קובץ תמונה चित्र ছবি চিত্র ไฟล์ ภาพ tập_tin hình berkas gambar αρχείο εικόνα слика
    датотека slika datoteka fitxer imatge fitxategi irudi պատկեր ფაილი படிமம் దస్త్రం ചിത്രം
    """
)
CATEGORIES = _words(
    """
    category kategorie kategoria catégorie categoría categoria categorie kategori kategória kategorija категория
    категорія категорија 分类 分類 カテゴリ 분류 تصنيف رده קטגוריה श्रेणी বিষয়শ্রেণী หมวดหมู่ thể_loại luokka
    κατηγορία kategorio կատեգորիա კატეგორია பகுப்பு వర్గం വർഗ്ഗം catégoria
    """
)
THUMBNAILS = _words(
    """
    thumb thumbnail frame framed enframed mini miniatur gerahmt rahmenlos vignette cadre miniatura
    miniaturadeimagen marco marc miniatuur omkaderd miniaturka ramka мини миниатюра обрамить мініатюра náhled
    rám pienoiskuva kehys bélyegkép bélyeg keret küçükresim çerçeve 缩略图 縮圖 缩图 有框 サムネイル サムネール
    フレーム 섬네일 썸네일 프레임 تصغير مصغر إطار بندانگشتی قاب ממוזער ממוסגר अंगूठाकार หลังคา nhỏ khung jmpl
    immagine μικρογραφία
    """
)
PICTURE_OPTIONS = THUMBNAILS | _words(
    """
    left right center centre none frameless border upright baseline sub super top text-top middle bottom
    text-bottom links rechts zentriert ohne hochkant rand gauche droite centré neant néant redresse bordure
    sans_cadre izquierda izda derecha dcha centro ninguna no sinmarco borde esquerda direita nenhum commoldura
    semmoldura sinistra destra originale riquadrato verticale bordo geen gecentreerd rechtop слева справа центр
    безрамки 左 右 居中 无 無 无框 無框 边框 邊框 置中 中央 なし フレームなし 왼쪽 오른쪽 가운데 없음 يسار يمين
    مركز وسط بلا بدون_إطار چپ راست هیچ שמאל ימין מרכז ללא lewo prawo centruj brak vlevo vpravo vänster höger
    """
)
REDIRECTS = _words(
    """
    redirect weiterleitung redirection redireccion redirección redirecionamento rinvia rinvio doorverwijzing
    patrz przekieruj tam перенаправление перенапр перенаправлення přesměruj omdirigering ohjaus uudelleenohjaus
    átirányítás yönlendirme 重定向 転送 リダイレクト 넘겨주기 تحويل تغییرمسیر הפניה पुनर्प्रेषित đổi alih
    ανακατευθυνση преусмери преусмјери преусмеравање redirecteaza
    """
)
DISAMBIGUATIONS = _words(
    """
    disambig disambiguation disamb dab disambiguation_page disambiguation_cleanup hndis geodis
    human_name_disambiguation place_name_disambiguation letter–number_combination_disambiguation
    letter-number_combination_disambiguation airport_disambiguation mathdab mathematical_disambiguation
    school_disambiguation schooldis callsigndis species_latin_name_disambiguation begriffsklärung bkl homonymie
    patronyme paronymie toponymie desambiguación desambiguacion desambiguação disambigua dp doorverwijspagina
    ujednoznacznienie неоднозначность многозначность список_однофамильцев неоднозначний_термін багатозначність
    rozcestník förgrening grensida flertydig täsmennyssivu egyért anlam_ayrımı dezambiguizare 消歧义 消歧義
    消歧义页 消歧義頁 曖昧さ回避 aimai 人名の曖昧さ回避 地名の曖昧さ回避 동음이의 توضيح صفحة_توضيح ابهام‌زدایی
    ابهام_زدایی פירושונים बहुविकल्पी_शब्द দ্ব্যর্থতা_নিরসন แก้กำกวม trang_định_hướng định_hướng αποσαφήνιση
    вишезначна_одредница višeznačna_odrednica razločitev desambiguació argipen apartigilo
    """
)
LANGUAGES = _words(
    """
    aa ab ace ady af ak als alt am ami an ang ann anp ar arc ary arz as ast atj av avk awa ay az azb ba ban bar
    bat-smg bbc bcl bdr be be-tarask be-x-old bew bg bh bi bjn blk bm bn bo bpy br bs btm bug bxr ca cbk-zam cdo
    ce ceb ch chr chy ckb co cr crh cs csb cu cv cy da dag de dga din diq dsb dtp dty dv dz ee el eml en eo es
    et eu ext fa fat ff fi fiu-vro fj fo fon fr frp frr fur fy ga gag gan gcr gd gl glk gn gom gor got gpe gsw
    gu guc gur guw gv ha hak haw he hi hif hr hsb ht hu hy hyw ia iba id ie ig igl ik ilo inh io is it iu ja jam
    jbo jv ka kaa kab kbd kbp kcg kge ki kk kl km kn knc ko koi krc ks ksh ku kus kv kw ky la lad lb lbe lez lfn
    lg li lij lld lmo ln lo lt ltg lv lzh mad mai map-bms mdf mg mhr mi min mk ml mn mni mnw mos mr mrj ms mt
    mwl my myv mzn nah nan nap nds nds-nl ne new nia nl nn no nov nqo nr nrm nso nup nv ny oc olo om or os pa
    pag pam pap pcd pcm pdc pfl pi pih pl pms pnb pnt ps pt pwn qu rm rmy rn ro roa-rup roa-tara rsk ru rue rup
    rw sa sah sat sc scn sco sd se sg sgs sh shi shn si simple sk skr sl sm smn sn so sq sr srn ss st stq su sv
    sw szl szy ta tay tcy tdd te tet tg th ti tig tk tl tly tn to tpi tr trv ts tt tum tw ty tyv udm ug uk ur uz
    ve vec vep vi vls vo vro wa war wo wuu xal xh xmf yi yo yue za zea zgh zh zh-classical zh-min-nan zh-yue zu
    """
)
"""Prefixes of links to the same article in another language, which show nothing where they stand."""
