"""What carries out many orders at a time: each engine fills the port :class:`nightmill.model.ports.Engine`."""
