"""Ground floor: parameters, tables, the feature store and the row cache, and graphs as data."""
