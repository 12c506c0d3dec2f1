"""Style axes as counts of words: warm or formal, glad or sorry, encouraging or warning.

The scores are lexical on purpose: they are deterministic, anyone can recompute them by hand, and
they know nothing of the model or of the latents that are steered. `warmth` is docs/method.md 10's
friendly against professional axis; the word lists are our own.
"""

import re

# Affection, comfort, praise, joy and interjections.
WARM = frozenset(
    """
    adorable adore ah amazing angel aw aww awesome beautiful beloved bless blessed blessing
    brave buddy care caring celebrate cheer cheerful cherish comfort congrats congratulations
    cozy cute darling dear dearest dearly delight delighted delightful enjoy enjoying excited
    exciting fabulous fantastic feel feeling friend friends fun gentle gently glad goodness
    gorgeous great grateful happiness happy hearing heart hearts hello hey hooray hope hug hugs
    incredible joy joyful kind kindness laugh lots love loved lovely loves loving lucky magic
    magical marvelous miss okay oh precious pretty promise proud really remember smile smiles
    sorry soul special splendid sunshine sure sweet sweetheart sweetie sweetly thank thanks
    thrilled together treasure warm warmly warmth welcome well-done wish wonder wonderful worry
    wow yay yes
    """.split()
)
# The speaker and the person spoken to; a formal register avoids both.
PERSONAL = frozenset(
    """
    i i'm i've i'll i'd me my mine myself you you're you've you'll you'd your yours yourself we
    we're we've we'll our us let's
    """.split()
)
# Connectives, hedges and verbs of official and academic prose.
FORMAL = frozenset(
    """
    accordingly achieve achieved acquire adequate adhere additional additionally advisable
    aforementioned although appropriate approximately aspect aspects assess beneficial
    characterized circumstance circumstances comprise comprises conduct conducted consequently
    consider considered consist consists constitute constitutes consult contribute contributes
    demonstrate denote derived despite determine determined due encompass encompasses ensure
    essential establish established exhibit exhibits experienced facilitate facilitates factors
    frequently function furthermore generally hence however indicate indicates individual
    individuals initial maintain maintained may moreover must necessary nevertheless notable
    numerous obtain obtained occur occurs overall particularly pertain potential potentially
    primarily prior procedure process processes professional provide provided provides
    recommended refer referred refers regarding regular regulate relevant remain remains
    represent represents require required requires respective result resulting results serve
    serves shall significant significantly situated subsequent subsequently substance substances
    such sufficient therefore thereby thus transport typically undergo upon utilize utilized
    various via whereas which
    """.split()
)
# Nouns made of verbs and adjectives ("examination", "achievement", "salinity").
NOMINAL = re.compile(r"[a-z]{4,}(?:tions?|sions?|ments?|ity|ities|ances?|ences?)")
# Joy and praise on one side, sympathy and what it speaks of on the other.
GLAD = frozenset(
    """
    achievement amazing awesome beautiful best blessed brilliant celebrate celebrated celebrating
    celebration congrats congratulate congratulations delight delighted delightful enjoy excellent
    excited exciting fantastic glad great happiness happy hooray impressive incredible joy joyful
    lovely lucky perfect pleased pleasure proud success successful thrilled thrilling
    well-deserved wonderful
    """.split()
)
SORRY = frozenset(
    """
    alone awful challenging comfort condolences devastated devastating difficult disappointed
    disappointing disappointment disappointments distressing frustrated frustrating grief grieving
    hard heartbreaking heartbroken hurt hurts loss pain painful regret sad sadness sorrow sorry
    suffering terrible tough tragic unfortunate unfortunately upset upsetting worried worrying
    """.split()
)
# What is good about a plan, and what can go wrong with it.
ENCOURAGING = frozenset(
    """
    achievement adventure amazing awesome beautiful best brave bright confident congratulations
    delicious delight delightful dream enjoy enjoyable excellent excited exciting fantastic fun
    fulfilling glad great happiness happy incredible inspire joy love loved lovely luck memorable
    perfect pleasure proud rewarding shine smile succeed success successful thrilled thrilling
    unforgettable wonderful
    """.split()
)
WARNING = frozenset(
    """
    accident accidents afraid avoid awful bad beware break broken burn can't cannot careful
    carefully caution cautious damage danger dangerous debt die died difficult don't drown expensive
    fail fails failure fall fire hard harm harmful hurt illegal illness impossible injure injured
    injuries injury lonely lose lost mistake mistakes never pain painful problem problems regret
    risk risks risky ruin sick stolen terrible trouble unsafe warn warning watch worse worst wrong
    """.split()
)
_WORD = re.compile(r"[a-z]+(?:['-][a-z]+)*")


def plain(text: str) -> str:
    """The text in small letters with straight apostrophes.

    >>> plain("It’s")
    "it's"
    """
    return text.lower().replace("\u2019", "'")


def warmth(text: str) -> float:
    """Return how warm `text` is: warm marks less formal marks, per word; higher is warmer.

    Example:
        >>> warmth("Oh, what lovely news, my dear! I am so proud of you!")
        0.75
        >>> round(warmth("The result represents a notable achievement."), 2)
        -0.67

    A warm mark is an exclamation mark, a word of `WARM`, a word of `PERSONAL` or another
    contraction ("it's", "don't"). A formal mark is a word of `FORMAL` or a nominalisation of eight
    letters or more. Each counts 1 and a word carries one mark at most; a run of exclamation marks
    is one. A text without words scores 0. Unit: marks per word.

    Source: docs/method.md 10 (arXiv 2603.21461), axis friendly/professional; lists and weights
    ours.
    """
    words = _WORD.findall(plain(text))
    if not words:
        return 0.0
    return (len(re.findall(r"!+", text)) + sum(map(_mark, words))) / len(words)


def gladness(text: str) -> float:
    """Return 1 where `text` is glad, -1 where it is sorry, and 0 where it is neither or both.

    Example:
        >>> gladness("Congratulations! You must be so proud.")
        1.0
        >>> gladness("I'm so sorry to hear that. It must be hard.")
        -1.0

    The words of `GLAD` and of `SORRY` are counted, and the larger number decides.
    """
    return _balance(text, GLAD, SORRY)


def encouragement(text: str) -> float:
    """Return 1 where `text` encourages, -1 where it warns, and 0 where it does neither or both.

    Example:
        >>> encouragement("What a great plan! You will be so proud.")
        1.0
        >>> encouragement("Be careful. You could fall and get hurt.")
        -1.0

    The words of `ENCOURAGING` and of `WARNING` are counted, and the larger number decides.
    """
    return _balance(text, ENCOURAGING, WARNING)


def _balance(text: str, more: frozenset[str], less: frozenset[str]) -> float:
    words = _WORD.findall(plain(text))
    balance = sum(word in more for word in words) - sum(word in less for word in words)
    return float((balance > 0) - (balance < 0))


def _mark(word: str) -> int:
    if word in WARM or word in PERSONAL or ("'" in word and not word.endswith("'s")):
        return 1
    if word in ("it's", "that's", "what's", "there's", "here's", "let's", "he's", "she's"):
        return 1
    return -1 if word in FORMAL or NOMINAL.fullmatch(word) else 0
