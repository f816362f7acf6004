"""Ground floor: parameters, tables, feature store, row cache and graphs as data."""
