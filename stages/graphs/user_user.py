"""Graph `user_user`: users joined by their common items."""

from typing import Any

from scipy.sparse import csr_array

from mmprep.stages.graphs.cooccurrence import build_cooccurrence_graph
from mmprep.stages.graphs.request import GraphRequest
from mmprep.stages.graphs.train_interactions import train_of


def build(request: GraphRequest) -> dict[str, Any]:
    """Join users by their common items."""
    return build_cooccurrence_graph(csr_array(train_of(request.layout).T), request.params.user_user, request)
