"""How many pairs may carry a tag."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray


class Quotas:
    """Places left in each tag's quota; a pair whose source and character both carry a tag takes one place."""

    def __init__(
        self, quotas: Mapping[str, int], sources: Sequence[Collection[str]], characters: Sequence[Collection[str]]
    ) -> None:
        self.left = dict(quotas)
        self._sources = [_those(tags, quotas) for tags in sources] if quotas else []
        self._characters = [_those(tags, quotas) for tags in characters] if quotas else []
        self._columns = {tag: np.array([tag in tags for tags in self._characters], bool) for tag in quotas}

    def __bool__(self) -> bool:
        return bool(self.left)

    def take(self, row: int, column: int) -> None:
        """Take the places of a pair, also where none is left: existing pairs may be more than a quota."""
        if self.left:
            for tag in self._sources[row] | self._characters[column]:
                self.left[tag] -= 1

    def take_all(self, row: int, columns: NDArray[np.int64]) -> bool:
        """Take the places of a source's pairs, or none and return False if there are not enough."""
        wanted = Counter(
            tag for column in columns.tolist() if column >= 0 for tag in self._sources[row] | self._characters[column]
        )
        if any(self.left[tag] < count for tag, count in wanted.items()):
            return False
        for tag, count in wanted.items():
            self.left[tag] -= count
        return True

    def is_full_for(self, row: int) -> bool:
        """Say whether a tag of a source has no place left."""
        return any(self.left[tag] <= 0 for tag in self._sources[row])

    def full_columns(self) -> NDArray[np.bool_]:
        """Say which characters carry a tag that has no place left, bool [characters]."""
        full = np.zeros(len(self._characters), bool)
        for tag, left in self.left.items():
            if left <= 0:
                full |= self._columns[tag]
        return full


def _those(tags: Collection[str], quotas: Mapping[str, int]) -> frozenset[str]:
    return frozenset(tag for tag in tags if tag in quotas)
