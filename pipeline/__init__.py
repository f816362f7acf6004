"""Ground floor: what flows through the pipeline and where it is kept."""
