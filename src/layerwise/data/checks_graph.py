"""What a look at a graph's labelled nodes tells."""

import torch

from layerwise.data.checks import Finding
from layerwise.data.checks_scan import Pool


def graph_findings(pool: Pool) -> list[Finding]:
    """Nodes without edges or without features, edges that name no node; nothing where examples are no nodes."""
    batch = pool.examples(pool.parts[0]).collate(torch.tensor([0]))
    if not {"edge_index", "nodes", "features"} <= set(batch):
        return []
    features, edges = batch["features"], batch["edge_index"]
    strange = int(((edges < 0) | (edges >= len(features))).any(0).sum())
    if strange:
        rule = f"nodes are 0 to {len(features) - 1}"
        return [Finding("error", "edge_range", f"{strange:,} of {edges.shape[1]:,} edges name no node: {rule}.")]
    nodes = torch.from_numpy(pool.sample_ids)
    degree = torch.bincount(edges.flatten(), minlength=len(features))
    found: list[Finding] = []
    for code, bad, what in (
        ("isolated_nodes", degree[nodes] == 0, "have no edge: their own features are all that is known of them"),
        ("empty_nodes", (features[nodes] == 0).all(1), "have no features: their neighbours are all that is known"),
    ):
        at = torch.nonzero(bad).flatten().tolist()
        if at:
            named = tuple(pool.example(i) for i in at)
            found.append(Finding("note", code, f"{pool.count(at)} nodes {what}.", named))
    return found
