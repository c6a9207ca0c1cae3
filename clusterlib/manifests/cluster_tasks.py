"""Label Studio tasks by which people name clusters: one task a cluster, with a contact sheet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from clusterlib.manifests.label_studio import array_bytes
from clusterlib.manifests.record import Origin

PURITIES = ("pure", "mixed", "split", "junk")


def naming_task_bytes(
    clusters: Sequence[Mapping[str, Any]],
    origin: Origin,
    *,
    sheets: Mapping[int, str],
    proposals: Mapping[int, str],
) -> bytes | None:
    """Naming tasks, the largest cluster first.

    Args:
        clusters: Rows of CLUSTERS.
        origin: The fit.
        sheets: Address of the contact sheet of each cluster.
        proposals: Names to take or leave, by cluster.
    """
    ordered = sorted(clusters, key=lambda row: (-row["size"], row["cluster_id"]))
    tasks = [
        {
            "data": {
                "contact_sheet": sheets[row["cluster_id"]],
                "cluster_id": str(row["cluster_id"]),
                "size": row["size"],
                "silhouette": round(row["silhouette"], 3),
                **({"proposal": proposals.get(row["cluster_id"], "none")} if proposals else {}),
                "run_id": origin.run_id,
                "fit_id": origin.fit_id,
            }
        }
        for row in ordered
    ]
    return array_bytes(tasks)


def naming_interface_xml(*, rows: str, has_proposals: bool) -> bytes:
    """The interface of naming tasks: the sheet, a name, and how pure the cluster looks.

    `rows` says what the rows of a sheet are. Proposals are only shown, never filled in.
    """
    proposed = '  <Header size="5" value="Proposed: $proposal"/>\n' if has_proposals else ""
    choices = "\n".join(f'    <Choice value="{purity}"/>' for purity in PURITIES)
    return (
        "<View>\n"
        '  <Header value="Cluster $cluster_id: $size images"/>\n'
        f'  <Header size="5" value="Rows: {rows}"/>\n'
        f"{proposed}"
        '  <Image name="sheet" value="$contact_sheet" zoom="true"/>\n'
        '  <TextArea name="name" toName="sheet" maxSubmissions="1" editable="true"\n'
        '            placeholder="short name; none for junk"/>\n'
        '  <Choices name="purity" toName="sheet" choice="single-radio" required="true">\n'
        f"{choices}\n"
        "  </Choices>\n"
        "</View>\n"
    ).encode()
