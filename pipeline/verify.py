"""Are the artifacts that the ledger speaks of still what was written?"""

from collections.abc import Callable

from manifests import ledger
from manifests.ledger import Committer, Outcome
from manifests.store import Artifact, ArtifactDamaged, Store
from manifests.tables import Tables
from pipeline.inspecting import NAMED, newest

# few commits: a compaction between them would, in time, clear away the version of the ledger that is being read
LOST_IN_ONE_COMMIT = 10_000


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
    if committer is not None:
        committer.flush()
    return damaged
