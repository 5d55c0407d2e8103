"""Plain text files as documents to continue."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from rlforge.data.config import Kind, SourceConfig
from rlforge.data.selection import select
from rlforge.errors import DataError
from rlforge.types import Document


class TextSource:
    """Each file, or each line or paragraph of it, is a document; for documents in JSONL use `jsonl`."""

    class Config(SourceConfig):
        """Settings of `text`."""

        type: str = "text"
        path: str
        """A file, or a pattern such as `books/*.txt`; a relative path starts at the recipe's folder."""
        separate: Literal["files", "paragraphs", "lines"] = "files"
        """What one document is; paragraphs are separated by blank lines."""

    def __init__(self, config: Config, *, base: Path) -> None:
        """Raises DataError when no file matches or one is not UTF-8."""
        self._config = config
        self.name = config.name or Path(config.path).stem.replace("*", "") or "text"
        self._base = base
        selection = select(self._scan(), config, self.name)
        self._documents = selection.places
        self.kind: Kind = selection.kind
        self.skipped = selection.skipped

    def __len__(self) -> int:
        return len(self._documents)

    def __getitem__(self, index: int) -> Document:
        return self._documents[index]

    def _scan(self) -> Iterator[tuple[str, Document, Document | DataError]]:
        for path in self._files():
            for number, text in enumerate(self._pieces(path), start=1):
                item_id = f"{self.name}/{path.name}" + ("" if self._config.separate == "files" else f":{number}")
                document = Document(id=item_id, text=text, source=self.name)
                bad = DataError("the file is empty") if not text.strip() else None
                yield str(path), document, bad or document

    def _files(self) -> list[Path]:
        # joined first, so that an absolute pattern stands for itself
        pattern = self._base / self._config.path
        anchor = Path(pattern.anchor or ".")
        files = sorted(path for path in anchor.glob(str(pattern.relative_to(anchor))) if path.is_file())
        if not files:
            raise DataError(f"source '{self.name}': no file matches '{pattern}'")
        return files

    def _pieces(self, path: Path) -> list[str]:
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise DataError(f"{path}: not valid UTF-8 at byte {error.start}; convert the file") from error
        if self._config.separate == "files":
            return [text]
        pieces = text.split("\n\n") if self._config.separate == "paragraphs" else text.splitlines()
        return [piece.strip("\n") for piece in pieces if piece.strip()]
