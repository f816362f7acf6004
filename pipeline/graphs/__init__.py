"""Item and user graphs as edge lists: kNN, co-occurrence, interaction and intra-item graphs."""
