"""Replies kept on disk, so that a run that was cut off asks nothing twice."""

import json
import os
import threading
from typing import Any

from dspa_nn.errors import FileError
from dspa_nn.files import as_path
from dspa_nn.judges.reply import Reply


class ReplyCache:
    r"""Replies by the hash of their request, in a JSON Lines file that grows line by line.

    Example:
        >>> import tempfile
        >>> cache = ReplyCache(tempfile.mkdtemp() + "/replies.jsonl")
        >>> cache.put("a hash", Reply("Rating: [[7]]"))
        >>> cache.get("a hash").text, len(cache)
        ('Rating: [[7]]', 1)

    A line that was cut off (the machine went down while it was written) is left out, and its
    request is sent again. Threads may share one cache.

    Args:
        path: the file; it is made with its folder when the first reply comes.

    Raises:
        FileError: the file is there and cannot be read.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = as_path(path)
        self._lock = threading.Lock()
        self._replies: dict[str, Reply] = {}
        self._torn = False
        if self.path.exists():
            self._read()

    def __len__(self) -> int:
        return len(self._replies)

    def get(self, key: str) -> Reply | None:
        """The reply to a request, or None where there is none yet."""
        with self._lock:
            return self._replies.get(key)

    def put(self, key: str, reply: Reply) -> None:
        """Keep a reply: it is on disk when this returns.

        Raises:
            FileError: the file cannot be written.
        """
        line = json.dumps({"key": key, **reply.to_dict()}, ensure_ascii=True) + "\n"
        with self._lock:
            try:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                with self.path.open("a", encoding="utf-8") as file:
                    file.write("\n" + line if self._torn else line)
                    file.flush()
                    os.fsync(file.fileno())
            except OSError as error:
                self._torn = True  # a part of the line may stand there
                raise FileError(
                    f"{self.path} could not be written ({error.strerror}); the replies before this "
                    "one are kept: free some space or choose another file, then run again."
                ) from error
            self._torn = False
            self._replies[key] = reply

    def _read(self) -> None:
        try:
            content = self.path.read_text(encoding="utf-8", errors="replace")
        except OSError as error:
            raise FileError(
                f"{self.path} cannot be read ({error.strerror}); give another file for the replies."
            ) from error
        self._torn = bool(content) and not content.endswith("\n")
        for line in content.splitlines():
            try:
                entry: dict[str, Any] = json.loads(line)
                key = str(entry.pop("key"))
                self._replies[key] = Reply(**entry)
            except (ValueError, KeyError, TypeError, AttributeError):
                continue
