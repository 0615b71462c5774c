"""The key of a case, `PIPELINE/STAGE/WORKLOAD`. Records hold it as text; `CaseKey` is for whoever needs its parts."""

from __future__ import annotations

import dataclasses

_MOST_CHARACTERS = 200  # as of every key in a stored record
RESULT_FILES = "*__*__*.json"  # a glob: the files of cases in a results folder


@dataclasses.dataclass(frozen=True, order=True)
class CaseKey:
    """A pipeline, one of its stages and a workload, such as `sdxl/int8/1024px-30steps-b1`."""

    pipeline: str
    stage: str
    workload: str

    @classmethod
    def parse(cls, text: str) -> CaseKey:
        """Take a key apart; a `ValueError` if it is not three texts with "/" between them, or is longer than a record's."""
        if not cls.is_key(text):
            raise ValueError(f"expected a case key, PIPELINE/STAGE/WORKLOAD, found {text!r:.{_MOST_CHARACTERS}}")
        return cls(*text.split("/"))

    @classmethod
    def from_file_stem(cls, stem: str) -> CaseKey:
        """Parse the name of a file, without its extension, that `file_stem` made."""
        return cls.parse(stem.replace("__", "/"))

    @staticmethod
    def is_key(text: object) -> bool:
        """True for a text that `parse` accepts."""
        if not isinstance(text, str) or len(text) > _MOST_CHARACTERS:
            return False
        return text.count("/") == 2 and all(text.split("/"))

    def __str__(self) -> str:
        return f"{self.pipeline}/{self.stage}/{self.workload}"

    @property
    def file_stem(self) -> str:
        """The key as a file's name without its extension."""
        return str(self).replace("/", "__")

    @property
    def file_name(self) -> str:
        """The name of the case's result file."""
        return f"{self.file_stem}.json"

    def at(self, stage: str) -> CaseKey:
        """The same pipeline and workload at another stage."""
        return dataclasses.replace(self, stage=stage)
