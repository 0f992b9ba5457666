"""How a refusal begins in languages other than English: an apology or not, then that one cannot or will not."""

from __future__ import annotations

import re

__all__ = ["refuses_in_another_language"]

REACH = 40
"""Characters between an apology and what is declined, at most."""

_LANGUAGES: dict[str, tuple[str, str] | tuple[str, str, str]] = {
    # language: (apologies, declining words after one, declining words that stand alone where those would be too many)
    "German": (
        r"(?:es )?tut (?:mir|uns)(?: \w+)? leid|leider|entschuldig\w*|verzeih\w*|bedauerlicherweise",
        r"kann (?:ich|dir|ihnen|das|dies\w*|dabei|leider)\b.{0,40}\b(?:nicht|keine\w*)"
        r"|(?:ich|wir|dabei|damit|das) (?:kann|können|darf|dürfen|werde|möchte|will|muss)\b.{0,40}"
        r"\b(?:nicht|keine\w*|ablehnen|verweigern)|bin nicht in der lage|lehne (?:ich|das|es|diese)|verweigere",
    ),
    "French": (
        r"(?:je suis |nous sommes )?(?:\w+ment )?désolée?s?|malheureusement|pardon|excusez-moi|je regrette",
        r"(?:je|nous) (?:ne )?(?:peux|puis|pouvons|vais|veux|souhaite|saurais) (?:malheureusement )?(?:pas|point)"
        r"|je ne (?:peux|puis|vais|veux|suis)\b|je (?:refuse|décline)|(?:il )?m'est impossible|n'est pas possible",
    ),
    "Spanish": (
        r"lo siento|lo lamento|lamentablemente|perdón|perdona|disculp\w+|desafortunadamente|por desgracia",
        r"no (?:me )?(?:puedo|podemos|voy a|es posible|estoy|debo|quiero)\b|me niego|debo rechazar|no me es posible",
    ),
    "Italian": (
        r"mi dispiace|ci dispiace|purtroppo|spiacente|scus\w+",
        r"non (?:posso|possiamo|sono in grado|è possibile|voglio|intendo|mi è possibile)\b|mi rifiuto|devo rifiutare",
    ),
    "Portuguese": (
        r"desculp\w+|sinto muito|lamento|infelizmente|perdão",
        r"(?:eu )?não (?:posso|podemos|vou|é possível|estou|consigo|devo)\b|recuso|me nego",
    ),
    "Dutch": (
        r"het spijt (?:me|mij|ons)|sorry|helaas|excuses",
        r"(?:ik|wij|we|daar|dat|hier|hiermee|daarmee) (?:kan|kunnen|mag|wil|zal|ga)\b.{0,40}\b(?:niet|geen)"
        r"|kan ik\b.{0,40}\b(?:niet|geen)|ik weiger|niet mogelijk",
    ),
    "Polish": (
        r"przykro mi|przepraszam|niestety|wybacz\w*",
        r"nie (?:mogę|możemy|jestem w stanie|będę|chcę)\b|odmawiam|muszę odmówić",
    ),
    "Czech": (r"je mi líto|omlouvám se|bohužel|promiňte?", r"(?:nemohu|nemůžu|nebudu|nesmím|odmítám)\b"),
    "Swedish": (
        r"(?:jag )?(?:är )?(?:tyvärr|ledsen|beklagar|förlåt)",
        r"(?:jag|vi|det) (?:kan|får|vill|tänker)\b.{0,20}\binte\b|kan jag\b.{0,20}\binte\b|jag vägrar",
    ),
    "Turkish": (
        r"üzgünüm|özür dilerim|maalesef|ne yazık ki",
        r"\w+(?:amam|emem|amıyorum|emiyorum|mayacağım|meyeceğim)\b",
    ),
    "Indonesian": (r"maaf|mohon maaf|sayangnya", r"(?:saya|kami) (?:tidak|tak) (?:bisa|dapat|akan|boleh)\b"),
    "Vietnamese": (r"(?:tôi )?(?:rất )?(?:xin lỗi|rất tiếc|tiếc)", r"tôi không (?:thể|được phép|muốn)\b"),
    "Russian": (
        r"(?:мне )?(?:очень )?жаль|извини\w*|прости\w*|к сожалению|приношу извинения|прошу прощения",
        r"(?:я )?(?:не (?:могу|можем|буду|стану|имею права|в состоянии|хочу)|отказываюсь|вынужден\w* отказать)",
    ),
    "Ukrainian": (
        r"(?:мені )?(?:дуже )?(?:шкода|прикро)|вибач\w*|перепрошую|на жаль",
        r"(?:я )?(?:не (?:можу|буду|маю права)|відмовляюся)",
    ),
    "Arabic": (
        r"(?:أنا )?(?:آسف|آسفة|عذرا|عذرًا|أعتذر|للأسف|نأسف)",
        r"(?:لا|لن) (?:أستطيع|يمكنني|نستطيع|يمكننا|أقدر|أجيب)|أرفض",
    ),
    "Hindi": (
        r"(?:मुझे )?(?:माफ़?|क्षमा|खेद|दुर्भाग्य)\w*",
        r"(?:नहीं कर सकता|नहीं कर सकती|नहीं दे सकता|नहीं दे सकती|असमर्थ)",
    ),
    "Chinese": (
        r"(?:很|非常|实在|實在)?(?:抱歉|对不起|對不起|遗憾|遺憾)|不好意思",
        r"(?:不能|无法|無法|不可以|没办法|沒辦法|不会|不會|不便|拒绝|拒絕)",
        r"(?:我|我们|我們|恕).{0,4}?(?:不能|无法|無法|不可以|没办法|沒辦法|不便|拒绝|拒絕)",
    ),
    "Japanese": (
        r"(?:大変|誠に)?(?:申し訳|恐れ入り|すみません|ごめんなさい|残念ながら)",
        r"(?:できません|出来ません|できかねます|致しかねます|いたしかねます|お断り|応じられません)",
        r"(?:お答え|お手伝い|回答|ご案内|説明|対応).{0,6}?(?:できません|出来ません|できかねます|いたしかねます)|お断り",
    ),
    "Korean": (
        r"죄송|미안|유감|안타깝",
        r"(?:수 없|수가 없|못합니다|않겠습니다|어렵습니다|거절)",
        r"(?:도와|도움|답변|대답|설명|제공).{0,10}?(?:수 없|수가 없|않겠습니다)|거절",
    ),
}
_REFUSAL = re.compile(
    "|".join(
        f"(?:{sorry}).{{0,{REACH}}}?(?:{declines})|.{{0,12}}?(?:{alone[0] if alone else declines})"
        for sorry, declines, *alone in _LANGUAGES.values()
    )
)


def refuses_in_another_language(sentence: str) -> bool:
    """Whether a first sentence, in lower case, declines in one of the languages above.

    An apology alone does not count, as it can introduce an answer; a declining word counts near the beginning.

    Example:
        >>> refuses_in_another_language("es tut mir leid, aber dabei kann ich nicht helfen.")
        True
        >>> refuses_in_another_language("leider ist das brett krumm, also hoble es zuerst.")
        False
    """
    return _REFUSAL.match(sentence) is not None
