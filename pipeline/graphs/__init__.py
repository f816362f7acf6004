"""Item and user graphs as edge lists: kNN, consistent, co-occurrence, interaction and intra-item graphs."""
