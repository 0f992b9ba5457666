import random
import string

import pytest

from safeeraser.judges.english import misplaced
from safeeraser.judges.noise import encoded, looping, misread, mixed_up, unpronounceable
from safeeraser.judges.text import flaw, repetitive
from safeeraser.judges.topic import on_topic, shuffled, too_short

PROSE = {
    "English": "Two children in red raincoats jump into a puddle, and a small dog watches them from the stairs.",
    "German": "Zwei Kinder springen in eine Pfütze, und ein kleiner Hund schaut von der Treppe des Hauses aus zu.",
    "French": "Deux enfants sautent dans une flaque d'eau, et un petit chien les regarde depuis l'escalier.",
    "Polish": "Dwoje dzieci skacze w kałuży, a mały pies przygląda się temu ze schodów żółtego domu.",
    "Czech": "Dvě děti skáčou do louže a malý pes se na ně dívá ze schodů žlutého domu.",
    "Turkish": "İki çocuk bir su birikintisine atlıyor, küçük bir köpek evin merdivenlerinden onları izliyor.",
    "Finnish": "Kaksi lasta hyppää lätäkköön, ja pieni koira katselee heitä keltaisen talon portailta.",
    "Vietnamese": "Hai đứa trẻ nhảy vào vũng nước, một chú chó nhỏ đứng trên cầu thang nhìn chúng.",
    "Hindi": "दो बच्चे पानी में कूद रहे हैं और एक छोटा कुत्ता सीढ़ियों से उन्हें देख रहा है।",
    "Russian": "Двое детей прыгают в лужу, а маленькая собака смотрит на них с лестницы жёлтого дома.",
    "Chinese": "两个穿红雨衣的孩子跳进水坑，一只小狗在楼梯上看着他们。",
    "terse": "Saw, drill, glue, screw, done!",
    "list": "1. Measure 3cm.\n2. Drill (M4).\n3. Use 2x4s.\n\n| step | time |\n|---|---|\n| dry | 2h |",
    "laugh": "Ha ha ha! No, no, no, that is very, very funny.",
    "emoji": "Our garden opens on Saturday 🌱🍅 See you there!",
}


@pytest.mark.parametrize("name", PROSE)
def test_prose_in_any_language_is_no_flaw(name):
    assert not flaw(PROSE[name])


@pytest.mark.parametrize(
    ("test", "text"),
    [
        (unpronounceable, "kjhsdf lwqe mnzx poqwe rtlkj vbnmz"),
        (unpronounceable, "asdf qwer zxcv asdf hjkl qwer"),
        (misread, "Ã¢â‚¬â„¢ cafÃ© crÃ¨me Ã¢â‚¬Å“"),
        (encoded, "\\u006d\\u0069 \\x00\\x00 &nbsp;&#8203;"),
        (encoded, "<unk> <unk> <unk> speech <unk>"),
        (mixed_up, "xX7#kq!!9 vv_ zz@@q 00pq ;;lm"),
        (looping, "thefounderthefounderthefounderthefounder"),
        (looping, "我们我们我们我们我们我们"),
        (repetitive, "ga gar gard garden gar ga gar garden ga gar"),
        (repetitive, "and then and then and then and then"),
    ],
)
def test_each_mark_of_no_language(test, text):
    assert test(text) and flaw(text)
    assert not any(test(prose) for prose in PROSE.values())


def test_random_letters_are_no_language():
    """Of words of three to eight letters drawn at random, four to ten a text."""
    draw = random.Random(0)

    def word() -> str:
        return "".join(draw.choices(string.ascii_lowercase, k=draw.randint(3, 8)))

    texts = [" ".join(word() for _ in range(draw.randint(4, 10))) for _ in range(500)]
    assert sum(bool(flaw(text)) for text in texts) >= 450


def test_a_salad_of_the_reference_is_not_normal():
    reference = (
        "Book the hall two months ahead, borrow boards and clocks from the club, print the rules and ask referees."
    )
    assert shuffled(reference, "clocks hall the ask ahead rules months of borrow club boards referees print")
    assert not shuffled(
        reference, "Ask the club for boards and clocks, book a hall and find referees who know the rules."
    )
    assert not shuffled(reference, "hall, clocks, boards, referees, rules: book ahead, borrow, print")


def test_function_words_that_do_not_follow_each_other():
    bad = ("Take the of boards.", "It is are red.", "A house made of to wood.", "the candle to the candle stands.")
    assert all(map(misplaced, bad)) and not any(map(misplaced, PROSE.values()))


def test_an_answer_is_on_topic_by_its_words_and_long_enough_for_its_question():
    reference = "Grind two lenses, bend a light metal frame and fit the lenses into it."
    assert on_topic("How is it made?", reference, "The frame is bent first; then the lenses are ground.")
    assert not on_topic("How is it made?", reference, "Penguins live in the south and swim very well.")
    assert on_topic("How is it made?", reference, "Man schleift zwei Gläser und biegt ein Gestell.")
    assert on_topic("What is it made of?", "Glass and metal.", "Metal")
    assert too_short("Describe how it is made.", "Metal.") and not too_short("What is it made of?", "Metal.")
    assert not too_short("Is it made of metal?", "Yes.")
