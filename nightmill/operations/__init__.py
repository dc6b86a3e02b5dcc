"""What an operator or a flow asks for, one act a module: joins planning, engines, stagers and provenance."""
