"""The figures in a reference picture: where a teacher that aligns driving skeletons lays them (`model/placement.py`).

In cartoons, animals and things none may be found: then the skeleton is fitted into the picture.
"""

from collections import OrderedDict
from typing import Any, Final

from manifests.media import Picture
from model.framing import Framing
from model.skeleton import Points
from stages.skeleton import CharacterSkeleton, CharacterSkeletonConfig
from stages.stage import Reject

_KEPT: Final = 64  # pictures of which a worker remembers what it saw


class ReferenceFigures:
    """Looks for figures by one pose adapter; many pairs share a character, so what was found is remembered."""

    def __init__(self, adapter: str, people: int, **fields: Any) -> None:
        given: dict[str, Any] = {"adapter": adapter, "max_people": people, "no_person": "empty", **fields}
        self._stage = CharacterSkeleton(CharacterSkeletonConfig(**given))
        self._seen: OrderedDict[Picture, Points | None] = OrderedDict()

    def __call__(self, picture: Picture, framing: Framing) -> Points | None:
        """Return `[P, 133, 3]`, the main figure first, px of the frame that the picture is put into; None: nobody."""
        if picture not in self._seen:
            self._seen[picture] = self._found(picture)
            if len(self._seen) > _KEPT:
                self._seen.popitem(last=False)
        found = self._seen[picture]
        return None if found is None else framing.points(found, *picture.rgb().shape[:2])

    def _found(self, picture: Picture) -> Points | None:
        (row,) = self._stage([{"character": picture}])
        if isinstance(row, Reject) or not row["people"]:
            return None
        found: Points = row["skeleton"][0]
        return found
