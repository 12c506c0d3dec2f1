"""To the hub and back: whole folders, in one commit, with a card."""

import os
import re
import tempfile
from collections.abc import Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, ClassVar, TypeVar, Unpack, cast

from dspa_nn.checks import check_names
from dspa_nn.errors import DSPAError, FileError
from dspa_nn.files import hub_answers
from dspa_nn.hub.cards import MARKER, CardFacts, CardOptions, card_of
from dspa_nn.hub.refusals import REMEDIES, asking
from dspa_nn.imports import untyped
from dspa_nn.progress import say

Shared = TypeVar("Shared", bound="OnHub")


class OnHub:
    """Something with `save` and `load` that can also lie in a repository on the hub.

    Attributes:
        hub_files: patterns of the files that `save` writes.
    """

    hub_files: ClassVar[tuple[str, ...]] = ()

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write it to a folder."""
        raise NotImplementedError

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> Any:
        """Read it from a folder."""
        raise NotImplementedError

    def card_facts(self) -> CardFacts:
        """What its card says of it."""
        raise NotImplementedError

    def to_folder(self, folder: Path) -> None:
        """Write what a repository holds of it; what `save` writes, where that is a folder."""
        self.save(folder)

    @classmethod
    def from_folder(cls, folder: Path) -> Any:
        """Read what `to_folder` wrote."""
        return cls.load(folder)

    def push_to_hub(
        self,
        repo_id: str,
        *,
        private: bool = False,
        revision: str | None = None,
        message: str | None = None,
        token: str | None = None,
        **said: Unpack[CardOptions],
    ) -> str:
        """Publish it in a repository on the hub, with a card; return the commit's address.

        Example:
            >>> map.push_to_hub("me/warm", receipt="receipt", data="my/triples",
            ...                 data_licence="CC BY 4.0", licence="cc-by-4.0")  # doctest: +SKIP
            'https://huggingface.co/me/warm/commit/...'

        (The hub is needed, so this is not run as a test.) All files go in one commit, so that the
        repository holds the old thing or the new one. A card that somebody wrote by hand stays.
        A repository that holds another kind of thing is refused, and stays as it is.

        Args:
            repo_id: "owner/name"; it is made where there is none.
            private: make it a private one; one that is public already is refused.
            revision: a branch, which must exist; the main one where it is left out.
            message: of the commit.
            token: of the hub; else what `hf auth login` stored or HF_TOKEN holds. It is sent to
                the hub, and written nowhere.
            said: the keywords of `CardOptions`: name, receipt, data, data_licence, licence, notes.

        Raises:
            FileError: the hub does not answer or refuses, a receipt of something else, or a
                repository that holds another kind of thing.
            DSPAError: a keyword that is none of `CardOptions`.
        """
        check_names("push_to_hub", said, list(CardOptions.__annotations__), DSPAError)
        facts = self.card_facts()
        card = card_of(facts, repo_id, said)
        with tempfile.TemporaryDirectory() as folder:
            self.to_folder(Path(folder))
            return upload(
                folder, repo_id, card=card, replaces=type(self).hub_files, private=private,
                revision=revision, message=message or f"A {facts.kind} of dspa-nn", token=token,
            )  # fmt: skip

    @classmethod
    def from_hub(
        cls: type[Shared], repo_id: str, *, revision: str | None = None, token: str | None = None
    ) -> Shared:
        """Read one from a repository on the hub, or from the hub's cache where it is there already.

        Example:
            >>> map = dn.ConditionalDifferenceMap.from_hub("me/warm")  # doctest: +SKIP

        (The hub is needed, so this is not run as a test.)

        Args:
            repo_id: "owner/name".
            revision: a branch, tag or commit; name one for results that are to be repeated.
            token: as for `push_to_hub`.

        Raises:
            FileError: there is none, it holds something else, the hub refuses, or the files are
                damaged.
        """
        folder = download(repo_id, cls.hub_files, revision=revision, token=token)
        if not any(any(folder.glob(pattern)) for pattern in cls.hub_files):
            raise FileError(
                f"{repo_id} holds no {' or '.join(cls.hub_files[:1])}, and so no {cls.__name__}; "
                f"`dspa inspect {repo_id}` says what it holds"
            )
        return cls.from_folder(folder)


def upload(
    folder: str | os.PathLike[str],
    repo_id: str,
    *,
    card: Any,
    replaces: Sequence[str],
    private: bool = False,
    revision: str | None = None,
    message: str = "dspa-nn",
    token: str | None = None,
) -> str:
    """Send a folder to a repository in one commit; return the commit's address.

    card: huggingface_hub's `ModelCard`, for README.md. replaces: patterns of files that go where
    the folder does not hold them. Raises `FileError` where the hub does not answer or refuses, and
    where the repository holds another kind of thing.
    """
    hub = untyped("huggingface_hub")
    if not hub_answers():
        raise FileError(
            f"{repo_id} cannot be published, since the hub does not answer; check the network, "
            "HF_HUB_OFFLINE and HF_ENDPOINT (`dspa doctor` looks at them)"
        )
    if repo_id.count("/") != 1:  # the hub would make "name" yours, and then not find it
        raise FileError(f"{repo_id} cannot be published: {REMEDIES['HFValidationError']}")
    endpoint = untyped("huggingface_hub.constants").ENDPOINT
    api = hub.HfApi(endpoint=endpoint, token=_sendable(token))
    with asking(repo_id, "published"):
        api.create_repo(repo_id, private=private, exist_ok=True)
        if private and not api.model_info(repo_id).private:
            raise FileError(
                f"{repo_id} is there already, and public, so nothing was sent; make it private in "
                "its settings on the hub, or choose another name"
            )
        there = api.list_repo_files(repo_id, revision=revision)
        _require_own(repo_id, there, replaces)
        if _written_by_hand(api, repo_id, revision):
            say(f"{repo_id} has a card that was written by hand: it stays as it is")
        else:
            Path(folder, "README.md").write_text(str(card), encoding="utf-8")
        new = sorted(path for path in Path(folder).iterdir() if path.is_file())
        gone = [
            name
            for name in there
            if _matches(name, replaces) and name not in {path.name for path in new}
        ]
        operations = [hub.CommitOperationAdd(path.name, str(path)) for path in new]
        operations += [hub.CommitOperationDelete(name) for name in gone]
        done = api.create_commit(repo_id, operations, commit_message=message, revision=revision)
    return str(done.commit_url)


def download(
    repo_id: str,
    patterns: Sequence[str],
    *,
    revision: str | None = None,
    token: str | None = None,
) -> Path:
    """Bring files of a repository into the hub's cache; return their folder.

    >>> download("nobody/nothing", ["map.json"])
    Traceback (most recent call last):
    dspa_nn.errors.FileError: nobody/nothing cannot be had: ...

    Raises:
        FileError: there is no such repository, or the hub does not give it.
    """
    hub = untyped("huggingface_hub")
    wanted: dict[str, Any] = {"allow_patterns": list(patterns), "revision": revision}
    wanted["endpoint"] = untyped("huggingface_hub.constants").ENDPOINT
    wanted["token"] = _sendable(token)
    with asking(repo_id, "had"):
        return Path(hub.snapshot_download(repo_id, **wanted))


def _sendable(token: str | None) -> str | None:
    """A token without the line break that a file of it ends in: httpx would print both."""
    if token is None:
        return None
    if re.fullmatch(r"[!-~]+", bare := token.strip()) is None:
        raise FileError(
            "the token of the hub is empty, or holds blanks or letters outside of ASCII; pass it "
            "as the hub showed it, or leave it out"
        )
    return bare


# Files by which things of this package are known, each of which has a repository of its own.
_THINGS = {"map.json": "a map", "counts.json": "counts", "persona.json": "a persona"}


def _require_own(repo_id: str, there: Sequence[str], replaces: Sequence[str]) -> None:
    """Refuse a repository that would hold things of two kinds, one of them under a wrong card."""
    for name in there:
        if name in _THINGS and not _matches(name, replaces):
            raise FileError(
                f"{repo_id} holds {_THINGS[name]} ({name}), and a repository holds one kind of "
                "thing, so nothing was sent; choose another name, or delete those files there"
            )


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatch(name, pattern) for pattern in patterns)


def _written_by_hand(api: Any, repo_id: str, revision: str | None) -> bool:
    if not api.file_exists(repo_id, "README.md", revision=revision):
        return False
    path = api.hf_hub_download(repo_id, "README.md", revision=revision)
    return MARKER not in Path(cast(str, path)).read_text(encoding="utf-8")
