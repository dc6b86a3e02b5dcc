"""Files that come from another site: fetched once, verified, put into a store of this site and registered there.

Each site pulls, and writes into its own stores alone. What a campaign of this site needs is *shipped*
(:mod:`~nightmill.operations.transport.shipping`); what a campaign of another site made comes *home*
(:mod:`~nightmill.operations.transport.home`). Both bring files as
:func:`~nightmill.operations.transport.bring.bring` does.
"""
