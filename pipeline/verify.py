"""Are the artifacts that the ledger speaks of still what was written?"""

import hashlib
from collections.abc import Callable

from manifests import ledger
from manifests.files import files_of
from manifests.ledger import Committer, Outcome
from manifests.shards.index import INDEX, folder_of
from manifests.store import Artifact, ArtifactDamaged, Store
from manifests.tables import Tables
from pipeline.inspecting import NAMED, newest

# few commits: a compaction between them would, in time, clear away the version of the ledger that is being read
LOST_IN_ONE_COMMIT = 10_000
SHARDS, INDEX_STAGE = "shards", "index"  # track and stage of the outcome of a cut's index


def find_damaged(
    tables: Tables, committer: Committer | None = None, check: Callable[[], None] | None = None
) -> list[tuple[str, str]]:
    """Read every artifact of every done item; return (address, what is wrong) of the missing and the changed.

    With a committer (so under the lease) each is written down as lost, so that the next run makes it again. `check` is
    called before each item: it raises when the lease is lost.
    """
    store = Store(tables.root)
    damaged = []
    found = newest(tables, (ledger.DONE,), [*NAMED, "artifacts"], "cardinality(artifacts) > 0")
    for row in (each for some in found for each in some.to_pylist()):
        if check is not None:
            check()
        for artifact in row["artifacts"]:
            try:
                store.verify(Artifact(**artifact))
            except ArtifactDamaged as error:
                damaged.append((artifact["address"], str(error)))
                if committer is not None:
                    named = {name: row[name] for name in NAMED}
                    committer.add(Outcome(**named, state=ledger.LOST, reason=artifact["column"], detail=str(error)))
                    if len(damaged) % LOST_IN_ONE_COMMIT == 0:
                        committer.flush()
    damaged += changed_indexes(tables)
    if committer is not None:
        committer.flush()
    return damaged


def changed_indexes(tables: Tables) -> list[tuple[str, str]]:
    """Return (address, what is wrong) of each cut's `index.json` that is none of those that were published.

    Each stays under its own digest too, and is an artifact there; this is the copy that counts.
    """
    files = files_of(tables.root)
    done = newest(tables, (ledger.DONE,), ["item", "artifacts"], f"stage = '{INDEX_STAGE}' AND track = '{SHARDS}'")
    known: dict[str, set[str]] = {}
    for row in (each for some in done for each in some.to_pylist()):
        known.setdefault(row["item"], set()).update(artifact["sha256"] for artifact in row["artifacts"])
    damaged = []
    for cut, digests in sorted(known.items()):
        place = f"{folder_of(cut)}/{INDEX}"
        found = files.read(place) if files.exists(place) else None
        if found is None:
            damaged.append((place, f"artifact {place} is missing"))
        elif hashlib.sha256(found).hexdigest() not in digests:
            damaged.append((place, f"artifact {place} has changed: it is none of the indexes that were written"))
    return damaged
