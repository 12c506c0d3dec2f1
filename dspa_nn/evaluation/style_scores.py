"""The scorers of the style axes: rates of words and marks that anyone can recompute by hand.

Lists and weights are our own, tuned on the pairs of `assets/style_pairs.jsonl` that are for it; the
pairs kept apart were written when the lists were finished. How well these are ranked is in `AXES`.
Some common words ("you", "if", "to") came into the lists as parts of phrases that were cut in two.
They stay where they do no plain harm, since the lists were validated with them.
"""

import math
import re

from dspa_nn.evaluation.style import plain, warmth

_WORD = re.compile(r"[a-z0-9]+(?:['-][a-z0-9]+)*")


def words_of(text: str) -> list[str]:
    """Its words in small letters, with straight apostrophes.

    >>> words_of("It’s a well-known fact.")
    ["it's", 'a', 'well-known', 'fact']
    """
    return _WORD.findall(plain(text))


def phrases(listed: str) -> re.Pattern[str]:
    """A pattern of whole words and phrases, parted by commas.

    >>> len(phrases("not sure, i think").findall("i think so, but am not sure"))
    2
    """
    found = [" ".join(one.split()) for one in listed.split(",") if one.strip()]
    found.sort(key=len, reverse=True)
    return re.compile(r"(?<![a-z'])(?:" + "|".join(map(re.escape, found)) + r")(?![a-z])")


def rate(pattern: re.Pattern[str], text: str) -> float:
    """Matches per word; 0 of a text without words.

    >>> rate(phrases("maybe"), "Maybe not.")
    0.5
    """
    words = words_of(text)
    return len(pattern.findall(plain(text))) / len(words) if words else 0.0


SOFTENERS = phrases(
    """
    a bit, a feeling, a little, a touch, although, appears, appreciate, appreciated, at some,
    point, consider, could, could be, curious, fair point, feel free, gentle, gently, glad, good,
    point, good try, grateful, had hoped, happy to, helpful, hope, humbly, i believe, i can,
    imagine, i can see, i feel, i hear, i see, i suppose, i think, i'm afraid, if possible, if you,
    don't mind, if you like, impression, in a way, interesting, just, kind of, kindly, lovely,
    may, maybe, might, might want, more comfortable, more or less, nice, no pressure, not,
    entirely, not quite, on the other hand, perhaps, please, possible, possibly, potentially,
    quite, rather, respectfully, room for, seem, seems, slightly, somewhat, sorry, sort of,
    suspect, tend to, thank, thanks, though, to be fair, understand, understandable, when you get,
    a moment, whenever, with respect, wonder, worth, would appreciate, would it be, would love,
    would you, would you mind
    """
)
BLUNT = phrases(
    """
    again, at once, awful, bad, boring, can't, cannot, cut, doesn't, don't, drop, fail, failed,
    fails, false, fix, flatly, get, go, have to, horrible, immediately, incorrect, isn't, late,
    lazy, leave, mistake, must, need to, never, no, nobody, nonsense, not, nothing, now, poor,
    quit, refuse, shut, simply, stop, tell, terrible, too, ugly, unacceptable, useless, waste,
    weak, won't, worthless, wrong, you are, you're
    """
)
ITEMS = re.compile(
    r"(?m)^\s*(?:[-*+\u2022]|\(?\d{1,3}[.):]|\(?[a-zivx]{1,3}\)|\[[ x]?\]|#{1,6}\s|\||\d{3,4}:)"
    r"|\*\*[^*\n]+\*\*"
)
LABELS = re.compile(r"(?:^|[.;\n]\s*)[A-Z][\w' ]{0,24}:(?=\s|\n|$)")
INLINE_ITEMS = re.compile(r"(?<!\w)\(?(?:\d|[a-h]|i{1,3}|iv)\)\s")
ORDINALS = phrases(
    """
    afterwards, as follows, fifth, finally, first, firstly, fourth, in conclusion, in order, in,
    short, in summary, last, lastly, next, overview, part one, part two, second, secondly, stage,
    one, stage three, stage two, step one, step three, step two, summary, the following, then,
    third, thirdly, to begin with, to start with, to sum up, type one, type two
    """
)
TASKS = phrases(
    """
    add, after, agenda, apply, april, arrange, assign, attach, bake, before, boil, book, budget,
    bug, bugs, build, buy, by, by noon, calculate, calibrate, check, chop, clean, click, close,
    code, column, compile, complete, confirm, connect, copy, cost, costs, count, cut, data,
    deadline, degrees, delete, deliver, deploy, deployed, design, document, download, draft,
    drill, efficiency, email, enter, file, fill, finish, folder, form, friday, goal, goals, heat,
    hours, increase, ingredients, insert, install, invoice, june, line, list, load, log, machine,
    mail, march, measure, meeting, minutes, mix, model, monday, open, order, oven, pack, page,
    pages, paint, pay, per, percent, performance, phone, plan, plans, post, pour, prepare, press,
    print, process, project, record, reduce, release, remove, repair, replace, report, restart,
    results, review, run, save, scan, schedule, screw, select, send, server, set, ship, sign,
    signed, slides, software, sort, spreadsheet, step, stir, submit, target, task, tasks, test,
    tests, thursday, ticket, today, tomorrow, tool, tuesday, turn, units, update, upload, version,
    wash, wednesday, week, weeks, write
    """
)
RELATIONS = phrases(
    """
    admire, afraid, alone, apologise, appreciate, aunt, believe in, belong, belonging, bond,
    brother, care, cheer, children, close, colleague, colleagues, comfort, company, cried, cry,
    dad, daughter, each other, emotion, emotions, enjoy, enjoyed, everybody, everyone, family,
    father, fear, feel, feeling, feels, felt, for you, forgive, friend, friends, friendship,
    gentle, glad, grandfather, grandmother, grateful, gratitude, guest, guests, happy, he, heard,
    heart, her, him, honest, honoured, hope, how are you, hug, hugs, hurt, hurts, husband, i'm,
    here, imagine, joy, joyful, kind, kindness, laugh, listen, listened, lonely, love, loved,
    loves, marriage, married, mean, means, meant, miss, missed, missing, mom, mother, moved, mum,
    neighbour, neighbours, one another, our, parents, partner, patient, people, proud,
    relationship, remember, respect, respected, sad, scared, share, shared, sharing, she, sister,
    someone, son, sorry, support, supported, talk, talked, team, tears, tender, thank you,
    thankful, thanks, to you, together, touched, trust, trusted, uncle, understand, understanding,
    understood, us, warm, warmth, we, welcome, wife, with you, worried, you are not, you two
    """
)
OFFERS = phrases(
    """
    additionally, afterwards, ahead, also, alternative, alternatively, another, anything else, as,
    a next, as well, be aware, be careful, be sure, bear in mind, before, before you, beforehand,
    besides, by the way, can help, can send, careful, check, consider, do you want, don't forget,
    double-check, either, extra, feel free, follow up, follow-up, for next, for the future, from,
    there, furthermore, get in touch, happy to, have you thought, help, i can, i could, i have,
    also, i will, i would, i'd, i'd be happy, i'd take, i'll, i've also, if it, if it helps, if,
    needed, if that, if the, if you like, if you need, if you want, if your, in addition, in case,
    in the meantime, instead, just ask, keep an eye, keep in mind, later, let me know, let us,
    make sure, may i, meanwhile, moreover, next, next step, next time, note that, on top, once,
    options, other, plan, prepare, prevent, reach out, recommend, related, remember, remind,
    reminder, send you, shall i, should i, should you, suggest, tip, to avoid, to prevent, useful,
    want me, watch out, while i was, while you're, worth, would it help, would you like, you,
    could, you may want, you might also, you might want, you should
    """
)
CAVEATS = phrases(
    """
    about, allegedly, although, apparently, appear, appears, approximately, arguably, around, as,
    far as, as i understand, assuming, at least, believed to, but, can vary, can't be sure, can't,
    rule, can't say, cannot say, caveat, check with, conceivably, considered, could,
    could be wrong, debated, depending, depends, difficult to say, disputed, double-check, doubt,
    doubtful,
    estimate, estimated, estimates, evidence, exception, exceptions, fairly, for what it's worth,
    from what i, generally, give or take, hard to say, however, hypothesis, i believe, i guess, i,
    hope, i imagine, i suppose, i think, i'd expect, i'd guess, i'd imagine, i'd say, if, if i,
    remember, in general, in my experience, in my opinion, in part, in principle, in some cases,
    in theory, likely, limited, many, may, may not, may vary, maybe, might, might not, mistaken,
    mixed, more or less, most, not always, not entirely, not necessarily, not sure, occasionally,
    often, open question, or so, other factors, others, partly, perhaps, perhaps not, possible,
    possibly, potentially, preliminary, presumably, probably, provided that, reportedly, roughly,
    said to, seem, seems, should, some, sometimes, somewhat, speculative, subject to, suggest,
    suggested, suggests, supposedly, tend, tends, tentative, tentatively, though, thought to, to,
    my knowledge, too early, typically, uncertain, uncertainty, unclear, unconfirmed,
    under certain, under some, unknown, unless, unlikely, usually, varies, vary, would
    """
)
SURE = phrases(
    """
    absolutely, all, always, believe me, best, beyond doubt, can't, cannot, certain, certain that,
    certainly, clear, clearly, completely, definitely, each time, end of story, entirely,
    established, every, every time, everyone, evident, evidently, exactly, fact, fact is, false,
    for sure, forever, guarantee, guaranteed, i know, impossible, indeed, indisputable,
    inevitably, know, known, mark my words, must, never, no doubt, no one, no question, nobody,
    none, nothing, obvious, obviously, of course, only, only one, period, plain, plainly,
    positive, precisely, proof, proved, proven, proves, really, right, simply, sure, surely,
    the only,
    totally, true, truly, trust me, undeniable, undeniably, undoubtedly, unquestionably,
    wholly, will, without doubt, without exception, without fail, without question, wrong
    """
)
SIMILES = re.compile(r"(?<![a-z])(?:like (?:a|an|the|some|[a-z]+ed|[a-z]+s)\b|as if|as though)")
IMAGES = phrases(
    """
    anchor, ancient, ash, asleep, attic, awake, bear, bee, bees, bell, bells, bird, birds, bitter,
    blazing, blood, blossom, bone, bones, breath, breathed, bridge, burned, burning, butterfly,
    castle, castles, cathedral, chewed, choir, climbed, cloud, clouds, coat, copper, coughed,
    crawled, crept, crimson, crow, crown, crows, dance, danced, dancing, dawn, deep, devoured,
    diamond, diamonds, door, doors, drank, dream, dreams, dripped, dripping, drum, drunk, dusk,
    dust, dusty, ember, embers, embraced, emerald, endless, eyes, fairy, feather, feathers,
    fingers, fire, fish, flame, flower, flowers, forest, forgot, forgotten, fox, frost, ghost,
    glass, glowed, glowing, gold, golden, hand, hands, harbour, heart, heaven, honey, horse,
    horses, hummed, hung, hungry, ice, ink, iron, island, jewel, king, kissed, knife, lantern,
    lanterns, laughed, laughing, leaf, leaned, leaves, lightning, lion, lonely, lullaby, magic,
    meadow, melody, melted, melting, memories, mirror, mirrors, moon, moth, mountain, mountains,
    mouth, murmured, music, night, ocean, owl, pale, paper, patient, pearl, pearls, petals,
    poured, queen, quiet, rain, ribbon, river, road, roared, root, roots, rose, roses, sail,
    sails, sang, scar, sea, shadow, shadows, shimmering, shining, ship, shore, sighed, silence,
    silent, silver, singing, sings, skin, sky, sleep, sleepy, slept, smile, smiled, smoke, snake,
    snow, soft, song, soul, sparkling, spell, spider, spilled, spirit, star, stars, steel, stole,
    stolen, stones, storm, stubborn, sugar, sun, suns, swallow, swallowed, sweet, sword, symphony,
    tapestry, tears, teeth, thirsty, thorn, thorns, thousand, thread, throne, thunder, tide,
    tides, tiger, tired, tongue, tree, trees, tune, twilight, universe, velvet, violin, wave,
    waves, weary, wept, whale, whisper, whispered, whole world, wild, wind, window, winds, wings,
    woke, wolf, wolves, wore, wound
    """
)
LITERAL = re.compile(
    r"(?<![a-z])(?:\d[\d.,:]*|was|were|is a|is an|is the|are|has|percent|per|system|used|amount"
    r"|temperature|increased|decreased|increases|decreases|often|caused|causes|contained|contains"
    r"|located|known|between|approximately|about|people|euros|minutes|hours|metres|number|average"
    r"|consists|defined|due to|result|process|information)(?![a-z])"
)


def concise(text: str) -> float:
    """Less words is more concise: minus the logarithm of their number.

    >>> concise("Yes.") > concise("Yes, that is what I think.")
    True
    """
    return -math.log(max(len(words_of(text)), 1))


def friendly(text: str) -> float:
    """`dspa_nn.evaluation.warmth`: warm less formal marks, per word.

    >>> friendly("Oh, you dear!") > friendly("The document is required.")
    True
    """
    return warmth(text)


def direct(text: str) -> float:
    """Blunt words less softeners, per word.

    >>> direct("No. Stop it.") > direct("I wonder if we could perhaps stop?")
    True
    """
    return rate(BLUNT, text) - 2 * rate(SOFTENERS, text)


def structured(text: str) -> float:
    r"""List items, headings, labels and ordinals, per word.

    >>> structured("1. Knock.\n2. Wait.") > structured("Knock and wait.")
    True
    """
    words = max(len(words_of(text)), 1)
    marks = sum(len(one.findall(text)) for one in (ITEMS, LABELS, INLINE_ITEMS))
    return marks / words + rate(ORDINALS, text)


def task(text: str) -> float:
    """Words of work, numbers and times less words of people and feelings, per word.

    >>> task("Send the report by noon.") > task("How are you feeling, my friend?")
    True
    """
    numbers = len(re.findall(r"\d+", text)) / max(len(words_of(text)), 1)
    return rate(TASKS, text) + numbers - rate(RELATIONS, text)


def proactive(text: str) -> float:
    """Offers, next steps and warnings beyond the answer, per word.

    >>> proactive("Done. Shall I also tell the others?") > proactive("Done.")
    True
    """
    return rate(OFFERS, text)


def certain(text: str) -> float:
    """Words of certainty less hedges and caveats, per word.

    >>> certain("It will hold.") > certain("It might hold, I think.")
    True
    """
    return rate(SURE, text) - rate(CAVEATS, text)


def creative(text: str) -> float:
    """Similes and images less numbers and words of report, per word.

    >>> creative("The fog came like a cat.") > creative("The fog was dense.")
    True
    """
    words = max(len(words_of(text)), 1)
    similes = len(SIMILES.findall(plain(text))) / words
    return 2 * similes + rate(IMAGES, text) - rate(LITERAL, text)
