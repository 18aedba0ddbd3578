"""Are the artifacts that the ledger speaks of still what was written?"""

from manifests import ledger
from manifests.ledger import Committer, Outcome
from manifests.store import Artifact, ArtifactDamaged, Store
from manifests.tables import Tables


def find_damaged(tables: Tables, committer: Committer | None = None) -> list[tuple[str, str]]:
    """Read every artifact of every done item; return (address, what is wrong) of the missing and the changed.

    With a committer (so under the lease) each is written down as lost, so that the next run makes it again.
    """
    store = Store(tables.root)
    damaged = []
    columns = ["state", "artifacts", "track", "item", "stage"]
    for row in ledger.latest(tables, None, columns):
        if row["state"] != ledger.DONE:
            continue
        for artifact in row["artifacts"] or []:
            try:
                store.verify(Artifact(**artifact))
            except ArtifactDamaged as error:
                damaged.append((artifact["address"], str(error)))
                if committer is not None:
                    named = {name: row[name] for name in ("key", "track", "item", "stage")}
                    lost = Outcome(**named, state=ledger.LOST, reason=artifact["column"], detail=str(error))
                    committer.add(lost)
    if committer is not None:
        committer.flush()
    return damaged
