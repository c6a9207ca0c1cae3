"""The closing words of a pipeline run."""

from __future__ import annotations

from clusterlib import storage
from clusterlib.stages.session import Session
from clusterlib.tables.parquet import read_parquet


def print_summary(session: Session) -> None:
    """What was found and where it lies, for a person."""
    stages = session.record["stages"]
    embed, fit, assign = (
        stages[name] for name in ("embed_images", "fit_clusters", "assign_clusters")
    )
    place = session.run.fit(fit["fit_id"])
    clusters = read_parquet(place.clusters, ["size"])
    sizes = sorted(clusters["size"].to_pylist(), reverse=True)
    say = session.screen.say
    say("")
    say(
        f"images     {embed['rows']:,}: {embed['embedded']:,} clustered, "
        f"{embed['quarantined']:,} rejected"
    )
    for code, count in embed["quarantined_by_code"].items():
        say(f"             {code}: {count:,}")
    say(f"clusters   {fit['k']}: {fit['reason']}")
    shown = ", ".join(f"{size:,}" for size in sizes[:20])
    say(f"sizes      {shown}{' ...' if len(sizes) > 20 else ''}")
    if "agreement" in assign:
        score = assign["agreement"]
        say(
            f"agreement  NMI {score['nmi']:.3f}, ARI {score['ari']:.3f}, purity "
            f"{score['purity']:.3f} with the true labels of {score['rows']:,} images"
        )
    say(f"manifests  {place.manifests}")
    say(f"report     {storage.join(place.report, 'index.html')}")
