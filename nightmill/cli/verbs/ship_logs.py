"""``nightmill ship-logs``: send the lines of logs to the sinks of a site."""

from __future__ import annotations

from typing import Annotated, Final

import typer

from nightmill.cli.render.output import echo, say
from nightmill.cli.shape import SiteFolder
from nightmill.errors import ServiceError

EXAMPLES: Final = ("nightmill ship-logs --once", "nightmill ship-logs")


def ship_logs(
    once: Annotated[bool, typer.Option("--once", help="Send what waits by now, and end.")] = False,
    site: SiteFolder = None,
    as_json: Annotated[bool, typer.Option("--json", help="With --once: print what was sent as JSON.")] = False,
) -> None:
    """Send the lines of logs that wait in the spool to each sink that the site names, until interrupted.

    The server does it as long as it runs. Jobs wait for no sink. With --once the exit code is 3 where one is away.
    """
    import signal
    import threading

    from nightmill.cli.documents import told
    from nightmill.cli.documents.logs import ShippedLines
    from nightmill.cli.render.output import print_json
    from nightmill.config.site import load_site
    from nightmill.errors import RequestRefused
    from nightmill.operations.log_shipping.shipping import ship_for_ever, ship_once

    if as_json and not once:
        raise RequestRefused("--json tells what was sent, in the end", remedy="add --once")
    config = load_site(site, need_types=False)
    if not once:
        stopping = threading.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: stopping.set())
        ship_for_ever(config, stopping)
        return
    done = ship_once(config)
    if as_json:
        print_json([told(ShippedLines, each) for each in done])
    else:
        for each in done:
            echo(f"{each.sink}: {each.lines} lines sent")
            if each.refused:
                say(f"{each.sink}: {each.refused} lines were refused, and set aside")
            if each.trouble:
                say(f"{each.sink} is away: {each.trouble}; what waits is sent later")
    if any(each.trouble for each in done):
        raise typer.Exit(ServiceError.exit_code)
