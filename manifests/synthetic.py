"""What stands in every video that a model made: that it is synthetic, and what it was made of."""

from collections.abc import Mapping
from typing import Any, Final

from manifests.keys import canonical

TITLE: Final = "Synthetic video: made by a model, not filmed"
SOURCE_TYPE: Final = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"  # IPTC's word for it


def comment_of(made: Mapping[str, Any]) -> str:
    """Return what is written into a file's comment: JSON that says it is synthetic, and how it was made."""
    return canonical({"synthetic": True, "digital_source_type": SOURCE_TYPE, **made})
