"""How the files of an input are chosen for a unit: by what they are of, then by a lookup.

Those that come with nightmill are plug-ins as any other: nothing but their entry points knows them.
"""
