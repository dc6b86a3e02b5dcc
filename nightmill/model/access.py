"""Who besides its owner may read what a site makes."""

from __future__ import annotations

from enum import StrEnum


class Access(StrEnum):
    """Who may enter the folders of a site, and read its files."""

    PRIVATE = "private"
    """Their owner alone."""
    GROUP = "group"
    """The group of the site's folder: its members work in it together."""
    ALL = "all"
    """Everybody may read, and the owner alone may write."""

    @property
    def umask(self) -> int:
        """What no file or folder of the site may allow."""
        return {Access.PRIVATE: 0o077, Access.GROUP: 0o007, Access.ALL: 0o022}[self]

    @property
    def folder_mode(self) -> int:
        """The mode of a folder; in one of a group, what is made belongs to the group."""
        return 0o777 & ~self.umask | (0o2000 if self is Access.GROUP else 0)

    @property
    def file_mode(self) -> int:
        """The mode of a file that the site writes to."""
        return 0o666 & ~self.umask

    @property
    def stored_mode(self) -> int:
        """The mode of a file in a store: nobody writes to it any more."""
        return 0o444 & ~self.umask
