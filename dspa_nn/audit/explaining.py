"""What latents mean, from any texts: places, typical words, promoted tokens, and a judge's word."""

from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from dspa_nn.audit.asking import (
    ask_for_category,
    ask_for_explanation,
    read_category,
    read_explanation,
    texts_of,
)
from dspa_nn.audit.places import Side, Text, meaning_of_snippets, snippets
from dspa_nn.checks import check_positive_int, check_type
from dspa_nn.errors import DSPAError, JudgeError
from dspa_nn.evaluation import promoted_tokens
from dspa_nn.judges import Judge
from dspa_nn.progress import quiet_loaders
from dspa_nn.saes import LatentMeaning
from dspa_nn.steering import DSPA

# Whose latents they are where none is given: the command line's default, too.
_PRESET = "smollm2-135m-instruct"
_PROMOTED = 6


def explain(
    latents: Iterable[int] | None,
    texts: Iterable[Text],
    *,
    dspa: DSPA | None = None,
    judge: Judge | None = None,
    side: Side = "output",
    most: int = 10,
    before: int = 20,
    after: int = 10,
    parallel: int = 4,
    advance: Callable[[int], object] | None = None,
) -> dict[int, LatentMeaning]:
    """Say what latents mean, as far as texts show it, and as far as a judge can tell.

    Example:
        >>> meanings = explain([3, 7], ["sun and moon", "red or blue"], dspa=dspa)
        >>> str(meanings[3].snippets[0]), meanings[3].explanation
        ('...[[...]]...', None)

    Without a judge: the places in the texts where each latent is strongest, the words most often
    among them, and the tokens that an output latent promotes. With one: an explanation, whether it
    is reliable, what it rests on, and a category, as `judged_meanings` does it.

    Args:
        latents: which; None means all that are active in the texts.
        texts: what `snippets` takes: strings, chats, rendered prompts or triples.
        dspa: whose latents; None means the embedded model's.
        judge: an endpoint with its cache; None asks nobody.
        side: "output" latents, those that are edited, or "input" latents, those that vote.
        most: places of each latent that are kept, and shown to the judge.
        before: tokens of context before a place.
        after: tokens of context after it.
        parallel: requests at a time.
        advance: called with 1 for each latent that the judge is done with.

    Raises:
        DSPAError: what `snippets` raises; texts in which none of the latents is active.
        JudgeError: the judge refused or did not answer; what it said is kept, and the same call
            goes on from there.
    """
    if dspa is None:
        with quiet_loaders():
            dspa = DSPA.from_preset(_PRESET)
    check_type("dspa", dspa, DSPA, DSPAError)
    check_type("judge", judge, Judge | None, JudgeError)
    found = snippets(dspa, texts, latents, side=side, most=most, before=before, after=after)
    if not any(found.values()):
        raise DSPAError(
            f"none of the {len(found)} latents is active in the texts; give other texts, or more"
        )
    words = promoted_tokens(dspa, found, most=_PROMOTED) if side == "output" else {}
    meanings = {
        latent: meaning_of_snippets(places, promotes=words.get(latent, ()), shown=most)
        for latent, places in found.items()
    }
    if judge is None:
        return meanings
    return judged_meanings(meanings, judge, parallel=parallel, advance=advance)


def judged_meanings(
    meanings: Mapping[int, LatentMeaning],
    judge: Judge,
    *,
    parallel: int = 4,
    advance: Callable[[int], object] | None = None,
) -> dict[int, LatentMeaning]:
    """Have a judge explain latents from their places, and put each in one of six categories.

    Example:
        >>> from dspa_nn.judges import Endpoint, Judge, ReplyCache
        >>> endpoint = Endpoint("http://127.0.0.1:8000/v1", "my-judge")
        >>> judge = Judge(endpoint, ReplyCache("said.jsonl"))
        >>> judged_meanings(meanings, judge)  # doctest: +SKIP

    Two requests for each latent (paper: section on auditing; docs/method.md 10): one shows its
    places, the active token in double brackets, and asks for an explanation, whether it is
    reliable, and its evidence; the other asks for a category. A latent that is explained already,
    by Neuronpedia or by you, is only put in a category; one that has a category is left as it is.
    An answer that is not of the form asked for is asked for again, as often as `judge.attempts`
    says; then the meaning's `note` says so.

    What a text says is shown to the judge as data, in JSON, its own double brackets taken apart;
    where an answer could still be quoted from a text, the `note` says so. A judge with a cache
    (`ReplyCache`) is asked nothing twice: a run that was cut off goes on where it stopped.

    Args:
        meanings: with snippets or an explanation; others are left as they are.
        judge: who is asked.
        parallel: requests at a time.
        advance: called with 1 for each latent that is done.

    Raises:
        DSPAError: no latent has a snippet or an explanation.
        JudgeError: the judge refused or did not answer.
    """
    check_type("judge", judge, Judge, JudgeError)
    check_positive_int("parallel", parallel, DSPAError)
    if not any(one.snippets or one.explanation for one in meanings.values()):
        raise DSPAError(
            f"none of the {len(meanings)} latents has a snippet or an explanation to judge by; "
            "find their places with explain or snippets, or read explanations with "
            "read_neuronpedia"
        )

    def one(latent: int) -> tuple[int, LatentMeaning]:
        told = _judged(meanings[latent], judge)
        if advance is not None:
            advance(1)
        return latent, told

    with ThreadPoolExecutor(max_workers=parallel) as pool:
        tasks = [pool.submit(one, latent) for latent in meanings]
        try:
            return dict(task.result() for task in tasks)
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def _judged(meaning: LatentMeaning, judge: Judge) -> LatentMeaning:
    shown = texts_of(meaning.snippets)
    if not meaning.explanation and meaning.snippets:
        reply = judge.ask(
            ask_for_explanation(meaning.snippets),
            accept=lambda text: read_explanation(text, shown).usable,
        )
        said = read_explanation(reply.text, shown)
        meaning = replace(
            meaning,
            explanation=said.text or None,
            reliable=said.reliable,
            evidence=said.evidence or None,
            source=judge.name,
            note=said.note or None,
        )
    if not meaning.explanation or meaning.category:
        return meaning
    # What the judge wrote of a text may repeat it, so that a quotation is looked for in both.
    shown = "\n".join([shown, meaning.explanation, meaning.evidence or ""])
    reply = judge.ask(
        ask_for_category(meaning.explanation, meaning.evidence, meaning.snippets),
        accept=lambda text: read_category(text, shown).category is not None,
    )
    sorted_as = read_category(reply.text, shown)
    notes = [note for note in (meaning.note, sorted_as.note) if note]
    return replace(meaning, category=sorted_as.category, note="; ".join(notes) or None)
