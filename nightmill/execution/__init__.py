"""One job on one machine, from its order to its journal."""
