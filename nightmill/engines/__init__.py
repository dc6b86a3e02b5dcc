"""Where orders are carried out: one module an engine, behind one port."""
